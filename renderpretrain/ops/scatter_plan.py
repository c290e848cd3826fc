"""Which points lie in each cell: what scattering needs to know of them."""

from dataclasses import InitVar, dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.checks import check_shape, check_type
from renderpretrain.ops._cells import check_plannable, rows_of, sort_cells, sort_reference
from renderpretrain.ops._library import register
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops._rows import EACH_ONCE, count_writes, remember


@dataclass(frozen=True)
class ScatterPlan:
    """Which points lie in each cell; good for any values on these points.

    Made by :func:`scatter_plan`. One that is put together by hand is looked at when it is made, for which it
    waits for the device.

    Attributes:
        order: The points, cell by cell, within a cell in their own order; dropped points come last.
        offsets: Where in ``order`` each cell begins, and after the last cell where it ends.
        index: The cells of the points that it was last seen to fit; found at the first use where ``None``.
        writes: How often ``index`` had been written to by then, where that is counted.

    Raises:
        ValueError: If ``order`` does not have every point once, the points of a cell are not in their own
            order, or the cells do not follow each other from the first place on.
    """

    order: Int[Tensor, " P"]
    offsets: Int[Tensor, " edges"]
    index: Int[Tensor, " P"] | None = None
    writes: int | None = field(default=None, init=False, repr=False)
    is_made: InitVar[bool] = False

    def __post_init__(self, is_made: bool) -> None:
        if not is_made:
            _check_by_hand(self.order, self.offsets)
            if self.index is not None:
                _check_index_of(self, self.index)
                _remember(self, self.index)

    @property
    def num_cells(self) -> int:
        """How many cells there are, occupied or not."""
        return self.offsets.shape[0] - 1

    @property
    def counts(self) -> Int[Tensor, " cells"]:
        """How many points lie in each cell."""
        return self.offsets.diff()


def made_plan(order: Tensor, offsets: Tensor, index: Tensor) -> ScatterPlan:
    """What an operator made of an index; it is not looked at again."""
    plan = ScatterPlan(order, offsets, index, is_made=True)
    if not torch.compiler.is_compiling():
        remember(order, EACH_ONCE)
        _remember(plan, index)
    return plan


def _remember(plan: ScatterPlan, index: Tensor) -> None:
    """Note that the plan fits the index as it is now."""
    object.__setattr__(plan, "index", index)
    object.__setattr__(plan, "writes", count_writes(index))


def _check_by_hand(order: Tensor, offsets: Tensor) -> None:
    """Raise ``ValueError`` unless the two are a plan of some index."""
    count = check_shape("order", order, "P")["P"]
    cells = check_shape("offsets", offsets, "E")["E"] - 1
    check_type("order", order, torch.int32, offsets.device)
    check_type("offsets", offsets, torch.int32, offsets.device)
    if cells < 0:
        raise ValueError("offsets: expected one number more than cells, got none")
    if order.is_meta or type(order) is not Tensor:
        return  # without numbers, nobody can follow them
    starts = offsets.long()
    rises = bool((starts.diff() >= 0).all()) and int(starts[0]) == 0 and int(starts[-1]) <= count
    if not rises:
        raise ValueError(f"offsets: expected to rise from 0 to at most {count} points, got {offsets}")
    points = torch.arange(count, device=order.device)
    if not torch.equal(order.long().sort().values, points):
        raise ValueError(f"order: expected every point from 0 to {count - 1} once, got {order}")
    cell = torch.searchsorted(starts[1:].contiguous(), points, right=True)
    falls = (order.diff() < 0) & (cell.diff() == 0) & (cell[1:] < cells)
    if bool(falls.any()):
        raise ValueError(f"order: expected the points of a cell in their own order, got {order}")


def _check_index_of(plan: ScatterPlan, index: Tensor) -> None:
    """Raise ``ValueError`` unless the plan is one of this index."""
    order = plan.order.long()
    if order.numel() and (int(order.min()) < 0 or int(order.max()) >= len(index)):
        raise ValueError(f"order: expected points from 0 to {len(index) - 1}, got {order}")
    rows = rows_of(index, plan.num_cells)[order]
    edges = torch.arange(plan.num_cells + 1, device=rows.device)
    sorts = bool((rows.diff() >= 0).all())
    if not sorts or not torch.equal(torch.searchsorted(rows, edges, out_int32=True), plan.offsets):
        raise ValueError("plan: expected one that was made of this index, got one of another")


def check_belongs(plan: ScatterPlan, index: Tensor) -> None:
    """Raise ``ValueError`` where an index is not the plan's; its numbers are looked at once.

    While a graph is traced there are no numbers to look at.
    """
    if torch.compiler.is_compiling() or type(index) is not Tensor:
        return
    writes = count_writes(index)
    if plan.index is not index or writes != plan.writes:
        _check_index_of(plan, index)
        _remember(plan, index)


def scatter_plan(index: Int[Tensor, " P"], num_cells: int) -> ScatterPlan:
    """Sort points by cell, for :func:`voxel_scatter` to use again and again.

    Args:
        index: The cell of each point; a negative one drops the point. One of ``num_cells`` or more is a
            ``ValueError`` on the CPU; elsewhere it drops the point, for this plan is made in every step, and
            looking would wait for the device.
        num_cells: Number of cells; like the number of points below 2^31 - 1.
    """
    check_shape("index", index, "P")
    check_plannable(index, num_cells)
    if not has_native(index.device.type):
        return scatter_plan_reference(index, num_cells)
    order, offsets = torch.ops.renderpretrain.scatter_plan(index, num_cells)
    return made_plan(order, offsets, index)


def scatter_plan_reference(index: Int[Tensor, " P"], num_cells: int) -> ScatterPlan:
    """What :func:`scatter_plan` does, in plain PyTorch."""
    order, offsets = _planned(*sort_reference(index, num_cells), num_cells)
    return made_plan(order, offsets, index)


def _planned(cells: Tensor, order: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    edges = torch.arange(num_cells + 1, device=cells.device)
    return order, torch.searchsorted(cells, edges, out_int32=True)


def _plan(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    cells, order = sort_cells(index, num_cells)
    if index.is_cuda:
        return _planned(cells, order, num_cells)
    offsets = new_memory(order, num_cells + 1)
    launch("cell_offsets", cells, len(cells), num_cells, offsets)
    return order, offsets


def _plan_fake(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    return index.new_empty(index.shape, dtype=torch.int32), index.new_empty(num_cells + 1, dtype=torch.int32)


register(
    "scatter_plan(Tensor index, SymInt num_cells) -> (Tensor, Tensor)",
    _plan,
    _plan_fake,
    {"index": "integer P"},
    check_plannable,
)
