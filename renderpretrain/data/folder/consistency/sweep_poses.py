"""Sweeps one after another: placed in the world by their poses, walls and poles lie on themselves."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.findings import Finding, fitting_best, untested, within
from renderpretrain.data.folder.consistency.mistakes import (
    AS_GIVEN,
    BODY,
    OF_LIDAR_AXES,
    OF_POSES,
    OF_RIGID_POSES,
    Mistake,
    scaled,
    spread,
)
from renderpretrain.data.folder.consistency.upright import stands_upright
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.files import read_sweep
from renderpretrain.data.folder.order import Timeline
from renderpretrain.data.folder.schema import OutdoorFolder, frame_name

PAIRS = 4
"""Pairs of sweeps that are looked at."""

POINTS, TARGETS = 600, 5000
"""Points of one sweep, and of the other that they are compared with."""

FARTHEST = 30.0
"""Metres; beyond, points are too sparse to lie on each other."""

CLOSE = 0.3
"""Metres within which a point lies on another sweep."""

FEWEST = 200
"""Points below which nothing is said."""

CLEARER, TIMES, EQUAL = 0.12, 1.4, 0.02
"""A mistake is told where the share of points that overlap is so much higher, and so many times; and with it
those of equal share."""

MISTAKES = (
    AS_GIVEN,
    *OF_POSES,
    Mistake("translations a thousand times, from kilometres", scaled(1e3)),
    *OF_LIDAR_AXES,
    Mistake("LiDAR poses, where these are a camera's (x right, y down, z forward)", own_axes=BODY),
)

NOT_MOVED = "no poses, for the points are in one frame already"
LIDAR_TO_EGO = "lidar_to_ego inverted"


def sweep_pose_findings(
    access: FolderAccess, folder: OutdoorFolder, until: float = math.inf
) -> Iterator[Finding]:
    """Poses under which neighbouring sweeps overlap far less than under a mistake mended.

    Args:
        access: How the folder's files are read.
        folder: Its parsed ``frames.json``.
        until: When to stop looking, as ``time.monotonic()`` counts.
    """
    ways = _ways(folder)
    if not ways:
        if any(frame.lidar.ego_to_global is not None for frame in folder.frames):
            yield untested("poses", "no two frames of one scene have ego_to_global")
        return
    overlaps, told_apart = _look(access, folder, within(until, _pairs(ways)))
    shares = {
        name: float(np.concatenate([overlap[name] for overlap in overlaps]).mean())
        for name in (overlaps[0] if overlaps else ())
    }
    problem = _verdict(shares)
    count = sum(len(overlap[AS_GIVEN.name]) for overlap in overlaps)
    if count < FEWEST:
        yield untested("poses", f"{count} points near by stand upright, {FEWEST} are needed")
    elif problem is not None:
        yield Finding(f"{access.path}: lidar.ego_to_global: {problem.format(count=len(overlaps))}")
    elif not told_apart:
        moved = sum(np.linalg.norm(way[:3, 3]) for way in ways.values())
        yield untested(
            "poses", f"the sensor moves {moved:.1f} m, which puts sweeps on each other with wrong poses, too"
        )


def _look(
    access: FolderAccess, folder: OutdoorFolder, pairs: Iterable[tuple[int, int]]
) -> tuple[list[dict[str, np.ndarray]], bool]:
    """What overlaps in each pair of sweeps with every mistake mended; whether their motion tells mistakes."""
    overlaps: list[dict[str, np.ndarray]] = []
    told_apart = False
    for first, second in pairs:
        try:
            here, there = (_upright(access, folder, k) for k in (first, second))
        except SceneFolderError:
            continue
        if len(here) and len(there):
            motions = _motions(folder, first, second)
            told_apart = told_apart or _are_told_apart(here, motions)
            overlaps.append(_overlaps(here, there, motions))
    return overlaps, told_apart


def _verdict(shares: dict[str, float]) -> str | None:
    """The mistake that fits better, with the numbers and a place for the count of pairs; else ``None``."""
    given = shares.get(AS_GIVEN.name, 0.0)
    best = max(shares.values(), default=0.0)
    if best - given < CLEARER or best < TIMES * given:
        return None
    return (
        f"expected {fitting_best(shares, EQUAL)}: then {best:.0%} of the upright points of {{count}} pairs "
        f"of sweeps lie within {CLOSE} m of the other sweep, got {given:.0%} with what is given"
    )


def _ways(folder: OutdoorFolder) -> dict[tuple[int, int], np.ndarray]:
    """The motion between each two frames that follow each other in time and have poses, 4x4."""
    timeline, ways = Timeline(folder.frames, math.inf), {}
    for later in range(len(folder.frames)):
        pair = tuple(timeline.up_to(later, 2)[::-1])
        poses = [folder.frames[k].lidar.ego_to_global for k in pair]
        if len(pair) == 2 and None not in poses:
            ways[pair] = np.linalg.inv(np.array(poses[0])) @ np.array(poses[1])
    return ways


def _pairs(ways: dict[tuple[int, int], np.ndarray]) -> list[tuple[int, int]]:
    """Neighbours, those that moved most for their recording."""
    moved = sorted((float(np.linalg.norm(way - np.eye(4))), pair) for pair, way in ways.items())
    faster = moved[len(moved) // 2 :]
    return [faster[place][1] for place in spread(len(faster), PAIRS)]


def _are_told_apart(points: np.ndarray, motions: dict[str, np.ndarray]) -> bool:
    """Whether some usual mistake would have put most of a sweep's points elsewhere than they are."""
    given = motions[AS_GIVEN.name]
    away = [
        np.linalg.norm(
            points @ (motions[mistake.name] - given)[:3, :3].T + (motions[mistake.name] - given)[:3, 3],
            axis=-1,
        )
        for mistake in OF_RIGID_POSES
    ]
    return max(float(np.median(each)) for each in away) > CLOSE


def _upright(access: FolderAccess, folder: OutdoorFolder, index: int) -> np.ndarray:
    """``(P, 3)`` points near by that belong to walls, poles, trees and cars."""
    frame = folder.frames[index]
    sweep = read_sweep(access, frame.lidar, frame_name(frame), folder.classes)
    points = sweep.points[:, :3] + sweep.offset
    middle = np.array(frame.lidar.sensor_origin or np.median(points, 0))
    distances = np.linalg.norm((points - middle)[:, :2], axis=-1)
    points = points[(distances > 2.5) & (distances < FARTHEST)]
    return points[stands_upright(points)]


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
