import copy
from dataclasses import replace

import pytest
import torch
from probe_stand_in import CLASSES, StandIn, scene, seeing
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders.drop_path import drop_path
from renderpretrain.probes import (
    Budget,
    Plan,
    ProbeScenes,
    Trial,
    compare,
    run_probe,
    semseg,
)
from renderpretrain.probes.labels import choose_places, choose_scenes
from renderpretrain.probes.plan import with_labels

TASK = semseg(CLASSES)
SCENES = ProbeScenes([scene(i) for i in range(6)], [scene(i) for i in range(10, 13)])
BUDGET = Budget(steps=80)


def probe(**more):
    plan = Plan(TASK, **{"fractions": (0.2, 1.0), "seeds": (3, 4), "budget": BUDGET} | more)
    return run_probe(plan, SCENES, StandIn, seeing())


def scores(trials, arm, fraction):
    return [t.scores["miou"] for t in trials if (t.arm, t.fraction) == (arm, fraction)]


@pytest.mark.parametrize("labels", ["scenes", "places"])
def test_a_linear_probe_tells_who_can_see(labels):
    trials = probe(labels=labels)
    arms = ["handmade", "pretrained", "pretrained+handmade"]
    seeds = ["scratch"] * 2 + ["scratch+handmade"] * 2
    assert [t.arm for t in trials] == [arm for arm in arms for _ in range(4)] + seeds * 2
    for fraction in (0.2, 1.0):
        assert min(scores(trials, "pretrained", fraction)) > 0.9  # one threshold on one feature
        assert max(scores(trials, "scratch", fraction)) < 0.6  # noise: half of each class, an IoU of a third
        # The intensity, which tells the classes apart, is among the hand-made numbers.
        for arm in ("handmade", "scratch+handmade", "pretrained+handmade"):
            assert min(scores(trials, arm, fraction)) > 0.85
    assert {t.labelled for t in trials} == ({1, 6} if labels == "scenes" else {240, 1200})
    assert probe(labels=labels) == trials


def test_a_probe_changes_no_weights():
    weights = seeing()
    before = copy.deepcopy(weights)
    built = []

    def build(seed):
        built.append(StandIn(seed))
        return built[-1]

    run_probe(Plan(TASK, (1.0,), (0,), budget=BUDGET), SCENES, build, weights)
    assert_close(weights, before, rtol=0, atol=0)
    for recipe, fresh in zip(built, (before, StandIn(0).state_dict()), strict=True):
        trained = {k: v for k, v in recipe.state_dict().items() if "running" not in k and "tracked" not in k}
        assert_close(trained, {k: fresh[k] for k in trained}, rtol=0, atol=0)


def test_weights_that_fit_by_less_than_95_percent_are_refused():
    plan, weights, told = Plan(TASK, (1.0,), (0,)), seeing(), []
    with pytest.raises(
        ValueError, match=r"weights: encoder.0.weight: expected \(4, 2\), got \(2, 2\); 72.4%"
    ):
        run_probe(plan, SCENES, StandIn, weights | {"encoder.0.weight": torch.zeros(2, 2)})
    few = {key: value for key, value in weights.items() if not key.startswith("encoder")}
    with pytest.raises(
        ValueError, match=r"weights: encoder.0.weight: .* got nothing; 0.0% of the encoders' 29"
    ):
        run_probe(plan, SCENES, StandIn, few)
    # What is not taken home may fit or not.
    others = {"decoder.weight": torch.zeros(2, 4), "other": torch.zeros(1)}
    del weights["encoder.1.num_batches_tracked"]
    run_probe(plan, SCENES, StandIn, weights | others, tell=told.append)
    assert told == ["weights    96.6% of the encoders' 29 numbers are the run's"]


@pytest.mark.parametrize("labels", ["scenes", "places"])
def test_scenes_without_any_label_are_refused(labels):
    blank = [replace(s, point_labels=torch.zeros_like(s.point_labels)) for s in SCENES.train]
    with pytest.raises(ValueError, match="train: expected semseg labels in the scenes chosen"):
        run_probe(Plan(TASK, labels=labels), ProbeScenes(blank, SCENES.validation), StandIn, seeing())


def test_a_choice_without_labels_is_found_before_any_head_is_fitted():
    """One scene of six has none, and one seed of four chooses it at a sixth of the labels."""
    blank = replace(SCENES.train[0], point_labels=torch.zeros_like(SCENES.train[0].point_labels))
    scenes, told = ProbeScenes([blank, *SCENES.train[1:]], SCENES.validation), []
    plan = Plan(TASK, (1 / 6,), tuple(range(12)), budget=Budget(steps=1))
    without = [seed for seed in plan.seeds if choose_scenes([1] * 6, 1 / 6, seed)[0][0] is not None]
    assert 0 < len(without) < 12 and without[0] > 0  # earlier seeds have labels
    with pytest.raises(ValueError, match=f"found none at 16.6667 % with seed {without[0]}$"):
        run_probe(plan, scenes, StandIn, seeing(), lambda trial, example: told.append(trial))
    assert told == []


def test_scenes_without_labels_are_left_out_and_none_with_labels_is_one_line():
    bare = [replace(s, point_labels=None) for s in SCENES.train[:2]]
    scenes, line = with_labels(TASK, ProbeScenes([*bare, *SCENES.train[2:]], SCENES.validation))
    assert line == "labels     left out, for they have none of semseg: 2 of 6 train scenes"
    assert [s.name for s in scenes.train] == [f"scene-{k}" for k in range(2, 6)]
    assert with_labels(TASK, SCENES)[1] == ""
    needs = "train: semseg needs labels, which none of the 2 scenes from 'scene-0' on has$"
    with pytest.raises(ValueError, match=needs):
        with_labels(TASK, ProbeScenes(bare, SCENES.validation))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_scenes_without_a_label_to_score_are_refused(part):
    blank = [replace(s, point_labels=torch.zeros_like(s.point_labels)) for s in SCENES.validation]
    parts = {"validation": SCENES.validation, "test": [scene(20)]} | {part: blank}
    if part == "test":
        parts["test"] = [replace(s, name=f"{s.name}-test") for s in blank]
    with pytest.raises(ValueError, match=f"{part}: expected semseg labels in some of 3 scenes, found none"):
        run_probe(Plan(TASK), ProbeScenes(SCENES.train, **parts), StandIn, seeing())


@pytest.mark.both
def test_penalties_are_chosen_on_validation_scenes_and_test_scenes_are_scored():
    """Where the validation scenes' labels are the wrong way round, the larger penalty does less harm."""
    plan = Plan(TASK, (1.0,), (0,), budget=Budget(penalties=(1.0, 1e6)))
    tests = [scene(i) for i in range(30, 32)]
    told = [
        t
        for t in run_probe(plan, ProbeScenes(SCENES.train, SCENES.validation, tests), StandIn, seeing())
        if t.arm == "pretrained"
    ]
    assert told[0].penalty == 1.0 and told[0].scores["miou"] > 0.9
    wrong = [replace(s, point_labels=3 - s.point_labels) for s in SCENES.validation]
    parts = ProbeScenes(SCENES.train, wrong, tests)
    (trial,) = [t for t in run_probe(plan, parts, StandIn, seeing()) if t.arm == "pretrained"]
    assert trial.penalty == 1e6


class Restless(StandIn):
    """Drops features and whole branches in training, and its ``train`` keeps the dropout on."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.encoder.append(Stubborn())

    def point_features(self, batch, positions):
        features = super().point_features(batch, positions)
        return features + drop_path(features[0], 0.5 if self.training else 0.0)


class Stubborn(nn.Dropout):
    def train(self, mode=True):
        return super().train(True)


class Drawing(StandIn):
    """Draws at random whatever its mode."""

    def point_features(self, batch, positions):
        return nn.functional.dropout(super().point_features(batch, positions), 0.5)


def test_encoders_are_in_evaluation_by_force():
    plan = Plan(TASK, (1.0,), (0,), budget=Budget(steps=20))
    trials = run_probe(plan, SCENES, Restless, seeing())
    assert trials == run_probe(plan, SCENES, Restless, seeing())
    plain = run_probe(plan, SCENES, StandIn, seeing())
    found, wanted = (scores(t, "pretrained", 1.0)[0] for t in (trials, plain))
    assert found == pytest.approx(wanted, abs=1e-3)  # twice the features: the same but for rounding
    with pytest.raises(ValueError, match="expected the same features of scene 'scene-0' twice, got some"):
        run_probe(plan, SCENES, Drawing, seeing())


def test_a_class_without_a_name_is_refused():
    strange = replace(SCENES.train[0], point_labels=SCENES.train[0].point_labels + 2)
    with pytest.raises(ValueError, match="scene 'scene-0': expected point labels below 3, got 4"):
        run_probe(Plan(TASK), ProbeScenes([strange], SCENES.validation), StandIn, seeing())


@pytest.mark.parametrize("choose", [choose_scenes, choose_places])
def test_larger_fractions_hold_smaller_ones_and_seeds_differ(choose):
    counts = [30, 0, 50, 20]

    def chosen(fraction, seed=0):
        rows, _ = choose(counts, fraction, seed)
        pairs = zip(range(4), rows, counts, strict=True)
        return {(i, r) for i, row, n in pairs if row is not None for r in torch.arange(n)[row].tolist()}

    assert chosen(0.01) <= chosen(0.3) <= chosen(1.0)
    assert len(chosen(1.0)) == 100
    assert len({frozenset(chosen(0.3, seed)) for seed in range(6)}) > 1
    assert choose(counts, 0.001, 0)[1] == 1
    assert choose(counts, 0.5, 0)[1] == (2 if choose is choose_scenes else 50)


def test_a_comparison_by_hand():
    trials = [
        Trial("scratch", 0.1, 2, seed, {"miou": value}) for seed, value in ((1, 0.4), (0, 0.2), (2, 0.3))
    ]
    trials += [Trial("pretrained", 0.1, 2, seed, {"miou": 0.5}) for seed in (0, 1, 2)]
    (line,) = compare(trials, "miou")
    assert line.handmade is line.added_to_handmade is None
    told = {"handmade": 0.4, "scratch+handmade": 0.45, "pretrained+handmade": 0.6}
    more = [Trial(arm, 0.1, 2, seed, {"miou": v}) for arm, v in told.items() for seed in (0, 1, 2)]
    (beside,) = compare([*trials, *more], "miou")
    assert beside.handmade.mean == pytest.approx(0.4) and beside.scratch_handmade.mean == pytest.approx(0.45)
    assert beside.relative_to_handmade == pytest.approx(0.25)
    assert beside.added_to_handmade == pytest.approx(0.5)
    assert beside.difference == line.difference
    assert (line.fraction, line.labelled) == (0.1, 2)
    assert (line.scratch.mean, line.scratch.deviation) == pytest.approx((0.3, 0.1))
    assert (line.difference.mean, line.difference.deviation) == pytest.approx((0.2, 0.1))
    assert line.relative == pytest.approx(2 / 3) and line.deviations == pytest.approx(2)
    (less,) = compare([*trials, *more], "miou", less_is_better=True)  # as of an error, which has grown
    assert (less.difference, less.relative, less.deviations) == (
        line.difference, -line.relative, -line.deviations,
    )  # fmt: skip
    assert less.added_to_handmade == pytest.approx(-0.5)
    (line,) = compare([t for t in trials if t.seed == 0], "miou")
    assert line.deviations is None and line.difference.mean == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: Plan(TASK, fractions=(0.0,)), "fractions: expected shares in"),
        (lambda: Plan(TASK, seeds=()), "seeds: expected at least one"),
        (lambda: ProbeScenes([], SCENES.validation), "train: expected at least one scene"),
        (lambda: Budget(steps=0), "steps: expected at least 1"),
    ],
)
def test_faults_name_what_is_wrong(fault, message):
    with pytest.raises(ValueError, match=message):
        fault()
