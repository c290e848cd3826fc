"""Places that a sweep looked through, in a world where it is known what it saw."""

import math

import torch
from sweeps import sweep

from renderpretrain.geometry import Points
from renderpretrain.samplers import seen_through
from renderpretrain.samplers.free_space import AROUND, BEHIND, FEWEST

CELL = math.radians(0.5)


def nearest_of(points):
    """The nearest return in every cell of directions."""
    nearest = {}
    for x, y, z in points.xyz[0].tolist():
        cell = (math.floor(math.atan2(z, math.hypot(x, y)) / CELL), math.floor(math.atan2(y, x) / CELL))
        nearest[cell] = min(nearest.get(cell, math.inf), math.hypot(x, y, z))
    return nearest


def slowly(nearest, place):
    """Whether returns around a place's direction all lie behind it, cell by cell."""
    x, y, z = place
    row, column = math.floor(math.atan2(z, math.hypot(x, y)) / CELL), math.floor(math.atan2(y, x) / CELL)
    around = [(row + i, column + j) for i in range(-AROUND, AROUND + 1) for j in range(-AROUND, AROUND + 1)]
    found = [nearest[cell] for cell in around if cell in nearest]
    return len(found) >= FEWEST and min(found) > BEHIND[0] + (1 + BEHIND[1]) * math.hypot(x, y, z)


def test_against_a_loop():
    points, _, _ = sweep(0)
    rows = torch.arange(0, points.xyz.shape[1], 97)
    shares = torch.tensor([0.5, 0.9, 1.0])[torch.arange(len(rows)) % 3]
    # None behind the sensor, where the loop's columns would have to go around.
    places = (points.xyz[0, rows] * shares[:, None])[points.xyz[0, rows, 0] > 0]
    found, nearest = seen_through(points, places[None])[0].tolist(), nearest_of(points)
    assert found == [slowly(nearest, place) for place in places.tolist()]
    assert 20 < sum(found) < len(found) - 20


def test_free_space_ends_at_what_is_seen():
    """Half way to a return is free unless something nearer stands beside; what is seen is not."""
    for seed in range(2):
        points, _, _ = sweep(seed, degrees=3.0)
        assert seen_through(points, 0.5 * points.xyz).float().mean() > 0.6
        assert seen_through(points, points.xyz).float().mean() < 0.01
        assert not seen_through(points, 1.1 * points.xyz).any()


def test_a_sweep_without_returns_saw_nothing():
    assert not seen_through(Points.from_table(torch.zeros(2, 0, 3)), torch.rand(2, 5, 3)).any()
