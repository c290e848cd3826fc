"""The proof's bookkeeping; what it calls is tested with the command line."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from renderpretrain.cli.app import app

LINE = {
    "fraction": 0.01,
    "labelled": 1,
    "scratch": {"mean": 0.4, "deviation": 0.02},
    "pretrained": {"mean": 0.3, "deviation": 0.01},
    "difference": {"mean": -0.1, "deviation": 0.04},
    "relative": 0.25,
    "deviations": 2.5,
    "handmade": {"mean": 0.32, "deviation": 0.005},
    "pretrained_handmade": None,
    "relative_to_handmade": 0.0625,
    "added_to_handmade": None,
}
RECORD = {
    "task": "depth",
    "mode": "linear",
    "metric": "abs_rel",
    "less_is_better": True,
    "labels": "scenes",
    "seeds": [0, 1],
    "step": 8,
    "scenes": ["a", "b"],
    "scored_scenes": ["c"],
    "table": [LINE],
}


@pytest.fixture
def proof(benchmark_module):
    return benchmark_module("proof")


@pytest.fixture
def asked(tmp_path):
    return Namespace(quick=True, out=tmp_path, only=None, jobs=2, threads=1, modes=("linear",))


def verbs(proof, monkeypatch, out):
    """Stands in for the command line: notes what was called, and leaves the files it would leave."""
    called = []

    def call(name, parts, threads):
        assert (name, threads) == ("unipad-camera", 1)
        called.append(parts[0])
        run = out / "unipad-camera"
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        if parts[0] == "pretrain":
            (run / "checkpoints" / "final.pt").touch()
        else:
            task = parts[parts.index("--task") + 1]
            old = json.loads((run / "probe.json").read_text()) if (run / "probe.json").is_file() else {}
            (run / "probe.json").write_text(json.dumps(old | {f"{task}/linear/test": RECORD}))

    monkeypatch.setattr(proof, "call", call)
    return called


def test_what_is_there_is_not_repeated(proof, asked, monkeypatch):
    called = verbs(proof, monkeypatch, asked.out)
    camera = next(e for e in proof.EXPERIMENTS if e.name == "unipad-camera")
    first = proof.carry_out(camera, asked)
    assert called == ["pretrain", "eval", "eval"]
    assert proof.carry_out(camera, asked) == first
    assert called == ["pretrain", "eval", "eval"]
    asked.quick = False  # other steps, other numbers
    with pytest.raises(SystemExit, match="unipad-camera: was pre-trained for 8 steps, not 200"):
        proof.carry_out(camera, asked)
    assert called == ["pretrain", "eval", "eval"]


@pytest.mark.parametrize("quick", [True, False])
def test_every_call_is_understood_by_the_command_line(quick, proof, asked, monkeypatch):
    """Verbs, flags and their values, of all experiments and probes."""
    asked.quick, asked.modes = quick, ("linear", "finetune", "decoder")
    verbs, called = typer.main.get_command(app).commands, []

    def call(name, parts, threads, folder=None):
        called.append(parts)
        if parts[0] in ("eval", "pretrain"):
            verbs[parts[0]].make_context(parts[0], list(parts[1:]))
        if parts[0] == "eval":
            raise LookupError(name)

    monkeypatch.setattr(proof, "call", call)
    for experiment in proof.EXPERIMENTS:
        for probe in experiment.probes:
            with pytest.raises(LookupError, match=experiment.name):
                proof.carry_out(replace(experiment, probes=(probe,)), asked)
            flags = dict(zip(called[-1][2::2], called[-1][3::2], strict=True))
            assert flags["--probe"] == probe.mode and flags["--task"] == probe.task
    assert {parts[0] for parts in called if not parts[0].endswith(".py")} == {"pretrain", "data", "eval"}


def test_a_teacher_comes_first_and_once(proof, asked, monkeypatch):
    """The example's network, then its maps of the streets that the run learns from, then the run."""
    taught = next(e for e in proof.EXPERIMENTS if e.taught)
    called = []

    def call(name, parts, threads, folder=None):
        called.append(parts)
        if parts[0].endswith("own_teacher.py"):
            (folder / "teacher.pt").touch()

    monkeypatch.setattr(proof, "call", call)
    pretrain = ["pretrain", taught.recipe, "--set", f"teacher.maps={asked.out / proof.MAPS}"]
    proof.train(taught, pretrain, asked)
    network, maps, run = called
    assert Path(network[0]).is_file() and run == pretrain
    assert maps[:3] == ["data", "maps", str(asked.out / proof.MAPS)]
    scenes = taught.flags[taught.flags.index("--scenes") + 1]
    assert maps[maps.index("--scenes") + 1] == scenes
    called.clear()
    proof.train(taught, pretrain, asked)  # the network is there, and the maps pass over what is
    assert called == [maps, run]


def test_threads_are_shared_among_what_was_asked_for(proof, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for flags, shares in (([], (12, 1)), (["--quick"], (3, 5)), (["--only", "uniscene"], (1, 16))):
        monkeypatch.setattr("sys.argv", ["proof.py", *flags])
        asked = proof.arguments()
        assert (asked.jobs, asked.threads) == shares


def test_a_verb_that_fails_ends_the_proof_behind_its_own_words(proof, capfd):
    with pytest.raises(SystemExit, match="x: failed: renderpretrain eval nowhere"):
        proof.call("x", ["eval", "nowhere"], 1)
    assert "x: error: " in capfd.readouterr().out


def test_a_crash_while_noting_leaves_the_old_numbers(proof, tmp_path, monkeypatch):
    path, probe = tmp_path / "probe.json", proof.Probe("depth")
    path.write_text(json.dumps({"depth/linear": RECORD}))
    before = path.read_text()

    def crash(*_):
        raise OSError("the power went")

    with monkeypatch.context() as power:
        power.setattr("os.replace", crash)
        with pytest.raises(OSError, match="the power went"):
            proof.remember(tmp_path, probe, ["eval"])
    assert path.read_text() == before and [p.name for p in tmp_path.iterdir()] == ["probe.json"]
    assert proof.remember(tmp_path, probe, ["eval"])["command"] == ["eval"]
    assert json.loads(path.read_text())["depth/linear"]["command"] == ["eval"]


def test_the_table_names_commands_hand_made_numbers_and_which_way_is_better(proof, asked, monkeypatch):
    verbs(proof, monkeypatch, asked.out)
    camera = next(e for e in proof.EXPERIMENTS if e.name == "unipad-camera")
    rows = proof.carry_out(camera, asked)
    proof.write(asked, rows, 12.3)
    said = (asked.out / "proof.md").read_text()
    assert (
        "| unipad-camera, 8 steps | depth linear, abs_rel (less is better) | 1 % (1 scenes) | 0.400 ± 0.020 "
        "| 0.320 ± 0.005 | 0.300 ± 0.010 | - | -0.100 ± 0.040 | +25.0 % | 2.5 | +6.2 % |\n"
    ) in said
    both = {"pretrained_handmade": {"mean": 0.24, "deviation": 0.0}, "added_to_handmade": 0.25}
    beside = proof.table([rows[0] | both], {"seconds": 1, "jobs": 1, "torch": "2"})
    assert "| 0.300 ± 0.010 | 0.240 ± 0.000 |" in beside and "| +6.2 %, +25.0 % added |" in beside
    assert "renderpretrain pretrain unipad-camera --steps 8" in said
    assert json.loads((asked.out / "proof.json").read_text())["rows"][0]["step"] == 8
    assert (asked.out / "proof.png").stat().st_size > 5000


def test_an_experiment_that_there_is_not_is_said(proof):
    with pytest.raises(SystemExit, match="expected some of unipad-lidar"):
        proof.chosen(Namespace(only=["other"], quick=False))
