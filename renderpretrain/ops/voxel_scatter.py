"""Sum, mean or maximum of what lies in each cell."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape, check_type
from renderpretrain.ops._cells import MOST, check_index, rows_of, sort_cells, sort_reference
from renderpretrain.ops._library import common_float, common_type, register, register_gradient
from renderpretrain.ops._native import TYPE_CODES, has_native, launch, new_memory

REDUCTIONS = {"sum": 0, "mean": 1, "max": 2}
"""``RP_SUM`` and so on."""


@dataclass(frozen=True)
class ScatterPlan:
    """Which points lie in each cell; good for any values on these points.

    Attributes:
        order: The points, cell by cell, within a cell in their own order; dropped points come last.
        offsets: Where in ``order`` each cell begins, and after the last cell where it ends.
    """

    order: Int[Tensor, " P"]
    offsets: Int[Tensor, " edges"]

    def __post_init__(self) -> None:
        check_type("order", self.order, torch.int32, self.offsets.device)
        check_type("offsets", self.offsets, torch.int32, self.offsets.device)

    @property
    def num_cells(self) -> int:
        """Cells, occupied or not."""
        return self.offsets.shape[0] - 1

    @property
    def counts(self) -> Int[Tensor, " cells"]:
        """Points in each cell."""
        return self.offsets.diff()


def scatter_plan(index: Int[Tensor, " P"], num_cells: int) -> ScatterPlan:
    """Sort points by cell, for :func:`voxel_scatter` to use again and again.

    Args:
        index: The cell of each point; a negative one drops the point. One of ``num_cells`` or more is a
            ``ValueError`` on the CPU; elsewhere it drops the point, for this plan is made in every step, and
            looking would wait for the device (:func:`lss_plan`, made once for many steps, does look).
        num_cells: Number of cells; like the number of points below 2^31 - 1.
    """
    check_shape("index", index, "P")
    check_index(index, num_cells)
    if num_cells > MOST:
        raise ValueError(f"num_cells: expected at most {MOST}, got {num_cells}")
    if not has_native(index.device.type):
        return scatter_plan_reference(index, num_cells)
    return ScatterPlan(*torch.ops.renderpretrain.scatter_plan(index, num_cells))


def scatter_plan_reference(index: Int[Tensor, " P"], num_cells: int) -> ScatterPlan:
    """:func:`scatter_plan` in plain PyTorch."""
    return ScatterPlan(*_planned(*sort_reference(index, num_cells), num_cells))


def voxel_scatter(
    values: Float[Tensor, "P C"],
    index: Int[Tensor, " P"],
    num_cells: int,
    *,
    reduce: Literal["sum", "mean", "max"] = "sum",
    plan: ScatterPlan | None = None,
) -> Float[Tensor, "cells C"]:
    """Sum, mean or maximum over the points of each cell; zero where a cell has none.

    A cell's points are taken in their order, on any number of threads and on CUDA, and nothing is added
    atomically: the result is the same in every run.

    Args:
        values: Float16 and bfloat16 are read as they are. Differentiable to any order.
        index: The cell of each point, as in :func:`scatter_plan`.
        num_cells: Rows of the result.
        reduce: The gradient of ``"max"`` goes to the first point that attains it, as in torch_scatter; NaN
            counts as the largest number, as in ``torch.amax``.
        plan: ``scatter_plan(index, num_cells)`` where it is at hand; ``index`` is then not read.

    Returns:
        Float32, or float64 for values in float64.
    """
    _check(values, index, num_cells, reduce, plan)
    if not has_native(values.device.type):
        return voxel_scatter_reference(values, index, num_cells, reduce=reduce)
    plan = plan or scatter_plan(index, num_cells)
    return torch.ops.renderpretrain.voxel_scatter(values, plan.order, plan.offsets, reduce)


def voxel_scatter_reference(
    values: Float[Tensor, "P C"],
    index: Int[Tensor, " P"],
    num_cells: int,
    *,
    reduce: Literal["sum", "mean", "max"] = "sum",
    plan: ScatterPlan | None = None,
) -> Float[Tensor, "cells C"]:
    """:func:`voxel_scatter` in plain PyTorch: the definition the kernels are tested against."""
    _check(values, index, num_cells, reduce, plan)
    (values,) = common_float(values=values)
    rows = rows_of(index, num_cells)
    if reduce == "max":
        padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
        return padded.gather(0, _first_maximum(values.detach(), rows, num_cells))
    total = values.new_zeros(num_cells + 1, values.shape[1]).index_add(0, rows, values)
    if reduce == "mean":
        counts = values.new_zeros(num_cells + 1).index_add(0, rows, values.new_ones(len(rows)))
        total = total / counts.clamp(min=1)[:, None]
    return total[:num_cells]


def _first_maximum(values: Tensor, rows: Tensor, num_cells: int) -> Tensor:
    """The first point that attains each cell's maximum, (cells, C); past the last one where none does."""
    shape, count = (num_cells + 1, values.shape[1]), len(values)
    rows = rows[:, None].expand_as(values)
    best = values.new_zeros(shape).scatter_reduce(0, rows, values, "amax", include_self=False)
    attained = (values == best.gather(0, rows)) | values.isnan()
    place = torch.where(attained, torch.arange(count, device=values.device)[:, None], count)
    return place.new_full(shape, count).scatter_reduce(0, rows, place, "amin")[:num_cells]


def _check(values: Tensor, index: Tensor, num_cells: int, reduce: str, plan: ScatterPlan | None) -> None:
    num_points = check_shape("values", values, "P C")["P"]
    common_type(values=values)
    check_shape("index", index, "P", P=num_points)
    check_index(index, num_cells)
    if index.device != values.device:
        raise ValueError(f"index: expected a tensor on {values.device} like values, got {index.device}")
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce: expected 'sum', 'mean' or 'max', got {reduce!r}")
    if plan is not None and plan.order.device != values.device:
        raise ValueError(f"plan: expected one on {values.device} like values, got {plan.order.device}")
    if plan is not None and (len(plan.order), plan.num_cells) != (num_points, num_cells):
        raise ValueError(
            f"plan: expected one of {num_points} points and {num_cells} cells, "
            f"got {len(plan.order)} and {plan.num_cells}"
        )


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


def _scatter(values: Tensor, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    values = values.contiguous()
    num_cells, channels = len(offsets) - 1, values.shape[1]
    out = new_memory(values, num_cells, channels, dtype=common_type(values=values))
    plan = order, offsets, num_cells, channels, REDUCTIONS[reduce]
    launch("voxel_scatter", out, TYPE_CODES[values.dtype], values, *plan)
    return out


def _scatter_fake(values: Tensor, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    return values.new_empty(offsets.shape[0] - 1, values.shape[1], dtype=common_type(values=values))


def _backward(grad: Tensor, values: Tensor | None, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    grad = grad.contiguous()
    num_cells, channels = grad.shape
    read = grad if values is None else values.contiguous()
    grad_values = new_memory(grad, len(order), channels)
    plan = order, offsets, len(order), num_cells, channels, REDUCTIONS[reduce]
    launch("voxel_scatter_backward", grad, TYPE_CODES[read.dtype], read, *plan, grad_values)
    return grad_values


def _backward_fake(
    grad: Tensor, values: Tensor | None, order: Tensor, offsets: Tensor, reduce: str
) -> Tensor:
    return grad.new_empty(order.shape[0], grad.shape[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, order, offsets, ctx.reduce = inputs
    ctx.dtype = values.dtype
    # The maximum is searched again: that costs less than to keep where it was for every cell and channel.
    ctx.save_for_backward(order, offsets, *([values] if ctx.reduce == "max" else []))


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    order, offsets, *values = ctx.saved_tensors
    once = torch.ops.renderpretrain.voxel_scatter_backward
    grad_values = once(grad, values[0] if values else None, order, offsets, ctx.reduce)
    return grad_values.to(ctx.dtype), None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, values, order, offsets, ctx.reduce = inputs
    ctx.save_for_backward(values, order, offsets)


def _second_gradient(ctx: Any, along: Tensor) -> tuple[Tensor | None, ...]:
    """All three are linear once the points that attain a maximum are known: what was spread is gathered."""
    values, *plan = ctx.saved_tensors
    gather, spread = torch.ops.renderpretrain.voxel_scatter, torch.ops.renderpretrain.voxel_scatter_backward
    if ctx.reduce != "max":
        return gather(along, *plan, ctx.reduce), None, None, None, None
    ones = along.new_ones(plan[1].shape[0] - 1, along.shape[1])
    attains = spread(ones, values.detach(), *plan, "max") > 0
    return gather(torch.where(attains, along, 0.0), *plan, "sum"), None, None, None, None


register("scatter_plan(Tensor index, SymInt num_cells) -> (Tensor, Tensor)", _plan, _plan_fake)
register(
    "voxel_scatter(Tensor values, Tensor order, Tensor offsets, str reduce) -> Tensor",
    _scatter,
    _scatter_fake,
    stored=(0,),
)
register(
    "voxel_scatter_backward(Tensor grad, Tensor? values, Tensor order, Tensor offsets, str reduce) -> Tensor",
    _backward,
    _backward_fake,
    stored=(1,),
)
register_gradient("voxel_scatter", _gradient, _save)
register_gradient("voxel_scatter_backward", _second_gradient, _save_backward)
