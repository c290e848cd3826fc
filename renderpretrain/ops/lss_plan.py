"""Which points of camera frustums lie in which cell: what lift-splat pooling needs to know of geometry."""

from dataclasses import InitVar, dataclass, fields

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from renderpretrain.checks import check_frame, check_integer, check_shape, check_type, check_volume
from renderpretrain.ops._library import common_float
from renderpretrain.ops._native import INT32_LIMIT
from renderpretrain.ops._rows import EACH_ONCE, remember
from renderpretrain.ops.uncompiled import uncompiled


@dataclass(frozen=True)
class LssPlan:
    """The points of all frustums, pixel by pixel and cell by cell; made by :func:`lss_plan`.

    One that is put together by hand is compared with what :func:`lss_plan` makes of its cells, for which it
    waits for the device.

    Attributes:
        cells: The cell of every point, -1 where it is dropped.
        order: The cells as they are computed: one after another where they share pixels.
        starts: Where their points begin in ``pixels`` and ``bins``; one more, where those of the last end.
        pixels: The pixel of every point, counted over all images, cell after cell; the dropped ones are last.
        bins: The depth bin of the same points.

    Raises:
        ValueError: If it is not the plan of its cells.
    """

    cells: Int32[Tensor, "N H W D"]
    order: Int32[Tensor, " cells"]
    starts: Int32[Tensor, " cells_and_one"]
    pixels: Int32[Tensor, " P"]
    bins: Int32[Tensor, " P"]

    is_made: InitVar[bool] = False

    def __post_init__(self, is_made: bool) -> None:
        if is_made:
            if not torch.compiler.is_compiling():
                remember(self.order, EACH_ONCE)
            return
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), torch.int32, self.cells.device)
        if self.cells.is_meta or type(self.cells) is not Tensor:
            return  # without numbers, nobody can follow them
        check_shape("cells", self.cells, "N H W D")
        check_shape("order", self.order, "cells")
        expected = lss_plan(self.cells.permute(0, 3, 1, 2), len(self.order))
        for field in fields(self):
            if not torch.equal(getattr(self, field.name), getattr(expected, field.name)):
                raise ValueError(f"{field.name}: expected those of the cells, from lss_plan, got others")

    @property
    def num_cells(self) -> int:
        """Rows of the pooled result."""
        return len(self.order)

    def to(self, device: torch.device | str) -> "LssPlan":
        """The same plan on another device."""
        return LssPlan(**{f.name: getattr(self, f.name).to(device) for f in fields(self)}, is_made=True)


def frustum_cells(
    points: Float[Tensor, "B N D H W 3"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Int[Tensor, "B N D H W"]:
    """The cell every point of the frustums lies in, for :func:`lss_plan` after ``flatten(0, 1)``.

    A point's index is ``floor(point * scale + offset + 0.5)`` per axis: rounded down, so that nothing below
    the grid falls into its first cell. Cells count ``(b, z, y, x)``, x fastest: every batch element has
    ``Z * Y * X`` of its own, ``B * Z * Y * X`` in all.

    Args:
        points: World coordinates (x, y, z), metres; half precision is widened.
        shape: ``(Z, Y, X)`` of the grid.
        scale: Cells per metre, (x, y, z).
        offset: Index of the world's origin, an integer at a cell's centre, (x, y, z).

    Returns:
        Cells; -1 outside the grid and where a coordinate is NaN or infinite.
    """
    check_shape("points", points, "B N D H W 3")
    check_volume(shape)
    check_frame(scale, offset)
    (points,) = common_float(points=points)
    cells = torch.arange(len(points), device=points.device)[:, None, None, None, None]
    inside = torch.ones_like(cells, dtype=torch.bool)
    for axis, size in zip((2, 1, 0), shape, strict=True):
        index = torch.floor(points[..., axis] * scale[axis] + (offset[axis] + 0.5))
        inside = inside & (index >= 0) & (index < size)
        cells = cells * size + torch.where(inside, index, 0.0).long()
    return torch.where(inside, cells, -1)


@uncompiled
def lss_plan(cells: Int[Tensor, "N D H W"], num_cells: int, *, trusted: bool = False) -> LssPlan:
    """Sort the points of camera frustums by cell.

    The plan depends on nothing but the cells, so it may be used again for as long as cameras (intrinsics,
    poses, the resizing and cropping of their images), depth bins, grid and batch size stay: for the life of a
    rig whose images and scenes are not augmented, else for one step.

    Args:
        cells: The cell of every point in [0, num_cells), or -1 to drop it; see :func:`frustum_cells`. Images
            of several batch elements follow each other, their cells too.
        num_cells: Cells in all.
        trusted: The cells are those of :func:`frustum_cells`, some dropped perhaps: they are not looked at,
            for which an accelerator's host would wait.

    Raises:
        ValueError: If there are 2^31 points or cells, or a cell that is not trusted is out of range, on every
            device.
    """
    check_shape("cells", cells, "N D H W")
    check_integer("cells", cells)
    if not 0 <= num_cells < INT32_LIMIT or not cells.numel() < INT32_LIMIT:
        raise ValueError(
            "cells: expected fewer than 2^31 points and cells, "
            f"got {cells.numel()} points, num_cells={num_cells}"
        )
    if not trusted and cells.numel():
        lowest, highest = torch.stack(cells.aminmax()).tolist()
        if lowest < -1 or highest >= num_cells:
            raise ValueError(f"cells: expected -1 <= cells < {num_cells}, got {lowest} to {highest}")
    # Points image column by image column, for what is above each other often shares cells. Cells in the order
    # they are met, so that their pixels stay in cache; the dropped points are one more cell, the last.
    cells = cells.permute(0, 2, 3, 1).int().contiguous()
    columns = torch.where(cells < 0, num_cells, cells).permute(0, 2, 3, 1).flatten().long()
    count = torch.arange(max(cells.numel(), num_cells + 1), device=cells.device)
    first = torch.full((num_cells + 1,), cells.numel(), device=cells.device)
    first.scatter_reduce_(0, columns, count[: cells.numel()], "amin")
    order = first[:-1].argsort(stable=True)
    turns = torch.full_like(first, num_cells).scatter_(0, order, count[:num_cells]).int()
    sorted_turns, sorting = turns.index_select(0, columns).sort(stable=True)
    points = count[: cells.numel()].int().view(cells.shape).permute(0, 2, 3, 1).flatten()
    points = points.index_select(0, sorting)
    pixels = torch.div(points, max(cells.shape[3], 1), rounding_mode="floor")
    return LssPlan(
        cells=cells,
        order=order.int(),
        starts=torch.searchsorted(sorted_turns, count[: num_cells + 1].int(), out_int32=True),
        pixels=pixels,
        bins=points - pixels * cells.shape[3],
        is_made=True,
    )
