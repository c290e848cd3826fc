"""A run looks at the health of its features, changes nothing by it, and says when an encoder collapses."""

import json
import os
import signal

import pytest
import torch
from stand_in import Collapsing, Points, StandIn, Watched, optimization

from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.collapse import CollapseWatch, advice_for
from renderpretrain.training import RunOptions, feature_health, fit, load_checkpoint, read_rows
from renderpretrain.training.health import encoder_sums
from renderpretrain.training.monitor import NORMS_EVERY, SCENES, Monitor, health_due, norms_due
from renderpretrain.training.order import held_out_batch
from renderpretrain.training.unmasked import STATISTICS_SCENES


def run(out, recipe, *, holdout=2, resume=False, hooks=None, **settings):
    options = RunOptions(holdout=holdout, device="cpu", resume=resume, **(hooks or {}))
    told = optimization(**{"monitor_every": 3, **settings})
    return fit(recipe, Points(), told, out=out, options=options)


def rows_of(result, *, health=True):
    """What was logged, without the time it took, and perhaps without what the monitor adds."""
    left_out = ("samples_per_second",) if health else ("samples_per_second", "health/", "gradient/")
    rows = [
        {key: value for key, value in row.items() if not key.startswith(left_out)}
        for row in read_rows(result.folder.metrics)
    ]
    return [row for row in rows if len(row) > 1]


TERM = "a render-distill recipe with collapse.variance=1"
COLLAPSE = {"steps": 32, "lr": 0.05, "optimizer": "sgd", "schedule": "constant", "monitor_every": 8}
COLLAPSE |= {"eval_every": 100, "checkpoint_every": 100}


def test_looks_are_in_the_rows_of_their_steps(tmp_path):
    rows = rows_of(run(tmp_path, Watched()))
    looked = [row["step"] for row in rows if "health/encoder/0/rank" in row]
    assert looked == [0, 3, 4, 6, 8]  # every third, with every evaluation, and at the end
    assert all("eval/depth_abs_rel" in row for row in rows if row["step"] in (0, 4, 8) and "loss" not in row)
    names = {key.rpartition("/")[2] for key in rows[0] if key.startswith("health/encoder/0/")}
    assert names == {
        *("channels", "rank", "variance_1", "variance_3", "variance_8", "dead"),
        *("std", "std_low", "std_high", "unit_std", "unit_std_low", "unit_std_high"),
    }
    recipe = Watched()
    batches = [held_out_batch(Points(), index) for index in (5, 6)]
    features = torch.cat([recipe.levels(batch)[0].rows() for batch in batches])
    assert rows[0]["health/encoder/0/rank"] == pytest.approx(
        feature_health(features).rank, rel=1e-6
    )  # float32
    assert [row["step"] for row in rows if "gradient/depth/encoder" in row] == [3]


def test_without_held_out_scenes_training_scenes_are_looked_at(tmp_path):
    rows = rows_of(run(tmp_path / "run", Watched(), holdout=0))
    assert [row["step"] for row in rows if "health/encoder/0/rank" in row] == [0, 3, 6, 8]
    resumed = run(tmp_path / "run", Watched(), holdout=0, resume=True)
    assert rows_of(resumed) == rows


@pytest.mark.untyped  # as above
def test_a_run_with_the_monitor_is_the_one_without_to_the_bit(tmp_path):
    plain = run(tmp_path / "off", Watched(), monitor_every=0)
    watched = run(tmp_path / "on", Watched(), monitor_every=1)
    assert rows_of(watched, health=False) == rows_of(plain)
    ours, theirs = (load_checkpoint(r.folder.checkpoints / "step_000008.pt") for r in (watched, plain))
    assert ours["model"].keys() == theirs["model"].keys()
    assert all(torch.equal(ours["model"][key], theirs["model"][key]) for key in theirs["model"])
    assert not (plain.folder.pictures / "health.png").exists()


def test_a_look_leaves_mode_buffers_gradients_and_generators_as_they_are():
    recipe = Watched().train()
    sum(recipe(held_out_batch(Points(), 0, 1)).values()).backward()
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in recipe.state_dict().items()}
    gradients = [p.grad.clone() for p in recipe.parameters()]
    state = torch.get_rng_state()
    row = Monitor(recipe, Points(), range(7)).look(torch.device("cpu"))
    assert row["health/encoder/0/channels"] == 8
    assert torch.equal(torch.get_rng_state(), state)
    assert recipe.training and recipe.norm.training and recipe.drop.training
    assert all(torch.equal(value, before[name]) for name, value in recipe.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(recipe.parameters(), gradients, strict=True))


@pytest.mark.untyped  # runs of many steps with the shapes of the others
def test_a_resumed_run_looks_as_the_uninterrupted_one(tmp_path, capsys):
    whole = run(tmp_path / "whole", Collapsing(), **COLLAPSE)
    said = capsys.readouterr().out

    def interrupt(step, row):
        if step == 27:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = run(tmp_path / "parts", Collapsing(), hooks={"on_step": interrupt}, **COLLAPSE)
    assert stopped.stopped_by == "SIGTERM" and 24 < stopped.step < 32
    resumed = run(tmp_path / "parts", Collapsing(), resume=True, **COLLAPSE)
    assert rows_of(resumed) == rows_of(whole)
    assert said.count("is collapsing") == capsys.readouterr().out.count("is collapsing") == 1


@pytest.mark.untyped  # as above
def test_an_encoder_that_collapses_is_named_once_and_a_healthy_one_never(tmp_path, capsys):
    run(tmp_path / "healthy", Watched(), **COLLAPSE | {"optimizer": "adamw", "lr": 0.01})
    assert "collapsing" not in capsys.readouterr().out
    result = run(tmp_path / "ill", Collapsing(), **COLLAPSE)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is collapsing" in line]
    assert "] encoder is collapsing: encoder/0 " in line
    assert line.endswith(f"; try {TERM}, a lower learning rate")
    last = rows_of(result)[-1]
    assert last["health/encoder/0/rank"] < 2 and last["health/encoder/0/unit_std"] < 0.1


HEALTHY = {"channels": 32, "rank": 20.0, "dead": 0.0, "unit_std": 0.9}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 3.0}, "uses 3.0 of 32 directions (at most it used 20.0)"),
        ({"rank": 4.9}, "uses 4.9 of 32 directions (at most it used 20.0)"),
        ({"rank": 0.0}, "gives nothing but zeros"),
        ({"dead": 0.6}, "has 60 % dead channels"),
        ({"unit_std": 0.01}, "says nearly the same of all places (unit_std 0.01)"),
        ({"rank": 5.5, "dead": 0.5, "unit_std": 0.11}, None),
    ],
)
def test_what_counts_as_a_collapse(change, words):
    def row(step, numbers):
        return {"step": step} | {f"health/point_encoder/1/{key}": value for key, value in numbers.items()}

    watch = CollapseWatch(("this",))
    assert watch.update(row(0, HEALTHY)) == []
    ill = row(5, HEALTHY | change)
    said = watch.update(ill)
    expected = f"point_encoder is collapsing: point_encoder/1 {words}; try this"
    assert said == ([] if words is None else [expected])
    assert watch.update(ill | {"step": 6}) == []
    again = CollapseWatch(())
    again.replay([row(0, HEALTHY), ill])
    assert again.update(ill | {"step": 6}) == []
    assert CollapseWatch(()).update(row(0, HEALTHY | change)) == []  # fresh weights have learned nothing


@pytest.mark.parametrize(
    ("norms", "words"),
    [
        ({"depth": 250.0, "rgb": 2.0, "sdf": 0.1}, "depth alone, whose gradient is 125 times that of"),
        ({"depth": 150.0, "rgb": 2.0, "sdf": 0.1}, None),
        ({"depth": 150.0, "rgb": 0.0}, None),  # a term that does not reach the encoder
        ({"depth": 150.0}, None),
    ],
)
def test_a_term_that_has_an_encoder_to_itself_is_named_once(norms, words):
    row = {"step": 3} | {f"gradient/{term}/image_neck": norm for term, norm in norms.items()}
    row |= {f"gradient/{term}/point_encoder": 1.0 for term in norms}
    watch = CollapseWatch(())
    said = watch.update(row)
    assert watch.update(row) == []
    assert len(said) == (words is not None) and all(
        s.startswith(f"image_neck learns from {words}") for s in said
    )


def test_advice_names_settings_that_the_recipe_has():
    entry = RECIPES["unipad-lidar"]
    tiny = entry.presets["tiny"]
    assert advice_for(entry.build(tiny)) == (TERM, "optimization.lr below 0.002")
    dull = tiny.model_copy(update={"losses": tiny.losses.model_copy(update={"rgb": 0.0})})
    assert "losses.rgb above 0" in advice_for(entry.build(dull))
    ours = RECIPES["render-distill-lidar"]
    assert "collapse.variance above 0" in advice_for(ours.build(ours.presets["tiny"]))
    assert advice_for(StandIn()) == (TERM, "a lower learning rate")


def test_who_says_nothing_of_features_is_told_so_once(tmp_path, capsys):
    run(tmp_path / "run", StandIn())
    line = "[0/8] health: nobody looks at the features of StandIn, which has no levels(batch)"
    assert capsys.readouterr().out.splitlines().count(line) == 1
    run(tmp_path / "off", StandIn(), monitor_every=0)
    assert "health" not in capsys.readouterr().out


def test_features_of_points_are_looked_at_where_there_are_no_levels():
    class Places(StandIn):
        grid = None

        def point_features(self, batch, positions):
            return self.encoder(torch.cat([positions, torch.zeros_like(positions[..., :2])], -1))

    sums = encoder_sums(Places(), [held_out_batch(Points(), 1)])
    assert {name: found.rows for name, found in sums.items()} == {"point_features": 40}


def test_features_that_are_not_finite_end_no_run():
    class Broken(Watched):
        def levels(self, batch, hidden=None):
            (level,) = super().levels(batch)
            level.maps[:] = float("nan")
            return [level]

    assert Monitor(Broken(), Points(), range(7)).look(torch.device("cpu")) == {}


@pytest.mark.untyped  # as above
def test_the_monitor_costs_less_than_a_hundredth_of_the_steps(tmp_path):
    """Counted in passes: a step is one through the encoder and one back, which takes twice as long."""
    passes = {}
    for every in (0, 4):
        recipe = Watched()
        calls = passes[every] = []

        def count(module, given, made, calls=calls):
            calls.append("on")
            if made.requires_grad:
                made.register_hook(lambda gradient: calls.append("back"))

        recipe.encoder.register_forward_hook(count)
        run(tmp_path / str(every), recipe, monitor_every=every, steps=4, holdout=0)
    more = {kind: passes[4].count(kind) - passes[0].count(kind) for kind in ("on", "back")}
    looks, terms = 2, 1  # at the start and at the end; of the two terms one moves the encoder
    assert more == {"on": looks * (SCENES + STATISTICS_SCENES // 2), "back": terms}  # of batches of two
    default = OptimizationConfig(steps=30_000)
    steps = range(1, default.steps + 1)
    looks = sum(health_due(step, default) for step in steps)
    norms = sum(norms_due(step, default) for step in steps)
    four_terms = looks * (SCENES + STATISTICS_SCENES) / 3 + norms * 4 * 2 / 3
    assert four_terms < 0.01 * default.steps


def test_gradients_are_measured_with_the_first_look_and_with_every_fifth_after():
    told = OptimizationConfig(steps=100, monitor_every=4)
    assert [s for s in range(1, 101) if norms_due(s, told)] == [4, 24, 44, 64, 84] and NORMS_EVERY == 5
    short = told.model_copy(update={"steps": 3})
    assert [s for s in range(1, 4) if norms_due(s, short)] == [3]
    asked = told.model_copy(update={"gradient_norms_every": 30, "monitor_every": 0})
    assert [s for s in range(1, 101) if norms_due(s, asked)] == [30, 60, 90]
    split = told.model_copy(update={"parallel": "fsdp"})
    assert not any(norms_due(s, split) for s in range(1, 101))


def test_the_curves_of_a_run_are_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    result = run(tmp_path / "run", Watched(), steps=4)
    from PIL import Image

    with Image.open(result.folder.pictures / "health.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert json.loads(result.folder.metrics.read_text().splitlines()[-1])["step"] == 4
