import json
import os
import shutil
import signal
from functools import partial

import pytest
import torch
from stand_in import Points, StandIn, optimization

from renderpretrain.runs import read_description
from renderpretrain.samplers import CurvedReturns
from renderpretrain.training import Process, RunOptions, count_step, fit, load_checkpoint, read_rows
from renderpretrain.training.fit import has_begun
from renderpretrain.training.order import scene_index


def rows_of(result):
    """What was logged, without the time it took."""
    rows = read_rows(result.folder.metrics)
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows]


def run(out, *, recipe=None, data=None, resume=False, hooks=None, **settings):
    options = RunOptions(holdout=2, device="cpu", resume=resume, **(hooks or {}))
    return fit(recipe or StandIn(), data or Points(), optimization(**settings), out=out, options=options)


@pytest.mark.both
def test_a_run_leaves_its_folder(tmp_path):
    drawn = []
    result = run(tmp_path / "run", hooks={"on_picture": lambda step, recipe: drawn.append(step)})
    rows = rows_of(result)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 9))
    assert set(steps[0]) == {"step", "loss", "loss/depth", "loss/noise", "lr", "grad_norm"}
    assert steps[3]["loss"] == steps[3]["loss/depth"] + steps[3]["loss/noise"]
    assert [row["step"] for row in rows if "eval/depth_abs_rel" in row] == [0, 4, 8]
    assert "eval/baseline_depth_abs_rel" in rows[0]
    assert drawn == [0, 4, 8]
    assert sorted(p.name for p in result.folder.checkpoints.iterdir()) == [
        "final.pt", "latest", "step_000004.pt", "step_000008.pt",
    ]  # fmt: skip
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["torch"] == torch.__version__
    description = read_description(tmp_path / "run", handed=True)
    assert description.recipe == "stand_in:StandIn" and description.data == "object:Points"
    assert (description.holdout, description.seed, description.scenes) == (2, 0, None)
    assert description.settings.optimization == optimization()
    kinds = ("depth_in_blocks", "depth_between_beams", "depth")
    scores = [f"{kind}_{score}" for kind in kinds for score in ("abs_rel", "rmse", "delta")]
    assert [change.metric for change in result.table] == scores


HOOKS = ("on_step", "on_evaluation", "on_checkpoint", "on_picture")


def test_hooks_are_told_what_was_written(tmp_path):
    calls = {name: [] for name in HOOKS}
    hooks = {name: partial(lambda name, *told: calls[name].append(told), name) for name in HOOKS}
    plain = run(tmp_path / "plain")
    result = run(tmp_path / "run", hooks=hooks)
    rows = read_rows(result.folder.metrics)
    assert calls["on_step"] == [(row["step"], row) for row in rows if "loss" in row]
    assert calls["on_evaluation"] == [(row["step"], row) for row in rows if "loss" not in row]
    assert [step for step, _ in calls["on_evaluation"]] == [0, 4, 8]
    checkpoints = result.folder.checkpoints
    assert calls["on_checkpoint"] == [(n, checkpoints / f"step_{n:06d}.pt") for n in (4, 8)]
    assert [(step, type(recipe)) for step, recipe in calls["on_picture"]] == [(n, StandIn) for n in (0, 4, 8)]
    assert rows_of(result) == rows_of(plain)


@pytest.mark.parametrize("name", HOOKS)
def test_what_a_hook_raises_ends_the_run_which_can_be_resumed(tmp_path, name):
    whole = run(tmp_path / "whole", checkpoint_every=2)

    def fail(step, told):
        if step == 4:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(tmp_path / "run", checkpoint_every=2, hooks={name: fail})
    assert not (tmp_path / "run" / "lock").exists()
    assert not (tmp_path / "run" / "checkpoints" / "final.pt").exists()
    assert rows_of(run(tmp_path / "run", checkpoint_every=2, resume=True)) == rows_of(whole)


def test_gradient_norms_are_logged_and_change_nothing(tmp_path):
    plain, measured = (
        rows_of(run(tmp_path / name, gradient_norms_every=every))
        for name, every in (("plain", 0), ("norms", 3))
    )
    norms = [{k: row.pop(k) for k in list(row) if k.startswith("gradient/")} for row in measured]
    assert measured == plain
    found = [row["step"] for row, pulls in zip(measured, norms, strict=True) if pulls]
    assert found == [3, 6]
    first = next(pulls for pulls in norms if pulls)
    assert set(first) == {"gradient/depth/encoder", "gradient/noise/encoder"}
    assert first["gradient/depth/encoder"] > 0 and first["gradient/noise/encoder"] == 0


def test_scenes_change_in_training_and_not_in_evaluation(tmp_path):
    seen = []

    def note(scene, seed):
        seen.append((scene.name, seed))
        return scene

    told = RunOptions(device="cpu", holdout=2, augment=note)
    fit(StandIn(), Points(), optimization(), out=tmp_path, options=told)
    names, seeds = zip(*seen, strict=True)
    assert set(names) <= {f"scene-{k}" for k in range(5)} and len(set(seeds)) == len(seeds) > 8


def test_training_learns(tmp_path):
    result = run(tmp_path, steps=150, lr=0.2, eval_every=150, log_every=150, schedule="cyclic", cyclic_peak=2)
    depth = next(change for change in result.table if change.metric == "depth_abs_rel")
    assert depth.after < 0.2 * depth.before  # from 5.5 m off to the shell's thickness


def test_a_run_works_on_every_device(tmp_path, device):
    options = RunOptions(holdout=2, device=device.type)
    result = fit(
        StandIn(), Points(), optimization(accumulate=2, precision="bf16"), out=tmp_path, options=options
    )
    rows = read_rows(result.folder.metrics)
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))
    assert all(row["samples_per_second"] > 0 for row in rows if "loss" in row)


def test_two_runs_are_the_same_to_the_bit(tmp_path):
    assert rows_of(run(tmp_path / "a")) == rows_of(run(tmp_path / "b"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_in_a_checkpoint_and_the_resumed_run_is_the_same_to_the_bit(tmp_path, number):
    whole = run(tmp_path / "whole", checkpoint_every=3)

    def interrupt(step, recipe):
        if step == 4:
            os.kill(os.getpid(), number)

    stopped = run(tmp_path / "parts", checkpoint_every=3, hooks={"on_picture": interrupt})
    assert (stopped.step, stopped.stopped_by) == (6, number.name)
    resumed = run(tmp_path / "parts", checkpoint_every=3, resume=True)
    assert (resumed.step, resumed.stopped_by) == (8, None)
    assert rows_of(resumed) == rows_of(whole)
    assert resumed.table == whole.table
    ours, theirs = (load_checkpoint(r.folder.checkpoints / "final.pt")["model"] for r in (resumed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_hangup_that_is_ignored_stays_so(tmp_path):
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    hangup = {"on_picture": lambda step, recipe: os.kill(os.getpid(), signal.SIGHUP)}
    try:
        result = run(tmp_path, hooks=hangup)
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert (result.step, result.stopped_by) == (8, None)


def test_what_was_logged_past_the_last_checkpoint_is_done_again(tmp_path):
    whole = run(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "crashed")
    (tmp_path / "crashed" / "checkpoints" / "step_000008.pt").unlink()
    assert rows_of(run(tmp_path / "crashed", resume=True)) == rows_of(whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = run(tmp_path)
    rows = first.folder.metrics.read_text()
    assert run(tmp_path, resume=True).table == first.table
    assert first.folder.metrics.read_text() == rows


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_with_another_global_batch_at_its_next_sample(tmp_path, capsys, workers):
    seen, recipe = [], StandIn()
    recipe.register_forward_pre_hook(lambda module, batches: seen.extend(batches[0].names))
    run(tmp_path, recipe=recipe, steps=3, batch_size=4, hooks={"workers": workers})
    run(tmp_path, recipe=recipe, steps=9, batch_size=2, resume=True, hooks={"workers": workers})
    order = [f"scene-{scene_index(position, 5, seed=0)}" for position in range(3 * 4 + 7 * 2)]
    assert seen == order[:24]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "global batch" in line]
    assert line == (
        "[3/9] global batch: 2 samples a step (batch_size 2 x accumulate 1 x 1 ranks), 4 until step 3; the "
        "order goes on at its next sample, and rates stay as they are; optimization.accumulate=2 keeps 4"
    )
    run(tmp_path, recipe=recipe, steps=10, batch_size=2, resume=True)
    assert seen == order and "global batch" not in capsys.readouterr().out


def test_modules_are_told_of_updates_not_of_batches_and_a_resumed_run_goes_on_counting(tmp_path):
    recipe = StandIn()
    recipe.curved = CurvedReturns(after=3)
    run(tmp_path, recipe=recipe, steps=4, accumulate=2)
    assert int(recipe.curved.steps) == 4
    again = StandIn()
    again.curved = CurvedReturns(after=3)
    run(tmp_path, recipe=again, steps=6, accumulate=1, resume=True)
    assert int(again.curved.steps) == 6
    count_step(again)  # as loops of one's own do
    assert int(again.curved.steps) == 7


@pytest.mark.both
def test_accumulation_and_a_large_batch_agree(tmp_path):
    def still():
        recipe = StandIn()
        recipe.norm, recipe.drop = torch.nn.Identity(), torch.nn.Identity()  # they look at the batch, or draw
        return recipe

    large = run(tmp_path / "large", recipe=still(), batch_size=4)
    small = run(tmp_path / "small", recipe=still(), batch_size=2, accumulate=2)
    ours, theirs = (load_checkpoint(r.folder.checkpoints / "final.pt")["model"] for r in (small, large))
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=1e-6)  # sums in another order


class Listening(StandIn):
    """Remembers in which precision it ran."""

    def forward(self, batch):
        self.mixed = torch.is_autocast_enabled(batch.device.type)
        return super().forward(batch)


def test_bf16_keeps_weights_in_fp32_and_is_for_accelerators(tmp_path, device, capsys):
    recipe = Listening()
    options = RunOptions(holdout=2, device=device.type)
    result = fit(recipe, Points(), optimization(precision="bf16"), out=tmp_path, options=options)
    model = load_checkpoint(result.folder.checkpoints / "final.pt")["model"]
    assert model["head.weight"].dtype == torch.float32
    assert recipe.mixed == (device.type != "cpu") == ("precision: fp32" not in capsys.readouterr().out)


def test_a_nan_in_a_loss_stops_with_step_term_and_sample(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"step \d: .*loss/noise is nan.*; samples: .*scene-3"
    ) as error:
        run(tmp_path, data=Points(broken={3}), checkpoint_every=1)
    step = int(str(error.value).split(":")[0].removeprefix("step "))
    saved = sorted((tmp_path / "checkpoints").glob("step_*.pt"))
    assert all(load_checkpoint(path)["step"] < step for path in saved)
    assert all(v.isfinite().all() for path in saved for v in load_checkpoint(path)["model"].values())


def test_a_nan_in_the_gradient_alone_stops_too(tmp_path):
    class Cusp(StandIn):
        def forward(self, batch):
            zero = 0 * self.head.bias.sum()
            return super().forward(batch) | {"cusp": zero.sqrt()}  # 0, with derivative 0 * inf

    with pytest.raises(
        FloatingPointError, match=r"step 1: the norm of the gradient is nan .*samples: scene-"
    ):
        run(tmp_path, recipe=Cusp())
    assert not list((tmp_path / "checkpoints").glob("*.pt"))


class Unseen(StandIn):
    """Ends a step with a number that is not finite where no loss looks."""

    def __init__(self, name, value):
        super().__init__()
        self.aside = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("unseen", torch.zeros(2))
        self.name, self.value = name, value

    def forward(self, batch):
        with torch.no_grad():
            getattr(self, self.name)[1] = self.value
        return super().forward(batch)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["aside", "unseen"])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, name, value):
    with pytest.raises(FloatingPointError, match=rf"step 1: .* weights that are not finite, {name} among"):
        run(tmp_path, recipe=Unseen(name, value), checkpoint_every=1)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.ones(()), r"expected forward to give \{term: scalar\}, got a tensor of shape \(\)"),
        ({}, "got a dict of nothing"),
        ({"depth": torch.ones(3)}, r"'depth': expected a scalar, got a tensor of shape \(3,\)"),
        ({"depth": 0.5}, "'depth': expected a scalar, got a float"),
    ],
)
def test_a_recipe_that_gives_no_terms_is_told_so(tmp_path, given, said):
    recipe = StandIn()
    recipe.forward = lambda batch: given
    with pytest.raises(ValueError, match=f"^recipe: .*{said}"):
        run(tmp_path, recipe=recipe, data=Points(3))


def test_a_recipe_that_cannot_be_scored_is_told_so(tmp_path):
    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.ones(()))

        def forward(self, batch):
            return {"bias": self.bias.square()}

    with pytest.raises(
        ValueError, match=r"recipe: .* but Bare has no encode, render, targets; .* hold out 0"
    ):
        run(tmp_path / "run", recipe=Bare())
    assert not (tmp_path / "run").exists()
    options = RunOptions(device="cpu")
    assert fit(Bare(), Points(), optimization(), out=tmp_path / "run", options=options).step == 8


def test_a_recipe_without_a_loss_is_told_so_before_anything_is_written(tmp_path):
    with pytest.raises(
        ValueError, match=r"recipe: expected forward\(batch\) -> .* but Linear has no forward"
    ):
        run(tmp_path / "run", recipe=type("Linear", (torch.nn.Module,), {})())
    assert not (tmp_path / "run").exists()


@pytest.mark.both
def test_one_call_starts_a_run_and_takes_it_up_again(tmp_path, capsys):
    whole = run(tmp_path / "whole")
    assert rows_of(run(tmp_path / "new", resume=True)) == rows_of(whole)
    said = f"resume: no checkpoint in {tmp_path / 'new'}, so the run begins"
    assert said in capsys.readouterr().out
    (tmp_path / "new" / "checkpoints" / "step_000008.pt").unlink()
    assert rows_of(run(tmp_path / "new", resume=True)) == rows_of(whole)
    assert "so the run begins" not in capsys.readouterr().out
    (tmp_path / "notes.txt").write_text("of somebody")
    with pytest.raises(ValueError, match="expected an empty or new folder"):
        run(tmp_path, resume=True)


def test_a_folder_that_not_all_machines_see_is_not_gone_on_in(tmp_path):
    result = run(tmp_path)

    class WithOneElsewhere(Process):
        def collect(self, values):
            return (*values, "none")

    process = WithOneElsewhere(0, 2, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"all machines share; .* step_000008.pt, none"):
        has_begun(result.folder, process)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"out: cannot write to .*Not a directory"):
        run(tmp_path / "file" / "run")


def test_holding_out_everything_is_an_error(tmp_path):
    with pytest.raises(
        ValueError, match="holdout: expected a number from 0 to 1, for there are 2 scenes; got 2"
    ):
        run(tmp_path, data=Points(2))


@pytest.mark.parametrize("name", ["gpu", "meta", "hpu", ""])
def test_an_unknown_device_is_an_error(tmp_path, name):
    with pytest.raises(ValueError, match="device: expected auto, cpu, cuda"):
        fit(StandIn(), Points(), optimization(), out=tmp_path / "run", options=RunOptions(device=name))
