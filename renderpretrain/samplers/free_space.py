"""Places that a sweep looked through: it saw what is behind them, so nothing was there."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Points
from renderpretrain.samplers.planes import COLUMNS, ROWS, cells_of, range_image

AROUND = 2
"""Cells of half a degree to either side, above and below, whose returns all have to lie behind a place."""

FEWEST = 3
"""Of these cells so many have to have a return."""

BEHIND = (0.3, 0.02)
"""Metres, and share of the distance to the sensor, by which the nearest of the returns lies behind it."""


def seen_through(points: Points, places: Float[Tensor, "B R 3"]) -> Bool[Tensor, "B R"]:
    """Whether a sweep looked through places: all that it saw in their direction lies well behind them.

    Free space as in occupancy mapping (Moravec and Elfes 1985,
    https://doi.org/10.1109/ROBOT.1985.1087316), by the nearest returns around a direction: on a road that is
    seen at a slant some of them are nearer than a place of it, so it is not called free. In pairs of frames
    of 36 synthetic streets, half a second apart, this finds 44 % of the later returns in boxes that move, and
    0.14 % of all others; what moves less than its own length stays where it hid things before.

    Args:
        points: Those of the key sweep count.
        places: World. Not differentiable.
    """
    sizes = check_shape("points.xyz", points.xyz, "B P 3")
    check_shape("places", places, "B R 3", B=sizes["B"])
    if not sizes["P"]:
        return torch.zeros_like(places[..., 0], dtype=torch.bool)
    with torch.no_grad():
        image, _ = range_image(points)
        offsets = places - points.origin[:, None]
        cell = cells_of(offsets)
        side = torch.arange(-AROUND, AROUND + 1, device=cell.device)
        row = ((cell // COLUMNS)[..., None, None] + side[:, None]).clamp(0, ROWS - 1)
        beside = (row * COLUMNS + ((cell % COLUMNS)[..., None, None] + side) % COLUMNS).flatten(2)
        index = image.gather(1, beside.flatten(1))
        distances = (points.xyz - points.origin[:, None]).square().sum(-1).sqrt()
        seen = torch.where(index >= 0, distances.gather(1, index.clamp(min=0)), torch.inf).view(beside.shape)
        limit = BEHIND[0] + (1 + BEHIND[1]) * offsets.square().sum(-1).sqrt()
        return ((seen < torch.inf).sum(-1) >= FEWEST) & (seen.amin(-1) > limit)
