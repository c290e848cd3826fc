"""Points of walls, poles, trees and cars: they show how a sensor moved, as level ground does not."""

import numpy as np

UPRIGHT = 0.7
"""Metres that the points of a square metre reach up at least; level ground's rings move with the sensor."""


def stands_upright(points: np.ndarray) -> np.ndarray:
    """Which points lie above a square metre whose points reach up far enough.

    Args:
        points: ``(P, 3)`` metres, z up.

    Returns:
        ``(P,)`` bool.
    """
    if not len(points):
        return np.zeros(0, bool)
    x, y = np.floor(points[:, :2] - points[:, :2].min(0)).astype(np.int64).T
    cells = x * (y.max() + 1) + y
    lowest, highest = np.full(cells.max() + 1, np.inf), np.full(cells.max() + 1, -np.inf)
    np.minimum.at(lowest, cells, points[:, 2])
    np.maximum.at(highest, cells, points[:, 2])
    return np.asarray((highest - lowest)[cells] > UPRIGHT)
