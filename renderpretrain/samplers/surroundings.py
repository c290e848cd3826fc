"""What a sweep looks like around places: how flat, how high, how bright, which takes no label to say."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import max_pool2d

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Points, VoxelGrid
from renderpretrain.samplers.planes import smallest_axis

SPANS = (3, 5)
"""Cells a side of the two cubes around a place."""

NUMBERS = 14
"""That are said of each cube."""

SURROUNDINGS = len(SPANS) * NUMBERS
"""That are said of a place."""

HIGHEST = 12.0
"""Cells: a larger height above the lowest point, or below the highest, counts as so much."""

LEAST_VARIANCE = 1e-6
"""Square cells, added to variances while axes are looked for."""

SQUARINGS = 12
"""Of a matrix whose axes are looked for: variances that differ by a hundredth are told apart."""

SMALLEST = 1e-3
"""Cells, beside which a deviation counts as none."""


def surroundings(points: Points, grid: VoxelGrid, where: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P _"]:
    """What the points of the key sweep are like in two cubes around places.

    Of every cube, 3 and 5 cells a side, lengths in cells: the points' standard deviations along their three
    main directions, ascending, then linearity, planarity and scattering as of Demantke et al. 2011
    (https://doi.org/10.5194/isprsarchives-XXXVIII-5-W12-97-2011), section 2; the vertical share of the
    smallest and of the largest direction; the place's height above the points' mean; mean and deviation of
    their intensity; the place's height above the lowest point, and below the highest, of all columns of the
    cube; the logarithm of the number of points. Descriptors like these are what GeoMAE
    (https://arxiv.org/abs/2305.08808) has an encoder predict. Nothing is differentiable, nothing is drawn.

    Args:
        points: Those of the key sweep within the grid count.
        grid: Its cells; a cube is centred on the cell that the place lies in.
        where: Places within the grid, world, metres; others mean nothing.
    """
    check_shape("points.xyz", points.xyz, "B P 3")
    check_shape("where", where, "B P 3", B=len(points.xyz))
    with torch.no_grad():
        counted = points.key & grid.contains(points.xyz)
        xyz, asked = (
            grid.to_index(torch.where(mark[..., None], x, 0.0)).double() + 0.5
            for mark, x in ((counted, points.xyz), (grid.contains(where), where))
        )
        moments = torch.cat([torch.ones_like(xyz[..., :1]), xyz, _products(xyz)], -1)
        bright = points.intensity.double()[..., None]
        moments = torch.cat([moments, bright, bright.square()], -1) * counted[..., None]
        volume = _added_up(moments, grid.cells(points.xyz), grid)
        cells = grid.cells(where)
        told = []
        for span in SPANS:
            sums = _in_cubes(volume, cells, span)
            told += [_of_moments(sums, asked), _of_columns(xyz, counted, asked, grid, span)]
            told.append(sums[..., :1].clamp(min=1).log())
        return torch.cat(told, -1).to(where.dtype)


def _products(xyz: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 6"]:
    """The products of two coordinates, row by row of the upper triangle."""
    x, y, z = xyz.unbind(-1)
    return torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], -1)


def _symmetric(products: Float[Tensor, "B P 6"]) -> Float[Tensor, "B P 3 3"]:
    """The matrices whose upper triangles are given row by row."""
    xx, xy, xz, yy, yz, zz = products.unbind(-1)
    rows = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1)
    return rows.unflatten(-1, (3, 3))


def _added_up(
    rows: Float[Tensor, "B P M"], cells: Int[Tensor, "B P 3"], grid: VoxelGrid
) -> Float[Tensor, "B Z Y X M"]:
    """Sums of rows in cells, with a margin of empty cells that the widest cube reaches into."""
    margin = max(SPANS) // 2
    depth, height, width = (n + 2 * margin for n in grid.shape)
    z, y, x = (cells + margin).unbind(-1)
    volume = rows.new_zeros(len(rows), depth * height * width, rows.shape[-1])
    place = ((z * height + y) * width + x)[..., None].expand_as(rows)
    return volume.scatter_add(1, place, rows).unflatten(1, (depth, height, width))


def _in_cubes(
    volume: Float[Tensor, "B Z Y X M"], cells: Int[Tensor, "B P 3"], span: int
) -> Float[Tensor, "B P M"]:
    """Sums over the cubes around cells."""
    height, width = volume.shape[2:4]
    steps = torch.arange(span, device=cells.device) - span // 2 + max(SPANS) // 2
    around = torch.cartesian_prod(steps, steps, steps)
    z, y, x = (cells[:, :, None] + around).unbind(-1)
    place = ((z * height + y) * width + x).flatten(1)
    flat = volume.flatten(1, 3)
    found = [rows[index].unflatten(0, z.shape[1:]).sum(1) for rows, index in zip(flat, place, strict=True)]
    return torch.stack(found)


def _of_moments(sums: Float[Tensor, "B P 12"], asked: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 11"]:
    """Shape, height and brightness, from sums of ones, coordinates, products and intensities."""
    count = sums[..., :1].clamp(min=1)
    mean, products, bright, square = (sums[..., 1:] / count).split((3, 6, 1, 1), -1)
    # Points on one line have no smallest axis: any one across it will do, and a little of all gives one.
    unit = torch.eye(3, dtype=sums.dtype, device=sums.device)
    covariance = _symmetric(products - _products(mean)) + LEAST_VARIANCE * unit
    low, middle, high, normal = smallest_axis(covariance, SQUARINGS)
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    # The other end of the order: what is least of the trace less the matrix lies along its largest axis.
    *_, along = smallest_axis(trace * unit - covariance, SQUARINGS)
    spread = (torch.stack([low, middle, high], -1) - LEAST_VARIANCE).clamp(min=0).sqrt()
    low, middle, high = spread.split(1, -1)
    shape = torch.cat([high - middle, middle - low, low], -1) / high.clamp(min=SMALLEST)
    upright = torch.stack([normal[..., 2], along[..., 2]], -1).abs()
    deviation = (square - bright.square()).clamp(min=0).sqrt()
    return torch.cat([spread, shape, upright, asked[..., 2:] - mean[..., 2:], bright, deviation], -1)


def _of_columns(
    xyz: Float[Tensor, "B M 3"],
    counted: Bool[Tensor, "B M"],
    asked: Float[Tensor, "B P 3"],
    grid: VoxelGrid,
    span: int,
) -> Float[Tensor, "B P 2"]:
    """Heights of places above the lowest point and below the highest of the columns around them."""
    _, rows, columns = grid.shape
    nothing = 2 * sum(grid.shape)

    def column(of: Tensor) -> Tensor:
        x, y = (of[..., axis].long().clamp(0, n - 1) for axis, n in ((0, columns), (1, rows)))
        return y * columns + x

    def extreme(sign: int) -> Tensor:
        height = torch.where(counted, sign * xyz[..., 2], -nothing)
        tops = height.new_full((len(xyz), rows * columns), -nothing)
        tops = tops.scatter_reduce(1, column(xyz), height, "amax").view(-1, 1, rows, columns)
        return sign * max_pool2d(tops, span, 1, span // 2).flatten(1).gather(1, column(asked))

    height = asked[..., 2]
    return torch.stack([height - extreme(-1), extreme(1) - height], -1).clamp(-HIGHEST, HIGHEST)
