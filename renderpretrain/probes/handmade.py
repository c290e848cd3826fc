"""Numbers of places that nobody had to learn: what features are worth is what they add to these.

Where a place is tells much of what it is: the ground lies low, walls stand far. Height, intensity, quadratics
of the position and the spread of heights in a column say so without a network.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.data import Scene

COLUMN = 0.8
"""Metres: side of the columns in which heights are looked at."""


def handmade_numbers(
    scene: Scene, positions: Float[Tensor, "P 3"], intensity: Float[Tensor, " P"] | None = None
) -> Float[Tensor, "P F"]:
    """What is known of places without any network.

    ``x, y, z``, the distance in the plane and in space from where the sensor's rays start, the intensity
    where places are points, and all products of two of these; then of the points of the key sweep in the
    place's column of 0.8 m: highest less lowest and the standard deviation of heights, metres, and the
    logarithm of one more than their number.

    Args:
        scene: Whose points fill the columns.
        positions: World, metres.
        intensity: Of the places; ``None`` where places are no points.
    """
    origin = scene.lidar_origin.to(positions)
    near = positions - origin
    numbers = [*positions.unbind(-1), near[:, :2].norm(dim=-1), near.norm(dim=-1)]
    numbers += [] if intensity is None else [intensity]
    base = torch.stack(numbers, -1)
    first, second = torch.triu_indices(base.shape[1], base.shape[1], device=base.device)
    products = base[:, first] * base[:, second]
    return torch.cat([base, products, column_spreads(scene, positions)], -1)


def column_spreads(scene: Scene, positions: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    """Of the key sweep's points in the columns of places: range and deviation of heights, log of the number.

    All 0 where a column has no point.

    Args:
        scene: Whose points.
        positions: World, metres.
    """
    points = scene.points[scene.of_key_sweep, :3]
    columns, place = _columns(torch.cat([points, positions])[:, :2]).unique(dim=0, return_inverse=True)
    of_points, of_places = place[: len(points)], place[len(points) :]
    height = points[:, 2]
    counts = height.new_zeros(len(columns)).index_add(0, of_points, torch.ones_like(height))
    many = counts.clamp(min=1)
    mean = height.new_zeros(len(columns)).index_add(0, of_points, height) / many
    square = (height - mean[of_points]).square()
    variance = height.new_zeros(len(columns)).index_add(0, of_points, square) / many
    ends = [
        height.new_zeros(len(columns)).scatter_reduce(0, of_points, height, way, include_self=False)
        for way in ("amax", "amin")
    ]
    spreads = torch.stack([ends[0] - ends[1], variance.sqrt(), counts.log1p()], -1)
    return spreads[of_places]


def _columns(plane: Float[Tensor, "P 2"]) -> Int[Tensor, "P 2"]:
    """The column of every place."""
    return torch.floor(plane / COLUMN).long()
