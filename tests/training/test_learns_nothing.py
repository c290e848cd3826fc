"""A run that can learn nothing is refused, or says so."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from stand_in import Points, StandIn, optimization

from renderpretrain import VoxelGrid
from renderpretrain.data import SyntheticRoom, SyntheticStreet
from renderpretrain.recipes import RECIPES
from renderpretrain.runs.settings import resolve
from renderpretrain.training import RunOptions, fit
from renderpretrain.training.overlap import check_overlap, measure_overlap
from renderpretrain.training.zeros import PATIENCE, ZeroWatch


class Street(SyntheticStreet):
    """Scenes that are made once for all tests."""

    __getitem__ = cache(SyntheticStreet.__getitem__)


STREET = Street(3, image_size=(32, 64), points_per_beam=50, with_truth=False)
ROOM = SyntheticRoom(3, image_size=(24, 32), with_truth=False)


class Moved:
    """Scenes whose points lie elsewhere, or are in another unit."""

    def __init__(self, scenes, *, shift=(0.0, 0.0, 0.0), scale=1.0):
        self.scenes, self.shift, self.scale = scenes, torch.tensor(shift), scale

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, index):
        scene = self.scenes[index]
        points = scene.points.clone()
        points[:, :3] = points[:, :3] * self.scale + self.shift
        return replace(scene, points=points, lidar_origin=scene.lidar_origin + self.shift)


def recipe(name, **settings):
    entry = RECIPES[name]
    return entry.build(resolve(entry.presets["tiny"], [settings, {"image_size": [32, 64]}]))


NEAR = {"rays": {"near_radius": 30.0, "far_radius": 40.0}}
HOPELESS = {
    "elsewhere": (
        "unipad-lidar",
        Moved(STREET, shift=(500.0, 0.0, 0.0)),
        {},
        r"none of [\d,]+ points .* x 4\d\d",
    ),
    "millimetres": (
        "unipad-camera",
        Moved(STREET, scale=1000.0),
        {},
        "point_cloud_range: none of .* its unit metres",
    ),
    "a room dropped": ("unipad-camera", ROOM, NEAR, r"rays.near_radius=30 m, rays.far_radius=40 m: none"),
    "a voxel of sky": (
        "ns-mae",
        STREET,
        {"point_cloud_range": [-51.2, -51.2, 80.0, 51.2, 51.2, 88.8]},
        r"point_cloud_range: none of .* z 80 to 88.8 m; they span x -\d.* set point_cloud_range",
    ),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_ranges_without_data_are_refused_before_the_folder_is_made(tmp_path, case):
    name, data, settings, message = HOPELESS[case]
    with pytest.raises(ValueError, match=message):
        fit(
            recipe(name, **settings),
            data,
            optimization(),
            out=tmp_path / "run",
            options=RunOptions(device="cpu"),
        )
    assert not (tmp_path / "run").exists()


def test_ranges_with_little_data_are_told():
    model = recipe("unipad-lidar", point_cloud_range=[-51.2, -51.2, 4.0, 51.2, 51.2, 12.8])
    seen = measure_overlap(model, STREET, 2)
    assert 0 < seen.inside < 0.05 * seen.points and seen.rays and seen.hits <= seen.rays
    said = check_overlap(seen, model)
    assert (
        said.startswith("little of the data is in range: ") and f"{seen.inside:,} of {seen.points:,}" in said
    )
    model = recipe("unipad-lidar")
    assert check_overlap(measure_overlap(model, STREET, 2), model) == ""


@pytest.mark.parametrize("inside", [0.93, 0.97])
def test_points_outside_of_the_range_are_told_where_they_are_more_than_a_few(inside):
    model = recipe("unipad-lidar")
    seen = replace(measure_overlap(model, STREET, 1), points=1000, inside=int(1000 * inside))
    said = check_overlap(seen, model)
    assert (said == "") == (inside > 0.95)
    assert not said or said.startswith("7.0% of the points lie outside of point_cloud_range (x -")


class Deaf(StandIn):
    """One term is 0 for ever, and one part has no gradient."""

    def __init__(self, *, late=None):
        super().__init__()
        self.aside = torch.nn.Linear(1, 1)
        self.grid = VoxelGrid((-8.0, -8.0, -8.0, 8.0, 8.0, 8.0), (1.0, 1.0, 1.0))
        self.late, self.calls = late, 0

    def forward(self, batch):
        self.calls += 1
        rest = (
            self.aside.weight.sum() if self.late and self.calls > self.late else 0 * self.aside.weight.sum()
        )
        return super().forward(batch) | {"silent": 0 * self.head.bias.sum() + rest}


def said_by(tmp_path, capsys, model, steps=50):
    options = RunOptions(device="cpu")
    settings = optimization(steps=steps, log_every=1000, eval_every=1000, checkpoint_every=1000)
    fit(model, Points(), settings, out=tmp_path, options=options)
    return [line for line in capsys.readouterr().out.splitlines() if "has been 0 for" in line]


def test_what_stays_silent_is_told_once_with_the_figures(tmp_path, capsys):
    term, part = said_by(tmp_path, capsys, Deaf())
    assert f"loss/silent has been 0 for {PATIENCE} steps: 48 of 48 rays end on a return in range" in term
    assert "120 of 120 points lie in x -8 to 8, y -8 to 8, z -8 to 8 m" in term
    assert "gradient of aside has been 0 for 20 steps" in part


def test_what_speaks_late_but_in_time_is_not_told(tmp_path, capsys):
    assert said_by(tmp_path, capsys, Deaf(late=5)) == []
    assert said_by(tmp_path / "healthy", capsys, StandIn()) == []


def test_zeros_are_reported_once_and_not_of_a_term_that_was_something():
    watch = ZeroWatch()
    found = [watch.update(step, {"a": 0.0, "b": float(step == 3)}) for step in range(1, 60)]
    assert [sentence for sentences in found for sentence in sentences] == [
        f"a has been 0 for {PATIENCE} steps"
    ]


def test_a_gradient_that_dies_later_is_told_and_a_term_that_is_fulfilled_is_not():
    watch = ZeroWatch()
    for step in range(0, 100, 10):
        alive = float(step < 40)
        found = watch.update(step, {"gradient of lidar": alive, "loss/free_space": alive})
        assert found == (["gradient of lidar has been 0 for 20 steps"] if step == 60 else [])
