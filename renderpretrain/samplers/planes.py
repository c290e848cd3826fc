"""Planes through the returns of a sweep: how surfaces face, and where they bend."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Points

CELL = 0.5
"""Degrees, of azimuth and of elevation, in which a sweep's nearest return stands for all."""

HIGHEST = 45.0
"""Degrees of elevation, up or down, beyond which all lie in one row."""

COLUMNS, ROWS = round(360 / CELL), round(2 * HIGHEST / CELL)

SIDE, ABOVE = 3, 5
"""Cells to either side, and above and below, whose returns count as neighbors."""

WIDE, WIDEST = 0.35, 4
"""Metres that neighbors of near returns span to either side, for noise is as large near by as far away; there
neighbors are in every so many-th cell at the most."""

REACH = (0.3, 0.1)
"""Metres, and share of the distance to the sensor, within which they do."""

FEWEST = 5
"""Neighbors below which there is no plane."""

FLATTEST, NARROWEST = 0.1, 0.02
"""Of the variances of the neighbors' places: the smallest is at most this share of the second, which is at
least that share of the largest. Else they lie around an edge, or on one line."""


@dataclass(frozen=True)
class LocalPlanes:
    """Planes through returns and their neighbors in the sweep.

    Attributes:
        normals: Unit vectors towards the sensor's side, world; 0 where not valid.
        variation: Share of the smallest of the three variances of the neighbors' places: 0 on a plane, 1 / 3
            in a cloud, 0 where there are too few.
        valid: Where there are enough neighbors and they lie on a plane.
    """

    normals: Float[Tensor, "B R 3"]
    variation: Float[Tensor, "B R"]
    valid: Bool[Tensor, "B R"]


def local_planes(points: Points, returns: Int[Tensor, "B R"]) -> LocalPlanes:
    """Planes by the directions of a sweep's returns: neighbors are those that the sensor saw side by side.

    What is in front of or behind a return by more than a share of its distance is no neighbor. The normal is
    that of least squares, as of Hoppe et al. 1992 (https://doi.org/10.1145/133994.134011); the variation is
    the surface variation of Pauly et al. 2002 (https://doi.org/10.1109/VISUAL.2002.1183771), section 2.
    Nothing is differentiable, nothing is drawn, and all sweeps with rows or columns do: of a batch.

    Args:
        points: Those of the key sweep count.
        returns: Rows of the points that are asked about, -1 for none.
    """
    check_shape("points.xyz", points.xyz, "B P 3")
    check_shape("returns", returns, "B R", B=len(points.xyz))
    if not points.xyz.shape[1]:
        nothing = points.xyz.new_zeros(*returns.shape, 3)
        return LocalPlanes(nothing, nothing[..., 0], torch.zeros_like(returns, dtype=torch.bool))
    with torch.no_grad():
        places = torch.where(points.key[..., None], points.xyz, 0.0)
        image, cell = range_image(points)
        there = returns >= 0
        asked = torch.where(there, returns, 0)
        center = places.gather(1, asked[..., None].expand(-1, -1, 3))
        sensor = points.origin[:, None] - center
        distance = sensor.square().sum(-1).sqrt()
        beside = _cells_around(cell.gather(1, asked), distance)
        index = image.gather(1, beside.flatten(1)).view(beside.shape)
        found = (index >= 0) & there[..., None]
        flat = torch.where(found, index, 0).flatten(1)[..., None].expand(-1, -1, 3)
        offsets = places.gather(1, flat).view(*beside.shape, 3) - center[:, :, None]
        reach = REACH[0] + REACH[1] * distance
        near = found & (offsets.square().sum(-1) < reach.square()[..., None])
        return _planes(offsets, near, sensor)


def range_image(points: Points) -> tuple[Int[Tensor, "B cells"], Int[Tensor, "B P"]]:
    """The row of the nearest key return of every cell, -1 for none; and the cell of every point."""
    offsets = torch.where(points.valid[..., None], points.xyz - points.origin[:, None], 0.0)
    cell = cells_of(offsets)
    squared = offsets.square().sum(-1).float()
    # Positive floats sort like their bits, so one integer minimum finds the nearest and its row.
    numbers = torch.arange(cell.shape[1], device=cell.device)
    nothing = torch.iinfo(torch.int64).max
    keys = torch.where(points.key, (squared.view(torch.int32).long() << 32) | numbers, nothing)
    image = torch.full((len(cell), ROWS * COLUMNS), nothing, device=cell.device)
    image = image.scatter_reduce(1, cell, keys, "amin")
    return torch.where(image == nothing, -1, image & 0xFFFFFFFF), cell


def cells_of(offsets: Float[Tensor, "B P 3"]) -> Int[Tensor, "B P"]:
    """The cell of every direction, given by offsets from the sensor in metres."""
    x, y, z = offsets.unbind(-1)
    azimuth, elevation = torch.atan2(y, x), torch.atan2(z, torch.hypot(x, y))
    column = ((azimuth / (2 * math.pi) + 0.5) * COLUMNS).long().clamp(0, COLUMNS - 1)
    row = ((elevation / math.radians(2 * HIGHEST) + 0.5) * ROWS).long().clamp(0, ROWS - 1)
    return row * COLUMNS + column


def _cells_around(cell: Int[Tensor, "B R"], distance: Float[Tensor, "B R"]) -> Int[Tensor, "B R K"]:
    """The cells around others, every one or, of near ones, every so many-th; the highest row is the last."""
    device = cell.device
    step = (WIDE / (distance.clamp(min=0.1) * math.radians(ABOVE * CELL))).round()
    step = step.clamp(1, WIDEST).long()[..., None, None]
    down = step * torch.arange(-ABOVE, ABOVE + 1, device=device)[:, None]
    right = step * torch.arange(-SIDE, SIDE + 1, device=device)
    row = ((cell // COLUMNS)[..., None, None] + down).clamp(0, ROWS - 1)
    column = ((cell % COLUMNS)[..., None, None] + right) % COLUMNS
    return (row * COLUMNS + column).flatten(2)


def _planes(offsets: Tensor, near: Tensor, sensor: Tensor) -> LocalPlanes:
    """The plane through neighbors that are given by their offsets."""
    # Zeroth, first and second moments at once. Offsets are short, so that differences of these stay exact.
    kept = torch.cat([torch.ones_like(offsets[..., :1]), offsets], -1) * near[..., None]
    moments = kept.mT @ kept
    count = moments[..., 0, 0]
    moments = moments / count.clamp(min=1)[..., None, None]
    mean = moments[..., 0, 1:]
    spread = moments[..., 1:, 1:] - mean[..., None] * mean[..., None, :]
    least, second, largest, normals = smallest_axis(spread)
    flat = (least <= FLATTEST * second) & (second >= NARROWEST * largest)
    valid = (count >= FEWEST) & flat & (largest > 0)
    towards = torch.where((normals * sensor).sum(-1, keepdim=True) < 0, -normals, normals)
    variation = torch.where(count >= FEWEST, least / (least + second + largest).clamp(min=1e-12), 0.0)
    return LocalPlanes(torch.where(valid[..., None], towards, 0.0), variation, valid)


def smallest_axis(
    spread: Float[Tensor, "*batch 3 3"], squarings: int = 5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eigenvalues of symmetric matrices, the smallest first, and the axis of that one, of unit length.

    The adjugate has the same axes with the products of the other two values, so that powers of it tend to the
    axis of the smallest: a handful of products instead of an iteration that a device would wait for.

    Args:
        spread: Positive semi-definite.
        squarings: How often the power is doubled; more tell values apart that are more alike.
    """
    a, b, c = spread.unbind(-2)
    adjugate = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -2)
    power = adjugate
    for _ in range(squarings):
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=1e-30)[..., None, None]
        power = power @ power
    which = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    axis = power.gather(-1, which[..., None, None].expand(*which.shape, 3, 1))[..., 0]
    axis = axis / axis.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-30)
    least = (axis * (spread @ axis[..., None])[..., 0]).sum(-1).clamp(min=0)
    rest = spread.diagonal(dim1=-2, dim2=-1).sum(-1) - least
    product = adjugate.diagonal(dim1=-2, dim2=-1).sum(-1) - least * rest
    root = (rest.square() - 4 * product).clamp(min=0).sqrt()
    return least, ((rest - root) / 2).clamp(min=0), (rest + root) / 2, axis
