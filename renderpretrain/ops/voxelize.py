"""Points to voxels: the voxel of each point, and which voxels there are."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_box, check_frame, check_mask, check_shape, check_volume
from renderpretrain.ops._cells import SORT_BLOCK, check_index, sort_cells, sort_reference
from renderpretrain.ops._library import Shape, Triple, common_float, register
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops._signatures import Box, Grid
from renderpretrain.ops.constant import constant
from renderpretrain.ops.scatter_plan import ScatterPlan, made_plan


@dataclass(frozen=True)
class OccupiedCells:
    """The cells that hold points.

    Attributes:
        cells: Sorted, none twice.
        rows: Where in ``cells`` each point's cell is; -1 for a point without one.
        plan: For :func:`~renderpretrain.ops.voxel_scatter` to these rows; its ``counts`` are the points of
            each cell.
    """

    cells: Int[Tensor, " M"]
    rows: Int[Tensor, " P"]
    plan: ScatterPlan


def voxel_index(  # noqa: PLR0913 - points, and the grid they go to
    points: Float[Tensor, "B P 3"],
    valid: Bool[Tensor, "B P"],
    shape: tuple[int, int, int],
    lower: tuple[float, float, float],
    upper: tuple[float, float, float],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Int[Tensor, "B P"]:
    """The voxel each point lies in, by rounding down.

    The box decides who is inside, lower faces included, upper faces not; the index ``floor(point * scale +
    offset + 0.5)`` of a point inside is clipped to the grid, where rounding would carry it over a face.

    Args:
        points: World coordinates (x, y, z), metres.
        valid: False for a point without a voxel, whatever its coordinates.
        shape: ``(Z, Y, X)`` of the grid.
        lower: Corner of the box (x, y, z), metres.
        upper: The opposite corner.
        scale: Voxels per metre, (x, y, z).
        offset: Index of the world's origin, (x, y, z).

    Returns:
        ``((b * Z + z) * Y + y) * X + x``; -1 outside, where NaN and infinity are. Without gradient.
    """
    where = shape, lower, upper, scale, offset
    _check_grid(*where)
    points = _prepare(points, valid)
    if not has_native(points.device.type):
        return voxel_index_reference(points, valid, *where)
    return torch.ops.renderpretrain.voxel_index(points, valid, *where)


def voxel_index_reference(  # noqa: PLR0913 - the signature of voxel_index
    points: Float[Tensor, "B P 3"],
    valid: Bool[Tensor, "B P"],
    shape: tuple[int, int, int],
    lower: tuple[float, float, float],
    upper: tuple[float, float, float],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Int[Tensor, "B P"]:
    """:func:`voxel_index` in plain PyTorch: the definition the kernels are tested against."""
    points = _prepare(points, valid)
    low, high, per_metre, origin = (constant(three, points) for three in (lower, upper, scale, offset))
    inside = valid & ((points >= low) & (points < high)).all(-1) & (min(shape) > 0)
    place = torch.floor(torch.where(inside[..., None], points * per_metre + origin + 0.5, 0.0))
    last = (constant(shape[::-1], place, torch.int64) - 1).clamp(min=0)
    before = place < last  # and not beyond what an integer holds
    x, y, z = torch.where(before, torch.where(before, place, 0.0).clamp(min=0).long(), last).unbind(-1)
    b = torch.arange(len(points), device=points.device)[:, None]
    return torch.where(inside, ((b * shape[0] + z) * shape[1] + y) * shape[2] + x, -1)


def _prepare(points: Tensor, valid: Tensor) -> Tensor:
    check_shape("points", points, "B P 3")
    check_mask("valid", valid, points.shape[:2], points.device)
    (points,) = common_float(points=points.detach())
    return points


def occupied_cells(index: Int[Tensor, " P"], num_cells: int) -> OccupiedCells:
    """The cells that hold points; on CUDA this waits for their number.

    Args:
        index: The cell of each point, as in :func:`~renderpretrain.ops.scatter_plan`.
        num_cells: Number of cells, of any size.
    """
    check_shape("index", index, "P")
    check_index(index, num_cells)
    if not has_native(index.device.type):
        return occupied_cells_reference(index, num_cells)
    cells, rows, order, offsets = torch.ops.renderpretrain.occupied_cells(index, num_cells)
    return OccupiedCells(cells, rows, made_plan(order, offsets, rows))


def occupied_cells_reference(index: Int[Tensor, " P"], num_cells: int) -> OccupiedCells:
    """What :func:`occupied_cells` does, in plain PyTorch."""
    cells, rows, order, offsets = _distinct(*sort_reference(index, num_cells), num_cells)
    return OccupiedCells(cells, rows, made_plan(order, offsets, rows))


def _distinct(cells: Tensor, order: Tensor, num_cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :func:`occupied_cells` gives, from the cells in ascending order; waits for their number alone."""
    begins = torch.ones_like(cells, dtype=torch.bool)
    begins[1:] = cells[1:] != cells[:-1]
    inside = cells < num_cells
    row = begins.cumsum(0) - 1
    total = int((begins & inside).sum())
    # What lies outside comes last, in a row that is cut off again.
    row = torch.where(inside, row, total)
    found = cells.new_empty(total + 1).scatter_(0, row, cells)[:total]
    places = torch.arange(len(cells), device=cells.device)
    starts = places.new_full((total + 1,), len(cells)).scatter_reduce_(0, row, places, "amin")
    rows = torch.empty_like(cells)
    rows[order.long()] = torch.where(inside, row, -1)
    return found, rows, order, starts.int()


def _check_grid(shape: Shape, lower: Triple, upper: Triple, scale: Triple, offset: Triple) -> None:
    check_volume(shape)
    check_box(lower, upper)
    check_frame(scale, offset)


def _index(  # noqa: PLR0913 - the schema of the operator
    points: Tensor,
    valid: Tensor,
    shape: Shape,
    lower: Triple,
    upper: Triple,
    scale: Triple,
    offset: Triple,
) -> Tensor:
    batch, num_points = valid.shape
    grid = Grid(batch, 1, *shape, num_points, *scale, *offset)
    index = new_memory(points, batch, num_points, dtype=torch.int64)
    launch("voxel_index", points, valid, grid, Box(*lower, *upper, 0.0, 0.0), index)
    return index


def _index_fake(points: Tensor, valid: Tensor, *grid: Shape | Triple) -> Tensor:
    return points.new_empty(valid.shape, dtype=torch.int64)


_SORTABLE = 2**62
"""Cells from which on the sort has no numbers for points without one."""


def _occupied(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if num_cells > _SORTABLE:
        num_cells = int(index.max()) + 1 if len(index) else 0  # no cell above changes anything
    cells, order = sort_cells(index, max(num_cells, 0))
    if index.is_cuda:
        return _distinct(cells, order, num_cells)
    count = len(cells)
    occupied, rows, found = (new_memory(cells, size) for size in (count, count, 1))
    offsets = new_memory(order, count + 1)
    scratch = new_memory(cells, -(-count // SORT_BLOCK))
    launch("occupied_cells", cells, order, count, num_cells, occupied, offsets, rows, found, scratch)
    return occupied[: int(found)], rows, order, offsets[: int(found) + 1]


def _occupied_fake(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = torch.library.get_ctx().new_dynamic_size()
    rows, order = (index.new_empty(index.shape, dtype=dtype) for dtype in (torch.int64, torch.int32))
    offsets = index.new_empty(found + 1, dtype=torch.int32)
    return index.new_empty(found, dtype=torch.int64), rows, order, offsets


register(
    "voxel_index(Tensor points, Tensor valid, SymInt[3] shape, float[3] lower, float[3] upper, "
    "float[3] scale, float[3] offset) -> Tensor",
    _index,
    _index_fake,
    {"points": "float B P 3", "valid": "bool B P"},
    lambda points, valid, *grid: _check_grid(*grid),
)
register(
    "occupied_cells(Tensor index, SymInt num_cells) -> (Tensor, Tensor, Tensor, Tensor)",
    _occupied,
    _occupied_fake,
    {"index": "integer P"},
    check_index,
)
