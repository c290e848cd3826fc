"""Annotated boxes of nuScenes: which class, how fast, and where in the LiDAR frame of their moment."""

from typing import Any

import numpy as np

from renderpretrain.data.readers.nuscenes.names import DETECTED
from renderpretrain.data.readers.nuscenes.tables import Annotations

LONGEST = 1.5
"""Seconds over which two annotations tell a velocity; one before and one after, over twice as many."""


def velocities(boxes: Annotations, stamps: np.ndarray) -> np.ndarray:
    """``(N, 2)`` velocities in the global frame, m/s, as the devkit computes them; NaN where nothing tells.

    From where the same object is annotated before and after, or from its own place and that of the one
    neighbour there is.

    Args:
        boxes: All annotations of the samples.
        stamps: Microseconds of each sample.
    """
    times = stamps[boxes.samples]
    order = np.lexsort((times, boxes.instances))
    same = np.diff(boxes.instances[order]) == 0
    before, after = np.arange(len(order)), np.arange(len(order))
    before[order[1:][same]] = order[:-1][same]
    after[order[:-1][same]] = order[1:][same]
    both = (before != np.arange(len(order))) & (after != np.arange(len(order)))
    seconds = (times[after] - times[before]) * 1e-6
    known = (seconds > 0) & (seconds <= np.where(both, 2 * LONGEST, LONGEST))
    way = (boxes.centers[after] - boxes.centers[before])[:, :2]
    return np.where(known[:, None], way / np.where(known, seconds, 1.0)[:, None], np.nan)


def labels_of(boxes: Annotations, raw: bool) -> list[str | None]:
    """The class of each category: of the ten, or as the table names it; ``None`` for what is left out."""
    return [name if raw else DETECTED.get(name) for name in boxes.names] + [None]


def in_lidar_frame(
    boxes: Annotations,
    speeds: np.ndarray,
    labels: list[str | None],
    sample: int,
    lidar_to_global: np.ndarray,
) -> list[dict[str, Any]]:
    """A sample's boxes as ``boxes_lidar_frame`` has them.

    Args:
        boxes: All annotations, those of a sample together.
        speeds: What :func:`velocities` says of them.
        labels: What :func:`labels_of` says of the categories.
        sample: Which sample.
        lidar_to_global: ``(4, 4)`` of its sweep.
    """
    first, last = np.searchsorted(boxes.samples, [sample, sample + 1])
    turn = lidar_to_global[:3, :3]
    centers = (boxes.centers[first:last] - lidar_to_global[:3, 3]) @ turn
    headings = boxes.headings[first:last] @ turn
    yaws = np.arctan2(headings[:, 1], headings[:, 0])
    moved = np.pad(speeds[first:last], ((0, 0), (0, 1))) @ turn
    known = np.isfinite(moved[:, 0])
    found = []
    for k in range(last - first):
        label = labels[boxes.categories[first + k]]
        if label is None:
            continue
        box: dict[str, Any] = {
            "label": label,
            "center": centers[k].tolist(),
            "size_lwh": boxes.sizes[first + k].tolist(),
            "yaw": float(yaws[k]),
            "num_lidar_pts": int(boxes.counts[first + k]),
        }
        if known[k]:
            box["velocity_xy"] = moved[k, :2].tolist()
        found.append(box)
    return found
