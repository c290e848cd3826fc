"""Directions that a LiDAR fired into without a return, in worlds where it is known what is there."""

import math
from dataclasses import replace

import pytest
import torch
from sweeps import FAR, cast, sweep, tilted, turn
from torch.testing import assert_close

from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.geometry import Points
from renderpretrain.samplers import OpenSky


@pytest.mark.parametrize("degrees", [0.0, 3.0, 6.0])
def test_directions_without_a_return_meet_nothing(degrees):
    """Measured 99.9 % level and at a slant; a beam is lost in one of seven cases near, in two far."""
    empty = []
    for seed in range(4):
        points, _, boxes = sweep(seed, degrees=degrees)
        rays, valid = OpenSky(256)(points, torch.tensor([seed]))
        assert valid.all()
        assert_close(rays.directions.norm(dim=-1), torch.ones(1, 256))
        empty.append(cast(rays.directions[0], boxes)[0] > FAR)
    assert torch.cat(empty).float().mean() > 0.98


def test_beams_are_those_of_the_sweep():
    """Between beams nothing was measured: every direction has the elevation of one."""
    points, _, _ = sweep(0, lost=0.0)
    rays, _ = OpenSky(64)(points, torch.tensor([3]))
    elevations = torch.rad2deg(torch.asin(rays.directions[0, :, 2]))
    beams = torch.linspace(-30, 10, 32)
    assert (elevations[:, None] - beams).abs().min(1).values.max() < 1e-3


def test_a_street_is_empty_where_no_beam_came_back():
    """By voxels: a ray that touches the corner of one may miss what is in it. Dirt on sensors is no sky."""
    streets, full, steps = SyntheticStreet(6, image_size=(8, 16)), [], torch.arange(1.0, 24.0, 0.25)
    for index in range(6):
        scene = streets[index]
        rays, valid = OpenSky(256)(collate([scene], torch.tensor([index])).points, torch.tensor([index]))
        places = rays[0][valid[0]].at(steps.expand(int(valid.sum()), -1))
        cells, inside = scene.truth.grid.cells(places), scene.truth.grid.contains(places)
        full.append(((scene.truth.occupancy[tuple(cells.unbind(-1))] > 0) & inside).any(-1))
    assert torch.cat(full).float().mean() < 0.05


@pytest.mark.parametrize("lost", ["all", "half a turn", "everything below", "one"])
def test_where_the_sensor_saw_nothing_nothing_is_known(lost):
    points, _, _ = sweep(1)
    x, y, z = points.xyz.unbind(-1)
    kept = {
        "all": torch.zeros_like(points.valid),
        "half a turn": x > 0,
        "everything below": z > 0.2 * torch.hypot(x, y),
        "one": torch.arange(x.shape[1])[None] == 7,
    }[lost]
    rays, valid = OpenSky(64)(points.only(kept), torch.tensor([1]))
    assert torch.isfinite(rays.directions).all()
    assert valid.all() if lost == "half a turn" else not valid.any()
    if lost == "half a turn":
        assert (rays.directions[..., 0] > 0).all()
    nothing = replace(
        points, valid=torch.zeros_like(points.valid), xyz=torch.full_like(points.xyz, torch.nan)
    )
    assert torch.equal(OpenSky(64)(nothing, torch.tensor([1]))[1], torch.zeros(1, 64, dtype=torch.bool))


def test_a_hole_below_a_return_is_not_sky():
    """A car so dark that it gives no return, before a wall that rises above all beams."""
    wall = torch.tensor([[20.0, -10.0, -6.0]]), torch.tensor([[21.0, 10.0, 8.0]])
    directions = turn(tilted(0))
    t, _ = cast(directions, wall)
    azimuth, elevation = torch.atan2(directions[:, 1], directions[:, 0]), torch.asin(directions[:, 2])
    dark = (azimuth.abs() < 0.2) & (elevation < 0.1) & (elevation > -0.3)
    kept = (t < FAR) & ~dark
    rays, valid = OpenSky(512)(Points.from_table((t[:, None] * directions)[kept][None]), torch.tensor([5]))
    to_wall = torch.atan2(rays.directions[..., 1], rays.directions[..., 0]).abs() < math.atan2(10, 20)
    assert valid.any() and not (to_wall & valid).any()


def test_a_sample_has_the_same_directions_alone_and_in_a_batch():
    one, two = sweep(0)[0], sweep(1)[0]
    rows = min(one.xyz.shape[1], two.xyz.shape[1])
    both = type(one).from_table(torch.cat([one.xyz[:, :rows], two.xyz[:, :rows]]))
    rays, _ = OpenSky(32)(both, torch.tensor([4, 9]))
    alone, _ = OpenSky(32)(type(one).from_table(two.xyz[:, :rows]), torch.tensor([9]))
    assert torch.equal(rays.directions[1:], alone.directions)
    assert not torch.equal(OpenSky(32)(both, torch.tensor([5, 9]))[0].directions[0], rays.directions[0])


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_rays": 0}, "num_rays: expected"),
        ({"columns": 2}, "columns: expected at least 3, got 2"),
        ({"margin": 0.0}, r"margin: expected a positive number of degrees, got 0\.0"),
        ({"reach": -1}, "reach: expected a positive number of degrees, got -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OpenSky(**arguments)
