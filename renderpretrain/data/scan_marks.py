"""What a LiDAR measured that a picture should show, too: jumps of depth, and how bright places are."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.data.scene import Scene

UPRIGHT, LEVEL, BRIGHT = range(3)
"""Kinds of marks: depth jumps to the side, depth jumps upwards or downwards, and any point."""

NEAREST = 2.5
"""Metres; nearer returns are of the recording car."""

ROW, COLUMN = 0.2, 0.4
"""Degrees of elevation, and of azimuth, within which returns count as side by side, or one above another."""

GAPS = (1.5, 2.5)
"""Degrees between neighbours at most, side by side and one above the other."""

JUMPS = ((0.5, 0.1), (1.0, 0.3))
"""Metres, and share of the distance, from which neighbours lie on two things, likewise: on level ground,
distances grow by themselves from one beam to the next."""

CELL = (8, 5)
"""Degrees of azimuth and elevation within which intensities are compared."""

FEWEST = 20
"""Points in such a cell below which they are not."""


@dataclass(frozen=True)
class ScanMarks:
    """Places in the world, what kind of mark each is, and how much it weighs.

    Attributes:
        xyz: World, metres.
        kinds: :data:`UPRIGHT`, :data:`LEVEL` or :data:`BRIGHT`.
        weights: 1 of edges; of brightness, how much brighter than near by, -2 to 2.
        gaps: Degrees between the returns that the two kinds of edges lie between, in the median: an edge may
            be anywhere there, and is at the same place along all of a roof.
    """

    xyz: Float[Tensor, "P 3"]
    kinds: Int[Tensor, " P"]
    weights: Float[Tensor, " P"]
    gaps: tuple[float, float]


def scan_marks(scene: Scene) -> ScanMarks:
    """The marks of a scene's key sweep.

    An edge lies halfway between the directions of the two returns, at the distance of the nearer one.
    """
    points = scene.points[scene.of_key_sweep].double().numpy()
    origin = scene.lidar_origin.double().numpy()
    offsets = points[:, :3] - origin
    distances = np.linalg.norm(offsets, axis=-1)
    far = distances > NEAREST
    offsets, distances, intensities = offsets[far], distances[far], points[far, 3]
    azimuth = np.rad2deg(np.arctan2(offsets[:, 1], offsets[:, 0]))
    elevation = np.rad2deg(np.arcsin(np.clip(offsets[:, 2] / distances, -1, 1)))
    rows, columns = np.floor(elevation / ROW), np.floor(azimuth / COLUMN)
    upright, across = _edges(offsets, distances, rows, azimuth, UPRIGHT)
    level, up = _edges(offsets, distances, columns, elevation, LEVEL)
    bright, known = _brightness(intensities, azimuth, elevation)
    parts = [upright, level, offsets[known]]
    kinds = np.repeat(np.arange(3), [len(part) for part in parts])
    weights = np.concatenate([np.ones(len(upright) + len(level)), bright[known]])
    return ScanMarks(
        torch.from_numpy(np.concatenate(parts) + origin).float(),
        torch.from_numpy(kinds),
        torch.from_numpy(weights).float(),
        (across, up),
    )


def _edges(
    offsets: np.ndarray, distances: np.ndarray, lines: np.ndarray, along: np.ndarray, kind: int
) -> tuple[np.ndarray, float]:
    """``(E, 3)`` edges between neighbours of one line, from the sensor, and degrees between these."""
    order = np.lexsort((along, lines))
    in_order = distances[order]
    metres, share = JUMPS[kind]
    limit = metres + share * np.minimum(in_order[1:], in_order[:-1])
    near_by = (np.diff(lines[order]) == 0) & (np.diff(along[order]) < GAPS[kind])
    found = np.flatnonzero(near_by & (np.abs(np.diff(in_order)) > limit))
    first, second = order[found], order[found + 1]
    middle = offsets[first] / distances[first, None] + offsets[second] / distances[second, None]
    middle /= np.linalg.norm(middle, axis=-1, keepdims=True)
    gap = float(np.median(along[second] - along[first])) if len(found) else 0.0
    return middle * np.minimum(distances[first], distances[second])[:, None], gap


def _brightness(
    intensities: np.ndarray, azimuth: np.ndarray, elevation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How much brighter points are than those near by, in deviations, and where that is known."""
    if not len(intensities):
        return intensities, np.zeros(0, dtype=bool)
    cells = np.floor(azimuth / CELL[0]) * 1000 + np.floor(elevation / CELL[1])
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    values = np.sqrt(np.clip(intensities, 0, 1))
    mean = np.bincount(cell, values) / counts
    variance = np.bincount(cell, values * values) / counts - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0) + 1e-4)
    bright = np.clip((values - mean[cell]) / deviation[cell], -2, 2)
    return bright, (counts[cell] >= FEWEST) & (variance[cell] > 1e-6)
