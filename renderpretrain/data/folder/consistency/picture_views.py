"""Pictures of a room without depth: what stands out in one view is found again in another, at some depth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.findings import Finding, fitting_best, untested, within
from renderpretrain.data.folder.consistency.mistakes import AS_GIVEN, OF_CAMERAS, OF_RIGID_POSES, Mistake
from renderpretrain.data.folder.consistency.posed_views import PosedView, view_pairs
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.geometry import one_camera
from renderpretrain.data.folder.pictures import read_image, view_pictures
from renderpretrain.data.folder.schema import IndoorFolder, frame_name

STARTS, AHEAD = 4, (1, 2)
"""Views that are looked at, and how many views ahead those lie in which corners are searched."""

LONGEST = 320
"""Pixels of a picture's longer side."""

CORNERS, REACH, LEAST_CORNER = 60, 3, 4.0
"""Corners of a view, the pixels around each that are compared, and what makes one: squared grey levels."""

DEPTHS, NEAREST = 48, 1.5
"""Depths that are tried, even in their inverse, from infinity to so many times the way between the views."""

ALIKE, NOISE = 0.8, 5.0
"""Correlation from which a corner is found again, and grey levels that correlate with nothing."""

CLEARER, TIMES, EQUAL = 0.08, 2.0, 0.02
"""A mistake is told where the share is so much higher, and so many times; with it those of equal share."""

FEWEST = 200
"""Corners below which nothing is said."""

MOVED, FEWEST_MOVED = 0.3, 40
"""How much better a corner is found at its depth than at infinity if the views tell it; how many must be."""

LEAST_AWAY, MOST_AWAY = 0.05, 500.0
"""Metres from a camera to what it shows."""

MISTAKES = (AS_GIVEN, *OF_RIGID_POSES, *OF_CAMERAS)


@dataclass(frozen=True)
class _View(PosedView):
    """A view with its grey picture ``(H, W)`` and the pixels ``(N, 2)``, ``(u, v)``, of its corners."""

    grey: torch.Tensor
    corners: torch.Tensor


def picture_view_findings(
    access: FolderAccess, folder: IndoorFolder, until: float = math.inf
) -> Iterator[Finding]:
    """Poses, axes and intrinsics under which pictures of neighbouring views do not show the same things.

    Only along the right lines of sight are corners found again, whatever their depth. That depth follows from
    the way between the views, so that it also tells translations in another unit than metres.

    Args:
        access: How the folder's files are read.
        folder: Its parsed ``frames.json``.
        until: When to stop looking, as ``time.monotonic()`` counts.
    """
    views: dict[int, _View | None] = {}
    pairs = []
    for first, second in within(until, view_pairs(folder, STARTS, AHEAD)):
        here, there = (views.setdefault(k, _read(access, folder, k)) for k in (first, second))
        if here is not None and there is not None:
            pairs.append((here, there))
    corners = sum(len(here.corners) for here, _ in pairs)
    if corners < FEWEST:
        seen = f"{corners} corners stand out of the pictures of neighbouring views"
        yield untested("camera_to_world, intrinsics", f"{seen}, {FEWEST} are needed")
        return
    given, away = _found(pairs, AS_GIVEN)
    if given * TIMES < 1:
        shares = {mistake.name: _found(pairs, mistake)[0] for mistake in MISTAKES[1:]}
        best = max(shares, key=lambda name: shares[name])
        if shares[best] - given >= CLEARER and shares[best] >= TIMES * given:
            yield Finding(
                f"{access.path}: camera_to_world, intrinsics: expected {fitting_best(shares, EQUAL)}: then "
                f"{shares[best]:.0%} of the corners of pictures are found again in neighbouring views, got "
                f"{given:.0%} with what is given"
            )
            return
    if given >= CLEARER and (away < LEAST_AWAY or away > MOST_AWAY):
        yield Finding(
            f"{access.path}: camera_to_world: expected translations in metres: with them what pictures show "
            f"is {LEAST_AWAY} to {MOST_AWAY:g} m away, got {away:.3g} m in the median"
        )


def _read(access: FolderAccess, folder: IndoorFolder, index: int) -> _View | None:
    """A view, or ``None`` where its picture cannot be read or its place is not known."""
    frame = folder.frames[index]
    if frame.camera_to_world is None:
        return None
    file = view_pictures(access, folder, frame, frame_name(frame))["color"]
    scale = min(1.0, LONGEST / max(file.size))
    size = (max(1, round(file.size[0] * scale)), max(1, round(file.size[1] * scale)))
    try:
        grey = torch.from_numpy(read_image(file, size)).float().mean(-1)
    except SceneFolderError:
        return None
    pose = np.array(frame.camera_to_world, dtype=np.float64)
    camera = one_camera(frame.intrinsics, frame, np.eye(4), file.size)
    return _View(pose, camera.resize(size), grey, _corners(grey))


def _corners(grey: torch.Tensor) -> torch.Tensor:
    """``(N, 2)`` pixels around which the picture changes along both axes: the strongest, apart."""
    across, down = torch.zeros_like(grey), torch.zeros_like(grey)
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    down[1:-1] = grey[2:] - grey[:-2]

    def near_by(values: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(values[None], 7, 1, 3)[0]

    a, b, c = near_by(across * across), near_by(down * down), near_by(across * down)
    least = (a + b) / 2 - (((a - b) / 2).square() + c * c).sqrt()
    apart = least == max_pool2d(least[None], 15, 1, 7)[0]
    edge = torch.ones_like(apart)
    edge[2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH] = False
    strength = torch.where(apart & ~edge & (least > LEAST_CORNER), least, 0.0).flatten()
    chosen = strength.argsort(descending=True, stable=True)[:CORNERS]
    chosen = chosen[strength[chosen] > 0]
    return torch.stack([chosen % grey.shape[1], chosen // grey.shape[1]], -1)


def _found(pairs: list[tuple[_View, _View]], mistake: Mistake) -> tuple[float, float]:
    """The share of corners that are found again, were the mistake mended; how far away they are, metres.

    The latter is not a number where too few moved between the views.
    """
    searched = [_search(here.mended(mistake), there.mended(mistake)) for here, there in pairs]
    alike, gain, away = (torch.cat(parts) for parts in zip(*searched, strict=True))
    again = alike > ALIKE
    moved = away[again & (gain > MOVED)]
    median = float(moved.median()) if len(moved) >= FEWEST_MOVED else float("nan")
    return float(again.float().mean()), median


def _search(here: _View, there: _View) -> tuple[torch.Tensor, ...]:
    """How well each corner of the one view is found in the other, -1 to 1, and how far from the one it is.

    Between them, how much better it is found there than at infinity.
    """
    steps = torch.arange(-REACH, REACH + 1)
    pixels = here.corners[:, None] + torch.cartesian_prod(steps, steps)
    u, v = pixels.unbind(-1)
    motion = here.motion_to(there)
    way = float(motion[:3, 3].norm())
    directions = here.camera.rays(pixels.flatten(0, 1) + 0.5).directions
    directions = (directions / directions[:, 2:]) @ motion[:3, :3].T.float()
    inverse = torch.linspace(0, 1 / NEAREST, DEPTHS)
    points = directions[:, None] + (motion[:3, 3] / max(way, 1e-9)).float() * inverse[:, None]
    places, _, inside = there.camera.project(points.flatten(0, 1))
    size = torch.tensor(there.grey.shape[::-1])
    places = torch.where(inside[:, None], 2 * places / size - 1, 0.0)
    seen = grid_sample(there.grey[None, None], places[None, None], align_corners=False)
    alike = _correlation(here.grey[v, u][..., None], seen.view(*pixels.shape[:2], DEPTHS))
    alike = torch.where(inside.view(*pixels.shape[:2], DEPTHS).all(1), alike, -1.0)
    best, at = alike.max(1)
    return best, best - alike[:, 0], way / inverse[at]


def _correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``(N, S)`` of patches ``(N, K, 1)`` and ``(N, K, S)``; near 0 where nothing stands out of the noise."""
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    least = NOISE * one.shape[1] ** 0.5
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1) + least)
