"""Sum, mean or maximum of what lies in each cell."""

import importlib
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._cells import check_index, rows_of
from renderpretrain.ops._library import common_float, common_type, register, register_gradient
from renderpretrain.ops._native import TYPE_CODES, has_native, launch, new_memory
from renderpretrain.ops._rows import EACH_ONCE, check_each_once, check_rising, check_rows, is_known
from renderpretrain.ops.scatter_plan import ScatterPlan, check_belongs, scatter_plan

REDUCTIONS = {"sum": 0, "mean": 1, "max": 2}
"""Reductions by the numbers of ``RP_SUM`` and so on."""


def voxel_scatter(
    values: Float[Tensor, "P C"],
    index: Int[Tensor, " P"],
    num_cells: int,
    *,
    reduce: Literal["sum", "mean", "max"] = "sum",
    plan: ScatterPlan | None = None,
    backend: Literal["builtin", "torch_scatter"] = "builtin",
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
        backend: ``"torch_scatter"`` has that library do it, which adds atomically on CUDA.

    Returns:
        Float32, or float64 for values in float64.

    Raises:
        ValueError: If shapes, types or numbers do not fit, or the backend is none or not installed.
    """
    _check(values, index, num_cells, reduce, plan)
    if backend != "builtin":
        (values,) = common_float(values=values)
        return _by_torch_scatter(values, rows_of(index, num_cells), num_cells, reduce, backend)
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


def _by_torch_scatter(values: Tensor, rows: Tensor, num_cells: int, reduce: str, backend: str) -> Tensor:
    """The same by another library; points without a cell go to one more, which is left out."""
    if backend != "torch_scatter":
        raise ValueError(f"backend: expected 'builtin' or 'torch_scatter', got {backend!r}")
    try:
        library = importlib.import_module("torch_scatter")
    except Exception as error:  # a wheel for another torch raises anything
        reason = str(error).partition("\n")[0]
        raise ValueError(f'backend: needs pip install "renderpretrain[scatter]" ({reason})') from error
    return library.scatter(values, rows, 0, dim_size=num_cells + 1, reduce=reduce)[:num_cells]


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
    _check_reduce(reduce)
    if plan is not None:
        if not isinstance(plan, ScatterPlan):
            raise ValueError(f"plan: expected one from scatter_plan, got {type(plan).__name__}")
        if plan.order.device != values.device:
            raise ValueError(f"plan: expected one on {values.device} like values, got {plan.order.device}")
        if (len(plan.order), plan.num_cells) != (num_points, num_cells):
            raise ValueError(
                f"plan: expected one of {num_points} points and {num_cells} cells, "
                f"got {len(plan.order)} and {plan.num_cells}"
            )
        check_belongs(plan, index)


def _check_reduce(reduce: str) -> None:
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce: expected 'sum', 'mean' or 'max', got {reduce!r}")


def _check_plan(order: Tensor, offsets: Tensor, reduce: str) -> None:
    """Refuse a plan that the kernels could not follow."""
    _check_reduce(reduce)
    check_rows("order", order, len(order))
    check_rising("offsets", offsets, len(order))


def _check_backward(grad: Tensor, values: Tensor | None, order: Tensor, *rest: Any) -> None:
    """Every point has a gradient, so that each occurs, and those without a cell come behind the others."""
    offsets, reduce = rest
    _check_plan(order, offsets, reduce)
    check_each_once("order", order)
    if offsets.is_cpu and int(offsets[0]) != 0:
        raise ValueError(f"offsets: expected to begin with 0, got {offsets}")
    if values is None and reduce == "max":
        raise ValueError("values: expected what the maximum was taken of, got nothing")


def _scatter(values: Tensor, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    num_cells, channels = len(offsets) - 1, values.shape[1]
    out = new_memory(values, num_cells, channels, dtype=common_type(values=values))
    plan = order, offsets, len(order), num_cells, channels, REDUCTIONS[reduce]
    launch("voxel_scatter", out, TYPE_CODES[values.dtype], values, *plan)
    return out


def _scatter_fake(values: Tensor, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    return values.new_empty(offsets.shape[0] - 1, values.shape[1], dtype=common_type(values=values))


def _backward(grad: Tensor, values: Tensor | None, order: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    num_cells, channels = grad.shape
    read = grad if values is None else values
    grad_values = new_memory(grad, len(order), channels)
    if grad.is_cuda and not is_known(order, EACH_ONCE):
        grad_values.zero_()  # nobody has looked whether the plan has every point
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
    """Gradients of the backward pass: linear once the maxima are known, so what was spread is gathered."""
    values, *plan = ctx.saved_tensors
    gather, spread = torch.ops.renderpretrain.voxel_scatter, torch.ops.renderpretrain.voxel_scatter_backward
    if ctx.reduce != "max":
        return gather(along, *plan, ctx.reduce), None, None, None, None
    ones = along.new_ones(plan[1].shape[0] - 1, along.shape[1])
    attains = spread(ones, values.detach(), *plan, "max") > 0
    return gather(torch.where(attains, along, 0.0), *plan, "sum"), None, None, None, None


_PLAN = {"order": "int32 P", "offsets": "int32 M+1"}
register(
    "voxel_scatter(Tensor values, Tensor order, Tensor offsets, str reduce) -> Tensor",
    _scatter,
    _scatter_fake,
    {"values": "stored P C", **_PLAN},
    lambda values, *plan: _check_plan(*plan),
)
register(
    "voxel_scatter_backward(Tensor grad, Tensor? values, Tensor order, Tensor offsets, str reduce) -> Tensor",
    _backward,
    _backward_fake,
    {"grad": "float M C", "values": "stored P C", **_PLAN},
    _check_backward,
)
register_gradient("voxel_scatter", _gradient, _save)
register_gradient("voxel_scatter_backward", _second_gradient, _save_backward)
