"""Sweeps one after another: placed in the world by their poses, walls and poles lie on themselves."""

from collections.abc import Iterator

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.mistakes import (
    AS_GIVEN,
    BODY,
    OF_LIDAR_AXES,
    OF_POSES,
    Mistake,
    scaled,
    spread,
)
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.files import read_sweep
from renderpretrain.data.folder.schema import OutdoorFolder, frame_name

PAIRS = 4
"""Pairs of sweeps that are looked at."""

POINTS, TARGETS = 600, 5000
"""Points of one sweep, and of the other that they are compared with."""

FARTHEST = 30.0
"""Metres; beyond, points are too sparse to lie on each other."""

UPRIGHT = 0.7
"""Metres that the points of a square metre reach up at least; level ground shows no motion, and the rings on
it move with the sensor."""

CLOSE = 0.3
"""Metres within which a point lies on another sweep."""

FEWEST = 200
"""Points below which nothing is said."""

CLEARER, TIMES = 0.12, 1.4
"""A mistake is told where the share of points that overlap is so much higher, and so many times."""

MISTAKES = (
    AS_GIVEN,
    *OF_POSES,
    Mistake("translations a thousand times, from kilometres", scaled(1e3)),
    *OF_LIDAR_AXES,
    Mistake("LiDAR poses, where these are a camera's (x right, y down, z forward)", own_axes=BODY),
)

NOT_MOVED = "no poses, for the points are in one frame already"
LIDAR_TO_EGO = "lidar_to_ego inverted"


def sweep_pose_problems(access: FolderAccess, folder: OutdoorFolder) -> Iterator[str]:
    """Poses under which neighbouring sweeps overlap far less than under a mistake mended.

    Args:
        access: How the folder's files are read.
        folder: Its parsed ``frames.json``.
    """
    overlaps: list[dict[str, np.ndarray]] = []
    for first, second in _pairs(folder):
        try:
            here, there = (_upright(access, folder, k) for k in (first, second))
        except SceneFolderError:
            continue
        if len(here) and len(there):
            overlaps.append(_overlaps(here, there, _motions(folder, first, second)))
    shares = {
        name: float(np.concatenate([overlap[name] for overlap in overlaps]).mean())
        for name in (overlaps[0] if overlaps else ())
    }
    count = sum(len(overlap[AS_GIVEN.name]) for overlap in overlaps)
    if count < FEWEST:
        return
    given = shares[AS_GIVEN.name]
    best = max(shares, key=lambda name: shares[name])
    if shares[best] - given >= CLEARER and shares[best] >= TIMES * given:
        yield (
            f"{access.path}: lidar.ego_to_global: expected {best}: then {shares[best]:.0%} of the upright "
            f"points of {len(overlaps)} pairs of sweeps lie within {CLOSE} m of the other sweep, got "
            f"{given:.0%} with what is given"
        )


def _pairs(folder: OutdoorFolder) -> list[tuple[int, int]]:
    """Neighbours of one scene, those that moved most for their recording."""
    moved = []
    for k, (frame, later) in enumerate(zip(folder.frames, folder.frames[1:], strict=False)):
        poses = (frame.lidar.ego_to_global, later.lidar.ego_to_global)
        if frame.scene == later.scene and poses[0] is not None and poses[1] is not None:
            way = np.linalg.inv(np.array(poses[0])) @ np.array(poses[1])
            moved.append((float(np.linalg.norm(way - np.eye(4))), k))
    moved.sort()
    faster = moved[len(moved) // 2 :]
    return [(faster[place][1], faster[place][1] + 1) for place in spread(len(faster), PAIRS)]


def _upright(access: FolderAccess, folder: OutdoorFolder, index: int) -> np.ndarray:
    """``(P, 3)`` points near by that belong to walls, poles, trees and cars."""
    frame = folder.frames[index]
    sweep = read_sweep(access, frame.lidar, frame_name(frame), folder.classes)
    points = sweep.points[:, :3] + sweep.offset
    middle = np.array(frame.lidar.sensor_origin or np.median(points, 0))
    distances = np.linalg.norm((points - middle)[:, :2], axis=-1)
    points = points[(distances > 2.5) & (distances < FARTHEST)]
    if not len(points):
        return points
    x, y = np.floor(points[:, :2] - points[:, :2].min(0)).astype(np.int64).T
    cells = x * (y.max() + 1) + y
    lowest, highest = np.full(cells.max() + 1, np.inf), np.full(cells.max() + 1, -np.inf)
    np.minimum.at(lowest, cells, points[:, 2])
    np.maximum.at(highest, cells, points[:, 2])
    return points[(highest - lowest)[cells] > UPRIGHT]


def _motions(folder: OutdoorFolder, first: int, second: int) -> dict[str, np.ndarray]:
    """Motions from the first sweep's frame to the second's, with every mistake mended."""
    entries = folder.frames[first].lidar, folder.frames[second].lidar
    egos = [np.array(entry.ego_to_global, dtype=np.float64) for entry in entries]
    mounts = [np.array(entry.lidar_to_ego, dtype=np.float64) for entry in entries]

    def between(poses: list[np.ndarray]) -> np.ndarray:
        return np.linalg.inv(poses[1]) @ poses[0]

    motions = {
        mistake.name: between(
            [
                mistake.pose(ego) @ mount @ mistake.lidar_axes @ mistake.own_axes
                for ego, mount in zip(egos, mounts, strict=True)
            ]
        )
        for mistake in MISTAKES
    }
    back = [ego @ np.linalg.inv(mount) for ego, mount in zip(egos, mounts, strict=True)]
    return motions | {LIDAR_TO_EGO: between(back), NOT_MOVED: np.eye(4)}


def _overlaps(here: np.ndarray, there: np.ndarray, motions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For each motion, which points of the one sweep lie on the other."""
    random = np.random.default_rng(0)
    here = here[random.permutation(len(here))[:POINTS]]
    middle = there.mean(0)
    targets = torch.from_numpy(there[random.permutation(len(there))[:TARGETS]] - middle).float()
    found = {}
    for name, motion in motions.items():
        moved = torch.from_numpy(here @ motion[:3, :3].T + motion[:3, 3] - middle).float()
        found[name] = (torch.cdist(moved, targets).amin(-1) < CLOSE).numpy()
    return found
