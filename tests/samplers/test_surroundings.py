"""What a sweep looks like around places, beside loops over points, and on shapes whose answers are known."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.geometry import Points, VoxelGrid
from renderpretrain.samplers import SURROUNDINGS, surroundings

GRID = VoxelGrid((-4.0, -3.0, -2.0, 4.0, 5.0, 2.0), (0.5, 0.5, 0.5))
SPANS = (3, 5)


def cloud(generator, count=600, batch=2):
    """Random points, some of them beyond the grid, some of older sweeps, some padding."""
    xyz = torch.rand(batch, count, 3, generator=generator) * 9 - 4.5
    return Points(
        xyz * torch.tensor([1.0, 1.0, 0.4]),
        torch.rand(batch, count, generator=generator),
        (torch.rand(batch, count, generator=generator) < 0.1).float(),
        torch.rand(batch, count, generator=generator) < 0.9,
        torch.zeros(batch, 3),
    )


def slowly(points, place, sample):
    """The numbers of one place, from the points themselves, one cube after the other."""
    low, size = np.array(GRID.lower), 0.5
    kept = (points.key[sample] & GRID.contains(points.xyz[sample])).numpy()
    xyz = (points.xyz[sample].double().numpy()[kept] - low) / size
    bright = points.intensity[sample].double().numpy()[kept]
    place = (place.double().numpy() - low) / size
    told = []
    for span in SPANS:
        apart = np.abs(np.floor(xyz) - np.floor(place))
        inside, column = (apart <= span // 2).all(1), (apart[:, :2] <= span // 2).all(1)
        near, lit = xyz[inside], bright[inside]
        values, vectors = np.linalg.eigh(np.cov(near.T, bias=True))
        low_, middle, high = deviations = np.sqrt(np.maximum(values, 0))
        told += [*deviations, (high - middle) / high, (middle - low_) / high, low_ / high]
        told += [abs(vectors[2, 0]), abs(vectors[2, 2]), place[2] - near[:, 2].mean(), lit.mean(), lit.std()]
        heights = xyz[column][:, 2]
        told += [place[2] - heights.min(), heights.max() - place[2], np.log(len(near))]
    return torch.tensor(told)


def test_numbers_are_those_of_loops_over_points():
    generator = torch.Generator().manual_seed(0)
    points = cloud(generator)
    where = torch.rand(2, 40, 3, generator=generator) * 2 - 1
    told = surroundings(points, GRID, where)
    assert told.shape == (2, 40, SURROUNDINGS) and not told.requires_grad
    slow = torch.stack([torch.stack([slowly(points, p, i) for p in where[i]]) for i in range(2)])
    for first in (0, SURROUNDINGS // 2):  # where two deviations are one, their directions are any
        low, middle, high = slow[..., first : first + 3].unbind(-1)
        for at, apart in ((first + 6, middle - low), (first + 7, high - middle)):
            alike = apart < 0.01 * high
            assert alike.float().mean() < 0.1
            told[..., at], slow[..., at] = (torch.where(alike, 0.0, x[..., at]) for x in (told, slow))
    assert_close(told.double(), slow, rtol=1e-4, atol=1e-4)  # told in float32


def test_a_floor_a_wall_and_a_pole_are_told_apart():
    step = torch.linspace(-1.2, 1.2, 49)
    a, b = (x.flatten() for x in torch.meshgrid(step, step, indexing="ij"))
    still = torch.full_like(a, 0.25)
    shapes = {"floor": (a, b, still), "wall": (still, a, b), "pole": (still[:49], still[:49], step)}
    for name, xyz in shapes.items():
        points = Points.from_table(torch.stack(xyz, -1)[None])
        told = surroundings(points, GRID, torch.tensor([[[0.25, 0.25, 0.25]]]))[0, 0, :14]
        linear, planar, scattered, normal_up, along_up = told[3:8].tolist()
        assert scattered < 1e-3
        if name == "pole":
            assert linear > 0.99 and along_up > 0.99
        else:
            assert planar > 0.99 and normal_up == pytest.approx(float(name == "floor"), abs=1e-3)


def test_places_without_points_and_empty_sweeps_are_told_numbers():
    nothing = Points.from_table(torch.zeros(1, 0, 5))
    told = surroundings(nothing, GRID, torch.zeros(1, 3, 3))
    assert told.isfinite().all()
    far = surroundings(Points.from_table(torch.full((1, 4, 3), 3.9)), GRID, torch.full((1, 1, 3), -1.0))
    assert far.isfinite().all()
    with pytest.raises(ValueError, match="where: expected"):
        surroundings(nothing, GRID, torch.zeros(2, 3, 3))
