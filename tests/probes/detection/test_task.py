"""Boxes asked for as a task: what counts, what is learned, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from renderpretrain.data import Boxes, Scene
from renderpretrain.encoders.levels import GridLevel
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.detection import bev_grid, detection, left_out
from renderpretrain.probes.detection.metrics import DISTANCES

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
        self.scale = nn.Parameter(torch.ones(()))
        self.blind = blind

    def levels(self, batch, hidden=None):
        boxes = self.boxes[batch.names[0]]
        away = FINE.centers()[0, ..., None, :2] - boxes.centers[:, :2]
        near = (-away.square().sum(-1) / 2).exp()
        told = torch.stack([boxes.labels == 2, boxes.labels == 3, boxes.yaws.sin(), boxes.yaws.cos()])
        volume = torch.stack([(near * row).sum(-1) for row in told.float()])
        volume = torch.cat([volume, (near[..., None] * away).sum(2).movedim(-1, 0)])
        volume = torch.randn_like(volume) if self.blind else volume
        return [GridLevel("point_encoder/0", self.scale * volume[None, :, None], FINE)]


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
    assert recipe.scale.grad.abs() > 0


def test_scenes_without_boxes_and_boxes_that_do_not_count_are_refused_in_one_line():
    one = scene(0)
    bare, empty = replace(one, boxes=None), replace(one, points=one.points + 50)
    far = replace(one, boxes=replace(one.boxes, centers=one.boxes.centers + 30))
    assert left_out([one, far, empty], GRID) == (
        "6 boxes in 3 scenes; 6 beside the map and 6 without a point of the key sweep do not count"
    )
    needs = "train: detection needs boxes, which none of the 2 scenes from 'scene-0' on has"
    with pytest.raises(ValueError, match=needs):
        detection({"train": [bare, bare], "test": [one]}, GRID)
    with pytest.raises(
        ValueError, match="test: expected boxes that count, got 0 boxes in 1 scenes; 6 beside"
    ):
        detection({"train": [one], "test": [far]}, GRID)
    with pytest.raises(ValueError, match="scene 'scene-0': expected labels of boxes below 2, the number of"):
        detection({"train": [replace(one, class_names=NAMES[:2])], "test": [one]}, GRID)
