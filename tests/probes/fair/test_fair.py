import copy
from dataclasses import fields, replace

import pytest
import torch
from probe_stand_in import CLASSES, StandIn, scene, seeing
from pydantic import BaseModel

from renderpretrain.data import GroundTruth, SyntheticStreet
from renderpretrain.data.augment import Augmentation
from renderpretrain.geometry import Cameras, VoxelGrid
from renderpretrain.probes import ProbeScenes, occupancy, semseg
from renderpretrain.probes.fair import (
    FairPlan,
    Job,
    Schedule,
    Setting,
    augmentation_for,
    fine_tune_fairly,
    labeled_scenes,
)
from renderpretrain.probes.fair.kept import digest
from renderpretrain.probes.fair.trial import Bench

TASK = semseg(CLASSES)
SCENES = ProbeScenes(
    [scene(i, 80) for i in range(5)],
    [scene(i, 80) for i in range(10, 12)],
    [scene(i, 80) for i in range(20, 24)],
)
QUICK = {
    "labeled": (2,), "seeds": (0, 1), "search_seeds": (9,), "lrs": (1e-2, 5e-2), "encoder_rates": (1.0,),
    "schedule": Schedule(every=5, patience=10, longest=30), "draws": 100,
}  # fmt: skip


class Trained(BaseModel):
    steps: int


class Built(BaseModel):
    channels: int
    optimization: Trained


def plan(**more):
    return FairPlan(TASK, **{**QUICK, **more})


def finals(outcome, arm):
    return [trial.scores["miou"] for trial in outcome.finals(arm)]


def test_a_decoder_tells_who_can_see():
    """Fresh encoders look at noise; the pre-trained ones at what tells the classes apart."""
    (outcome,) = fine_tune_fairly(plan(trains="decoder", seeds=(0, 1, 2)), SCENES, StandIn, seeing())
    assert max(finals(outcome, "scratch")) < 0.6  # noise: half of each class, an IoU of a third
    assert min(finals(outcome, "pretrained")) > 0.8
    assert outcome.gain.gain.low > 0.2 and outcome.gain.relative.low > 0.4
    assert outcome.gain.after == pytest.approx(sum(finals(outcome, "pretrained")) / 3)
    # The intensity, which tells the classes apart, is among the hand-made numbers.
    assert min(finals(outcome, "handmade")) > 0.8
    assert outcome.over_handmade.before == pytest.approx(sum(finals(outcome, "handmade")) / 3)
    assert outcome.over_handmade.gain.mean < 0.2 and outcome.settings["handmade"].encoder_rate == 0


@pytest.mark.both
def test_fresh_encoders_learn_to_see_where_all_is_trained():
    (outcome,) = fine_tune_fairly(plan(lrs=(5e-2,)), SCENES, StandIn, seeing())
    assert min(finals(outcome, "scratch") + finals(outcome, "pretrained")) > 0.8


def test_of_weights_that_are_as_fresh_ones_no_gain_is_claimed():
    short = plan(seeds=(0, 1, 2), lrs=(5e-2,))
    (outcome,) = fine_tune_fairly(short, SCENES, StandIn, StandIn(7).state_dict())
    assert outcome.gain.gain.low <= 0 <= outcome.gain.gain.high
    (outcome,) = fine_tune_fairly(
        replace(short, seeds=(0,)), SCENES, lambda seed: StandIn(0), StandIn(0).state_dict()
    )
    assert outcome.gain.gain.mean == outcome.gain.gain.high == 0
    (alone,) = fine_tune_fairly(
        replace(short, task=replace(TASK, handmade=None), seeds=(0,)), SCENES, StandIn, seeing()
    )
    assert alone.over_handmade is None and set(alone.settings) == {"scratch", "pretrained"}


def test_both_arms_get_the_same_scenes_steps_and_grid_and_the_rates_that_validation_chooses():
    seen, given = [], plan(encoder_rates=(1.0, 0.5))

    def read(recipe, one, limit):
        if recipe.training:
            seen.append((one.name, float(one.points[:, :3].sum())))
        return TASK.read(recipe, one, limit)

    logs = []

    def say(trial, known):
        assert not known
        logs.append((trial, tuple(seen)))
        seen.clear()

    (outcome,) = fine_tune_fairly(
        replace(given, task=replace(TASK, read=read)), SCENES, StandIn, seeing(), say
    )
    assert [trial for trial, _ in logs] == list(outcome.trials)
    searched = [t for t in outcome.trials if t.job.role == "search"]
    for arm, chosen in outcome.settings.items():
        own = [t for t in searched if t.job.arm == arm]
        assert [t.job.setting for t in own] == given.settings(arm)
        assert len(own) == (2 if arm == "handmade" else 4)  # no encoder, no rate of it
        assert max(own, key=lambda t: t.course.best).job.setting == chosen
        assert not any(t.scores for t in own)  # no test scene was looked at
        assert {t.job.setting for t in outcome.finals(arm)} == {chosen}
    for arm in ("pretrained", "handmade"):
        assert {t.job.steps for t in searched if t.job.arm == arm} == {
            t.course.constant_steps
            for t in searched
            if (t.job.arm, t.job.setting) == ("scratch", outcome.settings["scratch"])
        }
    by_job = {(t.job.arm, t.job.seed): (t, scenes) for t, scenes in logs if t.job.role == "final"}
    for seed in given.seeds:
        (scratch, fresh_scenes), (pretrained, scenes) = (
            by_job[arm, seed] for arm in ("scratch", "pretrained")
        )
        assert scratch.course.steps == pretrained.course.steps == len(scenes)
        assert [step for step, _ in scratch.course.curve] == [step for step, _ in pretrained.course.curve]
        assert fresh_scenes == scenes
        assert len({name for name, _ in scenes}) == 2 and len(set(scenes)) == len(scenes)  # always changed
    assert by_job["scratch", 0][1] != by_job["scratch", 1][1]


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path):
    short = plan(schedule=Schedule(every=2, patience=2, longest=4), labeled=(1,))

    def half(recipe, one, limit):
        read = TASK.read(recipe, one, limit)
        return replace(read, features=read.features[:, :2])

    def run(say=lambda trial, known: None, given=short, scenes=SCENES, weights=None, folder=None):
        return fine_tune_fairly(given, scenes, StandIn, weights or seeing(), say, folder)

    whole, told = run(), []

    def stop(trial, known):
        told.append(trial)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop, folder=tmp_path)
    known = []
    again = run(lambda trial, was_known: known.append(was_known), folder=tmp_path)
    assert known == [True] * 5 + [False] * 7
    assert again == whole
    # Other weights share what fresh encoders and hand-made numbers did; other scenes and sizes share nothing.
    for other, shared in (
        ({"weights": StandIn(5).state_dict()}, 8),
        ({"given": replace(short, seeds=(0, 1, 2))}, 12),
        ({"given": replace(short, places=100)}, 0),
        ({"given": replace(short, task=replace(TASK, read=half))}, 0),
        ({"scenes": replace(SCENES, validation=[scene(30)])}, 0),
    ):
        known.clear()
        run(lambda trial, was_known: known.append(was_known), folder=tmp_path, **other)
        assert sum(known) == shared
    for damaged in tmp_path.rglob("final-scratch*"):
        damaged.write_bytes(damaged.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"final-scratch.*: expected a finished training .*remove it"):
        run(folder=tmp_path)


def test_a_run_that_is_pre_trained_for_longer_shares_what_fresh_encoders_did(tmp_path):
    """How long it was pre-trained is no part of what fresh encoders are; what they were built from is."""
    given = plan(schedule=Schedule(every=2, patience=2, longest=4), lrs=(1e-2,), seeds=(0,))

    def shared(steps, channels):
        def build(seed):
            recipe = StandIn(seed)
            recipe.config = Built(channels=channels, optimization=Trained(steps=steps))
            return recipe

        known = []
        weights = StandIn(steps).state_dict()
        fine_tune_fairly(given, SCENES, build, weights, lambda trial, was: known.append(was), tmp_path)
        return sum(known)

    assert shared(600, 8) == 0
    assert shared(2400, 8) == 2  # the fresh encoder and the hand-made numbers of the one seed
    assert shared(600, 16) == 0


def test_frames_of_a_street_are_drawn_together():
    """Twice the same frames are no news: the interval is that of half as many."""
    alone = replace(SCENES, test=SCENES.test[:2])
    twice = [replace(one, name=f"{one.name}-{k}") for one in alone.test for k in range(2)]
    given = plan(trains="decoder")
    (one,) = fine_tune_fairly(given, alone, StandIn, seeing())
    together = replace(given, streets=(3, 3, 4, 4))
    (two,) = fine_tune_fairly(together, replace(alone, test=twice), StandIn, seeing())
    assert two.gain == one.gain and two.gain.scenes == 2


def test_scenes_change_as_grid_and_labels_allow():
    recipe = StandIn()
    world = augmentation_for(recipe, TASK).world
    assert (world.turn, world.mirror_x, world.mirror_y) == (180.0, 0.5, 0.5)
    recipe.grid = VoxelGrid((0.0, -5.0, -5.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0))  # in front alone
    world = augmentation_for(recipe, TASK).world
    assert (world.turn, world.mirror_x, world.mirror_y) == (45.0, 0.0, 0.5)
    assert augmentation_for(recipe, occupancy()).world.does_nothing


@pytest.mark.both
def test_answers_that_lie_on_a_grid_stay_exact_in_training():
    """A street's exact occupancy is lost where its world is turned."""
    grid, picture = VoxelGrid((-4.0, -4.0, -4.0, 4.0, 4.0, 4.0), (4.0, 4.0, 4.0)), torch.zeros(1, 1, 1)
    classes = torch.tensor([0, 2, 0, 0, 1, 0, 0, 0]).view(2, 2, 2)
    truth = GroundTruth(picture, picture > 0, torch.zeros(1, 3, 1, 1), picture.long(), classes, grid, CLASSES)
    exact, task, answers = [replace(s, truth=truth) for s in SCENES.train], occupancy(), []

    def read(recipe, one, limit):
        answers.append(task.read(recipe, one, limit).answers.tolist())
        return task.read(recipe, one, limit)

    scenes = ProbeScenes(exact[:2], exact[2:3], exact[3:])
    quick = plan(seeds=(0,), lrs=(1e-2,), schedule=Schedule(every=2, longest=2))
    quick = replace(quick, task=replace(task, read=read))
    fine_tune_fairly(quick, scenes, StandIn, seeing())
    assert {tuple(a) for a in answers} == {(0, 1, 0, 0, 1, 0, 0, 0)}


def test_more_labels_hold_fewer_and_seeds_differ():
    assert labeled_scenes(20, 5, 3)[:2] == labeled_scenes(20, 2, 3)
    assert len(set(labeled_scenes(20, 20, 3))) == 20
    assert labeled_scenes(20, 5, 3) != labeled_scenes(20, 5, 4)


def test_a_digest_knows_numbers_names_and_order():
    one = {"a": torch.arange(3), "b": torch.zeros(2)}
    assert digest(one) == digest(dict(reversed(one.items())))
    others = [{**one, "b": torch.ones(2)}, {**one, "b": torch.zeros(1, 2)}, {"a": one["a"], "c": one["b"]}]
    scenes = [scene(0), replace(scene(0), name="x"), replace(scene(0), points=scene(0).points + 1)]
    assert len({digest(x) for x in (one, *others, *scenes)}) == 7


def changed(value):
    """Another value for a field; one that was empty is filled."""
    if isinstance(value, torch.Tensor):
        return ~value if value.dtype == torch.bool else value + 1
    if isinstance(value, str | tuple):
        return value + type(value)("x")
    return value + 1 if isinstance(value, float | int) else torch.ones(1)


def each_changed(value):
    """Copies of a dataclass, a field other in each: what no check of shapes would let through, too."""
    for field in fields(value):
        other = copy.copy(value)
        object.__setattr__(other, field.name, changed(getattr(value, field.name)))
        yield other


def test_every_field_of_a_scene_tells_it_from_others(monkeypatch):
    one = SyntheticStreet(1, image_size=(16, 32), points_per_beam=20)[0]
    nested = [
        replace(one, **{name: other})
        for name in ("boxes", "cameras", "truth")
        for other in each_changed(getattr(one, name))
        if not isinstance(other, Cameras) or other.image_size == (16, 32)
    ]
    known = {digest(scene) for scene in (one, *each_changed(one), *nested)}
    assert len(nested) == 6 + 4 + 7
    assert len(known) == 1 + len(fields(one)) + len(nested)
    monkeypatch.setattr("renderpretrain.probes.fair.kept.VERSION", -1)
    assert digest(one) not in known


def test_two_questions_never_share_a_file(tmp_path):
    """Of a plan, a task and a job all that a training depends on is in the name of its file."""
    given, job = plan(), Job("scratch", "final", 2, 0, Setting(1e-2, 1.0))

    def file(job=job, scenes=SCENES, task=TASK, build=StandIn, **more):
        asked = replace(given, task=task, **more)
        return Bench(asked, scenes, build, seeing(), tmp_path)._path(job)

    schedules = [
        replace(given.schedule, **{f.name: getattr(given.schedule, f.name) + 1}) for f in fields(Schedule)
    ]
    sizes = ("weight_decay", "places", "scored_places", "statistics_scenes")
    jobs = {
        "arm": "handmade", "role": "search", "labeled": 1, "seed": 1, "steps": 5,
        "setting": Setting(1e-2 * (1 + 1e-9), 1.0),
    }  # fmt: skip
    files = [
        file(),
        *(file(schedule=schedule) for schedule in schedules),
        *(file(**{name: getattr(given, name) + 1}) for name in sizes),
        file(augment=Augmentation()), file(trains="decoder"), file(validation_scenes=1),
        file(task=semseg(CLASSES, "last")), file(task=semseg((*CLASSES[:2], "other"))),
        file(scenes=replace(SCENES, test=SCENES.test[1:])), file(build=lambda seed: StandIn(seed + 5)),
        *(file(job=replace(job, **{name: value})) for name, value in jobs.items()),
        file(job=replace(job, setting=Setting(1e-2, 0.1))),
    ]  # fmt: skip
    assert len(set(files)) == len(files) == 1 + 5 + 4 + 7 + 7


def blank(scenes):
    return [replace(s, point_labels=torch.zeros_like(s.point_labels)) for s in scenes]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: plan(seeds=(1, 9)), r"search_seeds: expected none of seeds, got \[9\] in both"),
        (lambda: plan(lrs=()), "lrs: expected one or more, each once"),
        (lambda: plan(seeds=(1, 1)), "seeds: expected one or more, each once"),
        (lambda: plan(labeled=(0,)), "labeled: expected numbers above 0"),
        (lambda: plan(places=0), "places: expected at least 1"),
        (
            lambda: fine_tune_fairly(plan(streets=(1,)), SCENES, StandIn, seeing()),
            "streets: expected one for each of the 4 scored scenes, got 1",
        ),
        (
            lambda: fine_tune_fairly(plan(labeled=(6,)), SCENES, StandIn, seeing()),
            "labeled: expected at most the 5 training scenes, got 6",
        ),
        (
            lambda: fine_tune_fairly(plan(), replace(SCENES, train=blank(SCENES.train)), StandIn, seeing()),
            "train: expected semseg labels in some of scene-., scene-., found none",
        ),
        (
            lambda: fine_tune_fairly(plan(), replace(SCENES, test=blank(SCENES.test)), StandIn, seeing()),
            "test: expected semseg labels in some of 4 scenes, found none",
        ),
        (
            lambda: fine_tune_fairly(
                plan(), SCENES, StandIn, seeing() | {"encoder.0.weight": torch.zeros(2, 2)}
            ),
            r"weights: encoder.0.weight: expected \(4, 2\), got \(2, 2\); 72.4%",
        ),
    ],
)
def test_faults_of_a_comparison_name_what_is_wrong(fault, message):
    with pytest.raises(ValueError, match=message):
        fault()


def test_scenes_that_stay_as_they_are_can_be_asked_for():
    given = plan(augment=Augmentation(), lrs=(1e-2,), seeds=(0,))
    (outcome,) = fine_tune_fairly(given, SCENES, StandIn, seeing())
    assert [trial.job.role for trial in outcome.trials] == ["final"] * 3  # one setting is not searched
