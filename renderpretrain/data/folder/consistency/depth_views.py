"""Depth images of one room: what one view measured, another measures at the place where it sees it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.findings import Finding, fitting_best, untested, within
from renderpretrain.data.folder.consistency.mistakes import AS_GIVEN, OF_CAMERAS, OF_RIGID_POSES, Mistake
from renderpretrain.data.folder.consistency.posed_views import PosedView, view_pairs
from renderpretrain.data.folder.depths import read_depth
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.geometry import lens_depths, one_camera
from renderpretrain.data.folder.pictures import view_pictures
from renderpretrain.data.folder.registration import registered
from renderpretrain.data.folder.schema import IndoorFolder, frame_name
from renderpretrain.geometry import transform

STARTS, AHEAD = 6, (1, 2, 4, 8)
"""Views that are looked at, and how many views ahead those lie that they are compared with."""

PIXELS = 600
"""Measured pixels of a view."""

SHARP = 0.02
"""Share of the depth by which two views may differ and still half agree: a depth camera's noise."""

CLEARER, TIMES, EQUAL = 0.08, 1.3, 0.01
"""A mistake is told where views agree so much more, and so many times; with it those that agree as well."""

FEWEST = 500
"""Pixels below which nothing is said."""

WRONG = 0.2
"""Median relative difference from which a recording is wrong though no mistake of ours mends it."""

DEPTHS = tuple(
    Mistake(f"depths times {factor:g} (depth_scale over {factor:g})", depth=factor)
    for factor in (1e3, 10, 5, 4, 2, 0.5, 0.25, 0.2, 0.1, 1e-3)
)
MISTAKES = (AS_GIVEN, *DEPTHS, *OF_RIGID_POSES, *OF_CAMERAS)


@dataclass(frozen=True)
class _View(PosedView):
    """A view with its depth image, and some measured pixels."""

    depth: torch.Tensor
    pixels: torch.Tensor


def depth_view_findings(
    access: FolderAccess, folder: IndoorFolder, until: float = math.inf
) -> Iterator[Finding]:
    """Poses, axes, intrinsics and depth units under which views contradict each other.

    Args:
        access: How the folder's files are read.
        folder: Its parsed ``frames.json``.
        until: When to stop looking, as ``time.monotonic()`` counts.
    """
    known: dict[int, _View | None] = {}
    errors: list[list[np.ndarray]] = [[] for _ in MISTAKES]
    for first, second in within(until, view_pairs(folder, STARTS, AHEAD)):
        views = [known.setdefault(k, _read(access, folder, k)) for k in (first, second)]
        here, there = views
        if here is None or there is None:
            continue
        for mistake, found in zip(MISTAKES, errors, strict=True):
            found.append(_differences(here.mended(mistake), there.mended(mistake), mistake.depth))
    together = [np.concatenate(found) if found else np.zeros(0) for found in errors]
    if len(together[0]) < FEWEST:
        compared = f"{len(together[0])} measured pixels of neighbouring views can be compared"
        yield untested("camera_to_world, intrinsics, depth_scale", f"{compared}, {FEWEST} are needed")
        return
    scores = [float(np.mean(1 / (1 + (error / SHARP) ** 2))) for error in together]
    best = int(np.argmax(scores))
    seen = [error[np.isfinite(error)] for error in together]
    told = [f"{_median(e):.1%} in the median, {len(e) / len(together[0]):.0%} in view" for e in seen]
    where = f"{access.path}: camera_to_world, intrinsics, depth_scale"
    if scores[best] - scores[0] >= CLEARER and scores[best] >= TIMES * scores[0]:
        named = {mistake.name: score for mistake, score in zip(MISTAKES, scores, strict=True)}
        yield Finding(
            f"{where}: expected {fitting_best(named, EQUAL)}: then depth images of neighbouring views differ "
            f"by {told[best]}, got {told[0]} with what is given"
        )
    elif len(seen[0]) >= FEWEST and _median(seen[0]) > WRONG:
        yield Finding(f"{where}: expected depth images of neighbouring views that agree, got {told[0]}")


def _median(error: np.ndarray) -> float:
    """The median; infinite of nothing."""
    return float(np.median(error)) if len(error) else float("inf")


def _read(access: FolderAccess, folder: IndoorFolder, index: int) -> _View | None:
    """A view with depth, or ``None`` where there is none that can be read."""
    frame = folder.frames[index]
    file = view_pictures(access, folder, frame, frame_name(frame)).get("depth")
    if file is None or frame.camera_to_world is None:
        return None
    try:
        depth = torch.from_numpy(read_depth(file, folder.depths))
    except SceneFolderError:
        return None
    pose = np.array(frame.camera_to_world, dtype=np.float64)
    camera = one_camera(frame.intrinsics, frame, np.eye(4), file.size)
    camera = camera.resize((depth.shape[0], depth.shape[1]))
    depth = lens_depths(camera, registered(depth, frame, camera))
    measured = torch.nonzero(depth > 0)
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(measured))[:PIXELS])
    return _View(pose, camera, depth, measured[chosen])


def _differences(here: _View, there: _View, factor: int | float) -> np.ndarray:
    """Relative difference of depth at some pixels of the one view; infinite where the other does not see.

    Both depths are multiplied with the factor.
    """
    rows, columns = here.pixels.unbind(-1)
    directions = here.camera.rays(torch.stack([columns, rows], -1) + 0.5).directions
    along = here.camera.depth_per_meter(directions)
    points = directions * (here.depth[rows, columns] * factor / along)[:, None]
    # Rooms may lie millions of metres from the origin of their map, too many for float32.
    moved = transform(here.motion_to(there), points.double()).float()
    pixels, z_depth, inside = there.camera.project(moved)
    u, v = torch.where(inside[:, None], pixels, 0.0).long().unbind(-1)
    other = there.depth[v, u] * factor
    error = (z_depth - other).abs() / other.clamp(min=1e-9)
    return torch.where(inside & (other > 0), error, torch.inf).numpy()
