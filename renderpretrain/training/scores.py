"""How far predicted rays are from what the sensors saw, pooled over rays."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.samplers import RayTargets

NUM_SUMS = 6
"""Relative depth error, squared depth error, rays with depth, squared colour error, colour values, rays whose
depth is nearly right."""

NEARLY = 1.25
"""Factor by which a depth that is nearly right may be off."""


RANGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Metres between the intervals of true depth over which the error is told; the last one has no end."""

ROWS = 2048
"""Points whose distances to all others are held at once."""


def score_sums(
    depth: Float[Tensor, "B R"], rgb: Float[Tensor, "B R 3"] | None, targets: RayTargets
) -> Float[Tensor, "6"]:
    """Sums over the rays that add up across scenes and processes; :func:`scores` turns them into numbers.

    Args:
        depth: Predicted distance along the ray, metres.
        rgb: Predicted colour in [0, 1], or ``None``.
        targets: Depth counts where ``hit``, colour where ``rgb_valid``.
    """
    sums = torch.zeros(NUM_SUMS, dtype=torch.float64, device=depth.device)
    error = torch.where(targets.hit, depth.double() - targets.depth.double(), 0.0)
    # A return closer than a millimetre is the sensor itself; dividing by it would drown every other ray.
    sums[0] = (error.abs() / targets.depth.double().clamp(min=1e-3)).sum()
    sums[1] = error.square().sum()
    sums[2] = targets.hit.sum()
    ratio = depth.double().clamp(min=1e-3) / targets.depth.double().clamp(min=1e-3)
    sums[5] = (targets.hit & (torch.maximum(ratio, 1 / ratio) < NEARLY)).sum()
    if rgb is not None:
        valid = targets.rgb_valid[..., None]
        sums[3] = torch.where(valid, rgb.double() - targets.rgb.double(), 0.0).square().sum()
        sums[4] = 3 * targets.rgb_valid.sum()
    return sums


def range_sums(depth: Float[Tensor, "B R"], targets: RayTargets) -> Float[Tensor, "ranges 2"]:
    """Relative error and number of the rays with depth, by interval of :data:`RANGES`; they add up likewise.

    Args:
        depth: Predicted distance along the ray, metres.
        targets: Depth counts where ``hit``, in the interval where the true one lies.
    """
    true = targets.depth.double()
    error = torch.where(targets.hit, depth.double() - true, 0.0).abs() / true.clamp(min=1e-3)
    interval = torch.bucketize(true, true.new_tensor(RANGES), right=True)
    every = torch.arange(len(RANGES) + 1, device=true.device)
    inside = targets.hit[..., None] & (interval[..., None] == every)
    errors = torch.where(inside, error[..., None], 0.0)
    return torch.stack([errors.sum((0, 1)), inside.double().sum((0, 1))], 1)


def scores_over_range(sums: Float[Tensor, "ranges 2"]) -> dict[str, float]:
    """``8-16/abs_rel`` and ``8-16/rays`` by interval in metres, ``64-`` the farthest; none without a ray."""
    edges = ["0", *(f"{edge:g}" for edge in RANGES), ""]
    found: dict[str, float] = {}
    for (near, far), (error, rays) in zip(pairwise(edges), sums.tolist(), strict=True):
        if rays:
            found |= {f"{near}-{far}/abs_rel": error / rays, f"{near}-{far}/rays": rays}
    return found


def scores(sums: Float[Tensor, "6"]) -> dict[str, float]:
    """Named scores; one without a single ray is absent.

    Returns:
        ``depth_abs_rel``: mean of ``|d - d*| / d*``. ``depth_rmse``: root of the mean squared error, metres.
        ``depth_delta``: share of the depths that are off by less than a factor of 1.25.
        ``psnr``: ``-10 log10`` of the mean squared colour error over all rays together, dB.
    """
    relative, squared, num_depth, colour, num_colour, nearly = sums.tolist()
    found = {}
    if num_depth:
        found["depth_abs_rel"] = relative / num_depth
        found["depth_rmse"] = math.sqrt(squared / num_depth)
        found["depth_delta"] = nearly / num_depth
    if num_colour:
        found["psnr"] = -10 * math.log10(max(colour / num_colour, 1e-10))
    return found


def chamfer(points: Float[Tensor, "P 3"], others: Float[Tensor, "Q 3"]) -> float:
    """Mean distance to the nearest of the other points, in metres, averaged over both ways.

    Args:
        points: At least one.
        others: At least one.
    """
    ways = [
        torch.cat([torch.cdist(part, b).amin(1) for part in a.split(ROWS)]).mean()
        for a, b in ((points, others), (others, points))
    ]
    return float((ways[0] + ways[1]) / 2)


class ClassCount(NamedTuple):
    """How often a class was seen, by its name.

    Attributes:
        name: Of the class.
        both: Rays that show it and are said to.
        said: Rays that are said to show it.
        true: Rays that show it.
    """

    name: str
    both: int
    said: int
    true: int


def class_counts(
    said: Int[Tensor, "*rays"], true: Int[Tensor, "*rays"], names: Sequence[str]
) -> tuple[ClassCount, ...]:
    """Counts of every class; :func:`mean_iou` turns those of several scenes into a number.

    Args:
        said: Predicted class.
        true: The class that is there; rays whose number has no name, such as -1, do not count.
        names: Of the classes, by number.
    """
    valid = (true >= 0) & (true < len(names))
    said, true = said[valid], true[valid]
    inside = said[(said >= 0) & (said < len(names))]
    rows = [torch.bincount(x, minlength=len(names)).tolist() for x in (true[said == true], inside, true)]
    return tuple(ClassCount(*row) for row in zip(names, *rows, strict=True))


def mean_iou(counts: Iterable[ClassCount]) -> float | None:
    """Mean over the classes that occur of intersection over union; ``None`` if none does.

    Equal names are one class, whichever scene or data set they come from.
    """
    total: dict[str, tuple[int, int, int]] = {}
    for name, *row in counts:
        both, said, true = total.get(name, (0, 0, 0))
        total[name] = (both + row[0], said + row[1], true + row[2])
    ious = [both / (said + true - both) for both, said, true in total.values() if true]
    return sum(ious) / len(ious) if ious else None
