"""Who may use a run's folder, what a killed run leaves there, and what a resumed one may change."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from stand_in import Points, StandIn, optimization

from renderpretrain.storage import write_text
from renderpretrain.training import (
    RunFolder,
    RunOptions,
    build_optimizer,
    fit,
    load_checkpoint,
    load_optimizer_state,
    newest_checkpoint,
    optimizer_state,
    read_rows,
)

HERE = Path(__file__).parent


def run(out, *, recipe=None, resume=False, options=None, **settings):
    options = options or RunOptions(device="cpu", resume=resume)
    return fit(recipe or StandIn(), Points(), optimization(**settings), out=out, options=options)


def contents(folder):
    """Every file's bytes and when it was written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@contextmanager
def running(out, workers=0, **told):
    """Another process that trains in the folder and has written a checkpoint."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    process = subprocess.Popen(
        [sys.executable, str(HERE / "one_run.py"), str(out), str(workers)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        **told,
    )
    with process:
        try:
            assert any(line.startswith("[5/") for line in process.stdout)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_has_one_process_and_is_free_when_that_is_killed(tmp_path, workers):
    out = tmp_path / "run"
    with running(out, workers) as other:
        for resume in (False, True):
            with pytest.raises(ValueError, match=rf"in use by process {other.pid} on .* since 20\d\d-"):
                run(out, resume=resume)
        other.send_signal(signal.SIGSTOP)  # one that is held up has not left
        with pytest.raises(ValueError, match="is in use by process"):
            RunFolder(out).check(resume=True)
        other.kill()
        other.wait()
        RunFolder(out).check(resume=True)
        run(out, resume=True, steps=load_checkpoint(next((out / "checkpoints").glob("*.pt")))["step"] + 9)
    steps = [row["step"] for row in read_rows(out / "metrics.jsonl")]
    assert sorted(set(steps)) == list(range(1, max(steps) + 1))
    assert not (out / "lock").exists()


@pytest.mark.slow
def test_a_signal_to_all_processes_ends_in_a_checkpoint_and_nobody_stays(tmp_path):
    with running(tmp_path / "run", 2, start_new_session=True, stderr=subprocess.PIPE) as process:
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        os.killpg(process.pid, signal.SIGTERM)  # as a cluster does
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in said
    assert newest_checkpoint(tmp_path / "run" / "checkpoints") is not None
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("place", ["weights", "memory"])
def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(tmp_path, place):
    run(tmp_path, checkpoint_every=1, steps=2)
    path = tmp_path / "checkpoints" / "step_000002.pt"
    state = load_checkpoint(path)
    moments = next(iter(state["optimizer"]["moments"].values()))
    tensor = next(iter(state["model"].values())) if place == "weights" else moments["exp_avg"]
    tensor.view(-1)[0] = math.nan
    torch.save(state, path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"step_000002.pt: .* is not finite.*; delete it to go on"):
        run(tmp_path, checkpoint_every=1, steps=3, resume=True)
    assert contents(tmp_path) == before
    path.unlink()
    run(tmp_path, checkpoint_every=1, steps=3, resume=True)


def test_threads_of_one_process_keep_each_other_out(tmp_path):
    refused = []

    def draw(step, recipe):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on") as error:
            run(tmp_path, resume=True)
        refused.append(error)

    run(tmp_path, options=RunOptions(device="cpu", on_picture=draw))
    assert len(refused) == 3


LEFT = [
    ["environment.json.partial"],
    ["environment.json", "config.yaml.partial"],
    ["environment.json", "config.yaml", "metrics.jsonl.partial", "lock"],
    ["environment.json", "config.yaml", "metrics.jsonl", "checkpoints/step_000001.pt.partial"],
    ["environment.json", "config.yaml", "pictures/step_000000.png.partial", "pictures/step_000000.png"],
]


@pytest.mark.parametrize("left", LEFT, ids=lambda left: left[-1])
def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, left):
    for name in left:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"step": 7}\n')
    run(tmp_path, resume=True)  # as the command says that serves start and restart
    assert not list(tmp_path.rglob("*.partial"))
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(1, 9))


@pytest.mark.parametrize(
    "mine", ["notes.txt", "x.partial", "config.yaml", "metrics.jsonl", "checkpoints/mine.pt"]
)
def test_files_that_are_not_a_runs_leftovers_are_kept(tmp_path, mine):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / mine).write_text("mine")
    with pytest.raises(ValueError, match=r"expected an empty or new folder.*; choose another folder"):
        run(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted({"checkpoints", Path(mine).name})


def other_head():
    recipe = StandIn()
    recipe.head = torch.nn.Linear(11, 2)
    return recipe


REFUSED = {
    "optimiser": (
        {"optimizer": "sgd"},
        r"optimization.optimizer: expected adamw, as .*, got sgd",
    ),
    "steps": ({"steps": 3}, "steps: expected at least 8, got 3"),
    "model": ({"recipe": other_head()}, "does not fit this recipe .*head.weight"),
    "seed": ({"options": RunOptions(seed=1, resume=True, device="cpu")}, "seed: expected 0 .*, got 1"),
    "seed too large": ({"options": RunOptions(seed=2**63, resume=True)}, "seed: expected a whole number"),
    "prefix": ({"lr_multipliers": {"neck": 2.0}}, "lr_multipliers: expected prefixes"),
    "norms": ({"sync_batch_norm": True}, "sync_batch_norm: expected a CUDA device"),
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_refused_resume_writes_nothing(tmp_path, change):
    run(tmp_path)
    before = contents(tmp_path)
    settings, message = REFUSED[change]
    with pytest.raises(ValueError, match=message):
        run(tmp_path, resume=True, **settings)
    assert contents(tmp_path) == before


def test_a_resume_whose_log_is_damaged_writes_nothing(tmp_path):
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": "one"}\n' + path.read_text())
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1: expected a JSON object of numbers"):
        run(tmp_path, resume=True)
    assert contents(tmp_path) == before


def weights(folder):
    return load_checkpoint(folder / "checkpoints" / "final.pt")["model"]


@pytest.mark.parametrize(
    "change", [{"weight_decay": 50.0}, {"lr_multipliers": {"head": 0.0}}, {"betas": (0.5, 0.6)}], ids=str
)
def test_what_a_resume_changes_is_applied_and_recorded(tmp_path, change):
    for name in ("as it was", "changed"):
        run(tmp_path / name, steps=4, schedule="constant")
    run(tmp_path / "as it was", steps=8, schedule="constant", resume=True)
    run(tmp_path / "changed", steps=8, schedule="constant", resume=True, **change)
    usual, changed = (weights(tmp_path / name) for name in ("as it was", "changed"))
    assert not torch.equal(usual["head.weight"], changed["head.weight"])
    if "weight_decay" in change:  # 4 steps that each take lr * decay = half of a weight
        assert changed["head.weight"].norm() < 0.2 * usual["head.weight"].norm()
    if "lr_multipliers" in change:
        middle = load_checkpoint(tmp_path / "changed" / "checkpoints" / "step_000004.pt")["model"]
        assert torch.equal(changed["head.weight"], middle["head.weight"])
        assert not torch.equal(changed["encoder.weight"], middle["encoder.weight"])
    assert all(str(key) in (tmp_path / "changed" / "config.yaml").read_text() for key in change)


def test_an_optimiser_remembers_by_name():
    recipe = StandIn()
    sum(p.sum() for p in recipe.parameters()).backward()
    first = build_optimizer(recipe, optimization(lr_multipliers={"head": 0.5}))
    first.step()
    other = build_optimizer(recipe, optimization(lr_multipliers={"encoder": 0.5}))  # groups in another order
    state = optimizer_state(recipe, first)
    load_optimizer_state(recipe, other, state)
    for parameter in recipe.parameters():
        assert torch.equal(other.state[parameter]["exp_avg"], first.state[parameter]["exp_avg"])
    state["moments"]["head.bias"]["exp_avg"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"exp_avg of head.bias: expected a parameter of its shape"):
        load_optimizer_state(recipe, other, state)


def test_work_is_saved_by_time_too(tmp_path):
    seen = {}

    def draw(step, recipe):
        seen[step] = sorted(p.name for p in (tmp_path / "checkpoints").glob("step*"))

    rare = {"checkpoint_every": 1000, "eval_every": 1000, "steps": 10}
    run(tmp_path, options=RunOptions(device="cpu", on_picture=draw), checkpoint_minutes=1e-9, **rare)
    assert seen[5] == ["step_000004.pt", "step_000005.pt"]  # every second step: all processes have to be told
    assert optimization().checkpoint_minutes <= 10


def test_lost_rows_are_noticed(tmp_path, capsys):
    run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    rows = [line for line in path.read_text().splitlines() if json.loads(line)["step"] not in (3, 4, 8)]
    path.write_text("\n".join(rows) + '\n{"step": 8, "lo')
    capsys.readouterr()
    run(tmp_path, resume=True)
    said = capsys.readouterr().out
    assert "the rows of steps 3 to 4 are lost" in said and "the rows of steps 8 to 8 are lost" in said


def test_rows_are_on_the_disk_before_their_checkpoint(tmp_path, monkeypatch):
    order, fsync = [], os.fsync

    def flush(descriptor):
        order.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    run(tmp_path)
    assert order[order.index("step_000004.pt.partial") - 1] == "metrics.jsonl"


def test_latest_leads_nowhere_else(tmp_path):
    run(tmp_path / "other")
    run(tmp_path / "run", steps=4)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "latest").write_text("../../other/checkpoints/step_000008.pt\n")
    (checkpoints / "step_000009.pt").symlink_to(tmp_path / "other" / "checkpoints" / "step_000008.pt")
    assert run(tmp_path / "run", steps=5, resume=True).step == 5
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("room", [10, 2000], ids=["the first file", "a checkpoint"])
def test_a_disk_without_room_is_said_with_the_file(tmp_path, room):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # a write fails in its middle, as on a full disk
    try:
        with pytest.raises(OSError, match=r"(environment\.json|step_000004\.pt)") as error:
            run(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(error.value)
    assert not list(tmp_path.rglob("*.partial"))


def test_text_that_cannot_be_written_names_its_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*config.yaml'"):
            write_text(tmp_path / "config.yaml", "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_pipe_in_the_locks_place_is_not_waited_for(tmp_path):
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "lock")
    with pytest.raises(OSError, match=f"out: cannot write to {tmp_path / 'run'} "):
        run(tmp_path / "run", steps=1)


def test_a_resumed_run_has_as_many_scenes(tmp_path):
    """Else the order is another, and scenes that were held out are trained on."""
    run(tmp_path, steps=4)
    before = contents(tmp_path)
    options = RunOptions(device="cpu", resume=True)
    with pytest.raises(ValueError, match="scenes: expected 7 as in the resumed run, got 6"):
        fit(StandIn(), Points(6), optimization(steps=8), out=tmp_path, options=options)
    assert contents(tmp_path) == before
