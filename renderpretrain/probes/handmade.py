"""Numbers of places that nobody had to learn: what features are worth is what they add to these.

Where a place is tells much of what it is: the ground lies low, walls stand far. Height, intensity, quadratics
of the position and the spread of heights in a column say so without a network; of the ground, the heights in
each cell of a map; of a pixel, its ray and its colour.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.geometry import Views, VoxelGrid

COLUMN = 0.8
"""Metres: side of the columns in which heights are looked at."""

FURTHEST = 2**30
"""Columns from the origin: what lies further shares the last one."""


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
    return torch.cat([with_products(torch.stack(numbers, -1)), column_spreads(scene, positions)], -1)


def column_spreads(scene: Scene, positions: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
    """Of the key sweep's points in the columns of places: range and deviation of heights, log of the number.

    All 0 where a column has no point.

    Args:
        scene: Whose points.
        positions: World, metres.
    """
    points = scene.points[scene.of_key_sweep, :3]
    columns, place = _columns(torch.cat([points, positions])[:, :2]).unique(return_inverse=True)
    highest, lowest, *others = _heights(points[:, 2], place[: len(points)], len(columns)).unbind(-1)
    return torch.stack([highest - lowest, *others], -1)[place[len(points) :]]


def ground_numbers(scene: Scene, grid: VoxelGrid) -> Float[Tensor, "1 F Y X"]:
    """What is known of the cells of a map without any network, of the key sweep's points over each.

    Highest and lowest, and the standard deviation of heights, metres, the logarithm of one more than their
    number, and mean and largest intensity; all 0 where there is no point.

    Args:
        scene: Whose points.
        grid: The map, one cell high: points at any height count.
    """
    points = scene.points[scene.of_key_sweep, :4]
    level = torch.full_like(points[:, :1], (grid.lower[2] + grid.upper[2]) / 2)
    over = torch.cat([points[:, :2], level], 1)
    inside = grid.contains(over)
    height, intensity = points[inside, 2:].unbind(-1)
    _, row, column = grid.cells(over[inside]).unbind(-1)
    cells, count = row * grid.shape[2] + column, grid.num_voxels
    total = height.new_zeros(count).index_add(0, cells, intensity)
    mean = total / torch.bincount(cells, minlength=count).clamp(min=1)
    most = _extreme(intensity, cells, count, "amax")
    numbers = torch.cat([_heights(height, cells, count), mean[:, None], most[:, None]], 1)
    return numbers.T.reshape(1, -1, *grid.shape[1:])


def pixel_numbers(views: Views, size: tuple[int, int]) -> Float[Tensor, "B N F h w"]:
    """What is known of the cells of images without any network.

    Where a cell is in the picture, each axis in [-1, 1]; its ray's direction and the camera's height in the
    world; its mean colour; and all products of two of these.

    Args:
        views: The images.
        size: How many cells there are, from above to below and from left to right.
    """
    cameras, images = views.cameras.resize(size), views.images.float()
    v, u = (torch.arange(n, device=images.device) + 0.5 for n in size)
    pixels = torch.stack([u.expand(size), v[:, None].expand(size)], -1).flatten(0, 1)
    rays = cameras.rays(pixels.expand(*cameras.shape, -1, -1))
    place = 2 * pixels / torch.tensor(size[::-1], device=images.device) - 1
    colors = nn.functional.adaptive_avg_pool2d(images.flatten(0, 1), size).flatten(2).movedim(1, 2)
    numbers = torch.cat(
        [
            place.expand(*cameras.shape, -1, -1),
            rays.directions,
            rays.origins[..., 2:].expand(*rays.directions.shape[:-1], 1),
            colors.unflatten(0, cameras.shape),
        ],
        -1,
    )
    return with_products(numbers).movedim(-1, -2).unflatten(-1, size)


def with_products(numbers: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch F"]:
    """Numbers, and all products of two of them, squares included."""
    first, second = torch.triu_indices(numbers.shape[-1], numbers.shape[-1], device=numbers.device)
    return torch.cat([numbers, numbers[..., first] * numbers[..., second]], -1)


def _columns(plane: Float[Tensor, "P 2"]) -> Int[Tensor, " P"]:
    """A number of the column of every place, another for each."""
    x, y = torch.floor(plane / COLUMN).clamp(-FURTHEST, FURTHEST).long().unbind(-1)
    return x * 4 * FURTHEST + y


def _heights(height: Float[Tensor, " P"], column: Int[Tensor, " P"], count: int) -> Float[Tensor, "K 4"]:
    """Of the points in every column: highest, lowest, deviation, log of one more than their number."""
    counts = height.new_zeros(count).index_add(0, column, torch.ones_like(height))
    many = counts.clamp(min=1)
    mean = height.new_zeros(count).index_add(0, column, height) / many
    square = (height - mean[column]).square()
    variance = height.new_zeros(count).index_add(0, column, square) / many
    highest, lowest = (_extreme(height, column, count, way) for way in ("amax", "amin"))
    return torch.stack([highest, lowest, variance.sqrt(), counts.log1p()], -1)


def _extreme(
    values: Float[Tensor, " P"], column: Int[Tensor, " P"], count: int, way: str
) -> Float[Tensor, " K"]:
    """The largest or smallest value in every column; 0 where there is none."""
    return values.new_zeros(count).scatter_reduce(0, column, values, way, include_self=False)
