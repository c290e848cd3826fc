"""Boxes asked for as a task: what counts, what is learned, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.data import Boxes, Scene, SyntheticStreet
from renderpretrain.data.augment import Augmentation, WorldChange
from renderpretrain.encoders.levels import GridLevel
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes import Budget, FairPlan, Plan, ProbeScenes, fine_tune_fairly, run_probe
from renderpretrain.probes.detection import bev_grid, box_labels, counted_boxes, detection, left_out
from renderpretrain.probes.detection.metrics import DISTANCES
from renderpretrain.probes.fair import Schedule

FINE = VoxelGrid((-12.8, -12.8, -2.0, 12.8, 12.8, 2.0), (0.4, 0.4, 4.0))
GRID = bev_grid(FINE)
NAMES = ("free", "road", "car", "bus")


def scene(index, count=6):
    """Cars and buses apart from each other, each with a point in it."""
    draw = torch.Generator().manual_seed(index)
    places = torch.randperm(9, generator=draw)[:count]
    centers = torch.stack([places % 3, places // 3, torch.zeros(count)], 1) * torch.tensor([7.0, 7.0, 0.0])
    centers[:, :2] += torch.rand(count, 2, generator=draw) * 3 - 8.5
    labels = torch.randint(2, 4, (count,), generator=draw)
    yaws = torch.rand(count, generator=draw) * 6 - 3
    sizes = torch.where(labels[:, None] == 2, torch.tensor([3.0, 1.5, 1.5]), torch.tensor([4.0, 2.0, 2.0]))
    points = torch.zeros(count, 5)
    points[:, :3] = centers
    boxes = Boxes(centers, sizes, yaws, labels, torch.zeros(count, 3))
    return Scene(f"scene-{index}", points, torch.zeros(3), boxes=boxes, class_names=NAMES)


class Knowing(nn.Module):
    """Says of every column how near the centre of a box is, of which class and how it points; or noise."""

    def __init__(self, scenes, blind=False):
        super().__init__()
        self.boxes = {one.name: one.boxes for one in scenes}
        self.scale = nn.Linear(1, 1)
        nn.init.ones_(self.scale.weight)
        self.blind = blind

    def encoders(self):
        return {"encoder": self.scale}

    def levels(self, batch, hidden=None):
        boxes = self.boxes[batch.names[0]]
        away = FINE.centers()[0, ..., None, :2] - boxes.centers[:, :2]
        near = (-away.square().sum(-1) / 2).exp()
        told = torch.stack([boxes.labels == 2, boxes.labels == 3, boxes.yaws.sin(), boxes.yaws.cos()])
        volume = torch.stack([(near * row).sum(-1) for row in told.float()])
        volume = torch.cat([volume, (near[..., None] * away).sum(2).movedim(-1, 0)])
        volume = torch.randn_like(volume) if self.blind else volume
        return [GridLevel("point_encoder/0", self.scale.weight * volume[None, :, None], FINE)]


@torch.no_grad()
def read(recipe, task, scenes):
    return [task.read(recipe, one, 1) for one in scenes]


def taught(task, samples, steps):
    """A head after a few steps on what was read."""
    head = task.head(samples[0].features, 0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-2)
    for step in range(steps):
        one = samples[step % len(samples)]
        optimizer.zero_grad()
        task.loss(head(one.features), one.answers).backward()
        optimizer.step()
    return head.eval()


def test_a_head_finds_what_features_know_and_nothing_in_noise():
    train, test = [scene(i) for i in range(4)], [scene(i) for i in range(10, 13)]
    task, found = detection({"train": train, "test": test}, GRID), {}
    for blind in (False, True):
        recipe = Knowing([*train, *test], blind)
        head = taught(task, read(recipe, task, train), 10 if blind else 40)
        sums = [task.sums(head(s.features), s.answers) for s in read(recipe, task, test)]
        found[blind] = task.scores(task.join(sums))
    assert found[False]["map"] > 0.8 and found[True]["map"] < 0.1
    assert found[False]["ate"] < 0.5 and found[False]["aoe"] < 0.8  # a guess of the heading is off by 1.6
    errors = ("ate", "ase", "aoe")
    each = {f"{key}/{name}" for key in ("ap", *errors) for name in NAMES[2:]}
    assert set(found[False]) == {"map", *(f"ap@{d:g}" for d in DISTANCES), *errors} | each


def test_fine_tuning_fairly_with_a_head_of_its_own():
    """Pre-trained encoders know the boxes; fresh ones say 0 everywhere, frozen for good."""
    train, validation = [scene(0), scene(1)], [scene(10)]
    task = detection({"train": train, "validation": validation}, GRID)
    plan = FairPlan(
        task, "decoder", labeled=(2,), seeds=(0,), search_seeds=(9,), lrs=(3e-2,),
        schedule=Schedule(every=10, patience=10, longest=20), augment=Augmentation(), draws=20,
    )  # fmt: skip
    knowing = Knowing([*train, *validation])

    def build(seed):
        fresh = copy.deepcopy(knowing)
        nn.init.zeros_(fresh.scale.weight)
        return fresh

    (outcome,) = fine_tune_fairly(plan, ProbeScenes(train, validation), build, knowing.state_dict())
    assert outcome.gain.before < 0.1 and outcome.gain.after > 0.2
    (by_hand,) = outcome.finals("handmade")  # a map of the points' heights and numbers
    assert by_hand.scores["map"] == pytest.approx(outcome.over_handmade.before)


def test_boxes_move_with_their_world():
    street = SyntheticStreet(1, image_size=(32, 48))[0]
    grid = bev_grid(VoxelGrid((-99.0, -99.0, -9.0, 99.0, 99.0, 9.0), (1.0, 1.0, 18.0)))
    change = WorldChange(turn=180.0, mirror_x=1.0)
    moved = Augmentation(change)(street, 3)
    before, after = (counted_boxes(one, box_labels([one]), grid) for one in (street, moved))
    assert len(before.rows) == len(after.rows) > 5  # filled by the same points
    assert_close(after.rows[:, :2].norm(dim=1), before.rows[:, :2].norm(dim=1))
    assert not torch.allclose(after.rows[:, :2], before.rows[:, :2])


def test_answers_are_drawn_the_true_ones_and_as_many_of_those_said():
    one = scene(0)
    task = detection({"train": [one], "test": [one]}, GRID)
    samples = task.read(Knowing([one]), one, 1)
    outputs = torch.full((1, 2 + 8, *GRID.shape[1:]), -9.0)
    outputs[0, 2:] = 0.0
    outputs[0, 0, 40:60:4, 3:60:8] = 1.0  # many boxes of 1 m
    truth, said = (task.drawing.picture(samples, told) for told in (None, outputs))
    _, car, bus = task.drawing.legend.values()
    white = torch.ones(3)

    def pixels(picture, color):
        return int((picture - color.view(3, 1, 1)).abs().amax(0).lt(0.01).sum())

    assert list(task.drawing.legend)[1:] == ["car", "bus"]
    assert pixels(truth, car) > 100 and pixels(truth, bus) > 100 and not pixels(truth, white)
    assert pixels(said, white) > 200 and 0 < pixels(said, car) < 6 * 120 and not pixels(said, bus)


def test_the_loss_reaches_the_encoders():
    one = scene(0)
    recipe, task = Knowing([one]), detection({"train": [one], "test": [one]}, GRID)
    samples = task.read(recipe, one, 1)
    task.loss(task.head(samples.features, 0)(samples.features), samples.answers).backward()
    assert recipe.scale.weight.grad.abs() > 0


def test_scenes_without_boxes_and_boxes_that_do_not_count_are_refused_in_one_line():
    one = scene(0)
    bare, empty = replace(one, boxes=None), replace(one, points=one.points + 50)
    far = replace(one, boxes=replace(one.boxes, centers=one.boxes.centers + 30))
    scenes = [one, far, empty]
    assert left_out([counted_boxes(s, box_labels(scenes), GRID) for s in scenes]) == (
        "6 boxes in 3 scenes; 6 beside the map and 6 without a point of the key sweep do not count"
    )
    needs = "train: detection needs boxes, which none of the 2 scenes from 'scene-0' on has"
    with pytest.raises(ValueError, match=needs):
        detection({"train": [bare, bare], "test": [one]}, GRID)
    with pytest.raises(
        ValueError, match="test: expected boxes that count, got 0 boxes in 1 scenes; 6 beside"
    ):
        detection({"train": [one], "test": [far]}, GRID)
    few = [tensor[:0] for tensor in (one.boxes.centers, one.boxes.sizes, one.boxes.yaws, one.boxes.labels)]
    nothing = replace(one, boxes=Boxes(*few, one.boxes.velocities[:0]))
    ignored = replace(one, class_names=(*NAMES[:2], "ignore", "ignore"))
    for scenes in ([nothing], [ignored, nothing]):
        with pytest.raises(
            ValueError, match=f"train: expected boxes that count, got 0 boxes in {len(scenes)} s"
        ):
            detection({"train": scenes, "test": scenes}, GRID)
    with pytest.raises(ValueError, match="scene 'scene-0': expected labels of boxes below 2, the number of"):
        detection({"train": [replace(one, class_names=NAMES[:2])], "test": [one]}, GRID)


def test_labelled_scenes_without_any_box_teach_nothing():
    train = [scene(0), replace(scene(1), boxes=None)]
    task = detection({"train": train, "validation": [scene(2)]}, GRID)
    knowing = Knowing([scene(0), scene(2)])
    knowing.boxes["scene-1"] = scene(1).boxes
    plan = Plan(task, fractions=(0.5,), seeds=tuple(range(4)), budget=Budget(steps=1))
    with pytest.raises(ValueError, match="train: expected detection labels in the scenes chosen"):
        run_probe(plan, ProbeScenes(train, [scene(2)]), lambda seed: knowing, knowing.state_dict())
