"""LiDAR beside pictures: where depth jumps, a picture has an edge, if the calibration is right."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.findings import Finding, fitting_best, untested, within
from renderpretrain.data.folder.consistency.mistakes import (
    AS_GIVEN,
    OF_CAMERAS,
    OF_LIDAR_AXES,
    OF_POSES,
    Mistake,
    spread,
)
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.files import Sweep, read_sweep
from renderpretrain.data.folder.geometry import camera_to_lidar, one_camera
from renderpretrain.data.folder.lidar_entry import LidarEntry
from renderpretrain.data.folder.pictures import frame_pictures, read_image
from renderpretrain.data.folder.schema import CameraEntry, OutdoorFolder, frame_name
from renderpretrain.geometry import Cameras

FRAMES, POINTS = 4, 4000
"""Frames that are looked at, and of their points so many at jumps of depth and so many others."""

WIDTH = 480
"""Pixels across the pictures that edges are looked for in."""

NEAREST = 2.5
"""Metres; nearer returns are of the recording car."""

ROW = 0.2
"""Degrees of elevation in which returns count as neighbours where no column tells their beam."""

GAP = 1.5
"""Degrees between neighbours at most."""

JUMP = (0.5, 0.1)
"""Metres, and share of the distance, from which a difference of neighbours counts as a jump."""

STEEP_JUMP = (1.0, 0.5)
"""The same for returns one above the other: on level ground, distances grow by themselves."""

COLUMN = 0.4
"""Degrees of azimuth in which returns count as one above the other."""

CLEAR, CLEARER = 4.5, 3.5
"""A mistake is told where its score is as high, and so much above that of what is given. Right calibrations
score 5 to 12 on one picture and 10 to 35 on several; wrong ones up to 4, or more if they are nearly right."""

EQUAL = 0.5
"""Mistakes of scores that lie so near are told together."""

ONE_CAMERA = 8.0
"""The same for one camera of several, whose scores vary more."""

LEAST_SPREAD = 0.1
"""Deviation of the points in a picture, widths of it, below which nothing is said."""

FEWEST = 40
"""Points at jumps in a picture below which nothing is said."""

MISTAKES = (AS_GIVEN, *OF_POSES, *OF_CAMERAS, *OF_LIDAR_AXES)


@dataclass(frozen=True)
class _Edges:
    """Edge strengths that a camera's picture has at points where depth jumps, and at others."""

    jumps: np.ndarray
    others: np.ndarray
    share: float


@dataclass(frozen=True)
class _Score:
    """How far the first mean lies above the second, in standard errors, and the share of points in view."""

    value: float
    share: float


def lidar_image_findings(
    access: FolderAccess, folder: OutdoorFolder, until: float = math.inf
) -> Iterator[Finding]:
    """Calibrations that put the LiDAR's jumps of depth beside the pictures' edges, where a mistake mends it.

    Args:
        access: How the folder's files are read.
        folder: Its parsed ``frames.json``.
        until: When to stop looking, as ``time.monotonic()`` counts.
    """
    seen: dict[str, list[list[_Edges]]] = defaultdict(lambda: [[] for _ in MISTAKES])
    with_pictures = [k for k, frame in enumerate(folder.frames) if frame.cameras]
    for place in within(until, spread(len(with_pictures), FRAMES)):
        _look(access, folder, with_pictures[place], seen)
    together = [[edges for camera in seen.values() for edges in camera[m]] for m in range(len(MISTAKES))]
    problem = _verdict(together, CLEAR, CLEARER)
    if problem is not None:
        yield Finding(f"{access.path}: cameras: {problem}")
        return
    yield from _untested(seen, together[0])
    for name, camera in seen.items():
        problem = _verdict(camera, ONE_CAMERA, ONE_CAMERA)
        if problem is not None:
            yield Finding(f"{access.path}: cameras.{brief(name)}: {problem}")


def _untested(seen: dict[str, list[list[_Edges]]], together: list[_Edges]) -> Iterator[Finding]:
    """Cameras of which pictures and points tell too little."""
    few = [brief(name) for name, camera in seen.items() if _fewest(camera[0]) < FEWEST]
    score = _score(together).value
    if few:
        why = (
            f"fewer than {FEWEST} points at jumps of the LiDAR's depth, or beside them, are in their pictures"
        )
        yield untested(f"cameras {', '.join(few)}", why)
    elif seen and score < CLEAR:
        agree = f"jumps of the LiDAR's depth lie on edges of the pictures with {score:.1f} standard errors"
        yield untested("cameras", f"{agree} as given, {CLEAR} are needed, and no usual mistake mends it")


def _fewest(seen: list[_Edges]) -> int:
    """Points at jumps of depth, or others, of which there are fewer."""
    return min(sum(len(edges.jumps) for edges in seen), sum(len(edges.others) for edges in seen))


def _look(
    access: FolderAccess, folder: OutdoorFolder, index: int, seen: dict[str, list[list[_Edges]]]
) -> None:
    """Add what a frame's pictures say to every mistake; what cannot be read is left out."""
    frame = folder.frames[index]
    name = frame_name(frame)
    try:
        sweep = read_sweep(access, frame.lidar, name, folder.classes)
    except SceneFolderError:
        return
    told = frame.lidar.sensor_origin
    points, jumps = _points_at_jumps(sweep, np.zeros(3) if told is None else np.array(told) - sweep.offset)
    for camera, file in frame_pictures(access, frame, name).items():
        entry = frame.cameras[camera]
        factor = max(1.0, entry.width / WIDTH)
        size = (max(1, round(entry.height / factor)), max(3, round(entry.width / factor)))
        try:
            picture = _edge_strengths(read_image(file, size))
        except SceneFolderError:
            continue
        for mistake, found in zip(MISTAKES, seen[camera], strict=True):
            view = _camera(entry, frame.lidar, mistake, sweep.offset).resize(size)
            found.append(_edges_at(view, points, jumps, picture))


def _edges_at(view: Cameras, points: torch.Tensor, jumps: np.ndarray, picture: torch.Tensor) -> _Edges:
    """What a picture has where a camera sees the points."""
    pixels, _, inside = view.project(points)
    share = float(inside.float().mean())
    across = pixels[inside, 0].numpy()
    if not len(across) or across.std() < LEAST_SPREAD * view.image_size[1]:
        # A camera far away sees all points in one corner of its picture: there is an edge, or there is none.
        return _Edges(np.zeros(0), np.zeros(0), share)
    u, v = pixels[inside].long().unbind(-1)
    upright, level = picture[:, v, u].numpy()
    kinds = jumps[inside.numpy()]
    at_jumps = np.concatenate([upright[kinds == 1], level[kinds == 2]])
    return _Edges(at_jumps, np.concatenate([upright[kinds == 0], level[kinds == 0]]), share)


def _camera(entry: CameraEntry, lidar: LidarEntry, mistake: Mistake, offset: np.ndarray) -> Cameras:
    """The camera in the LiDAR frame less the offset, were the mistake mended."""
    field = "camera_to_ego"
    if entry.lidar_to_camera is not None:
        field = "lidar_to_camera"
    elif entry.camera_to_global is not None and lidar.ego_to_global is not None:
        field = "camera_to_global"
    pose = mistake.pose(np.array(getattr(entry, field), dtype=np.float64)).tolist()
    to_lidar = camera_to_lidar(entry.model_copy(update={field: pose}), lidar, offset)
    to_lidar = np.linalg.inv(mistake.own_axes @ np.linalg.inv(to_lidar) @ mistake.lidar_axes)
    to_lidar[:3, 3] -= offset
    intrinsics = np.array(entry.intrinsics, dtype=np.float64)
    intrinsics[:2] *= mistake.intrinsics
    return one_camera(intrinsics.tolist(), entry, to_lidar, (entry.height, entry.width))


def _points_at_jumps(sweep: Sweep, origin: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Some points of a sweep, and whether depth jumps beside them (1), above or below (2), or not (0)."""
    offsets = sweep.points[:, :3].astype(np.float64) - origin
    distances = np.linalg.norm(offsets, axis=-1)
    azimuth = np.rad2deg(np.arctan2(offsets[:, 1], offsets[:, 0]))
    elevation = np.rad2deg(np.arcsin(np.clip(offsets[:, 2] / np.maximum(distances, 1e-6), -1, 1)))
    rows = np.floor(elevation / ROW).astype(np.int64) if sweep.rings is None else sweep.rings
    columns = np.floor(azimuth / COLUMN).astype(np.int64)
    jumps = np.where(_jumps(distances, columns, elevation, STEEP_JUMP), 2, 0)
    jumps[_jumps(distances, rows, azimuth, JUMP)] = 1
    random = np.random.default_rng(0)
    far = distances > NEAREST
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(far & (jumps == k)))[:POINTS] for k in range(3)]
    )
    return torch.from_numpy(sweep.points[chosen, :3]), jumps[chosen]


def _jumps(
    distances: np.ndarray, lines: np.ndarray, along: np.ndarray, least: tuple[float, float]
) -> np.ndarray:
    """Points on the near side of a jump of depth to a neighbour of the same line."""
    order = np.lexsort((along, lines))
    order = order[distances[order] > NEAREST]
    near_by = (np.diff(lines[order]) == 0) & (np.diff(along[order]) < GAP)
    sorted_distances = distances[order]
    rise = np.diff(sorted_distances)
    limit = least[0] + least[1] * np.minimum(sorted_distances[1:], sorted_distances[:-1])
    found = np.zeros(len(distances), dtype=bool)
    found[order[:-1][near_by & (rise > limit)]] = True
    found[order[1:][near_by & (rise < -limit)]] = True
    return found


def _edge_strengths(picture: np.ndarray) -> torch.Tensor:
    """``(2, H, W)``: how much stronger an upright and a level edge is here than near by, -1 to 2 deviations.

    Edges are often where points are, whatever the calibration: only what stands out in its neighbourhood
    tells calibrations apart.
    """
    grey = torch.from_numpy(picture).float().mean(-1)
    return torch.stack([_upright_edges(grey), _upright_edges(grey.mT.contiguous()).mT])


def _upright_edges(grey: torch.Tensor) -> torch.Tensor:
    """Strengths ``(H, W)`` of upright edges, as :func:`_edge_strengths` gives them."""
    steps = torch.zeros_like(grey)
    steps[:, 1:-1] = (grey[:, 2:] - grey[:, :-2]).abs()
    steps = max_pool2d(steps[None], (1, 3), 1, (0, 1))

    def near_by(values: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(values, (5, 41), 1, (2, 20), count_include_pad=False)

    mean = near_by(steps)
    deviation = (near_by(steps * steps) - mean * mean).clamp(min=0).sqrt() + 2  # of 255 grey levels: noise
    return ((steps - mean) / deviation).clamp(-1, 2)[0]


def _score(seen: list[_Edges]) -> _Score:
    """The evidence of several pictures together; 0 where there is too little."""
    share = float(np.mean([edges.share for edges in seen])) if seen else 0.0
    jumps = np.concatenate([edges.jumps for edges in seen]) if seen else np.zeros(0)
    others = np.concatenate([edges.others for edges in seen]) if seen else np.zeros(0)
    if _fewest(seen) < FEWEST:
        return _Score(0.0, share)
    error = np.sqrt(jumps.var() / len(jumps) + others.var() / len(others))
    return _Score(float((jumps.mean() - others.mean()) / max(error, 1e-9)), share)


def _verdict(seen: list[list[_Edges]], clear: float, clearer: float) -> str | None:
    """The mistake that fits better, with the numbers; ``None`` where what is given fits, or nothing does."""
    given, *mended = [_score(edges) for edges in seen]
    best = max(range(len(mended)), key=lambda m: mended[m].value)
    score = mended[best]
    if score.value < clear or score.value - max(given.value, 0.0) < clearer:
        return None
    scores = {mistake.name: each.value for mistake, each in zip(MISTAKES[1:], mended, strict=True)}
    return (
        f"expected {fitting_best(scores, EQUAL)}: that puts jumps of the LiDAR's depth on edges of the "
        f"pictures with {score.value:.1f} standard errors and {score.share:.0%} of the points in a picture, "
        f"got {given.value:.1f} and {given.share:.0%} with what is given"
    )
