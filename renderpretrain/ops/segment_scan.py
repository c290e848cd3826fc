"""Sums and products of what lies in front of each sample, for rays of equal or different length."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from renderpretrain.ops._library import common_float, register, register_gradient
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops._segments import check_layout, sizes, to_rows


def segment_exclusive_sum(
    x: Float[Tensor, "*batch S"], offsets: Int64[Tensor, " E"] | None = None
) -> Float[Tensor, "*batch S"]:
    r"""Sum of the earlier samples of the ray, :math:`y_i = \sum_{j<i} x_j`.

    Args:
        x: Samples, rays as rows; or those of all rays one after the other, (N). Differentiable to any order.
        offsets: Where in (N) each ray begins and the last one ends, (R + 1): sorted, from 0 to N. On CUDA the
            values are not checked, for that would wait for the device: wrong ones give wrong sums.

    Returns:
        The sums, in float32 or float64; 0 at the first sample of every ray.

    The packed ``exclusive_sum`` of NerfAcc (https://arxiv.org/abs/2305.04966).
    """
    check_layout("x", x, offsets)
    (x,) = common_float(x=x)
    if not has_native(x.device.type):
        return segment_exclusive_sum_reference(x, offsets)
    return torch.ops.renderpretrain.segment_scan(None, x, offsets, False)


def segment_exclusive_prod(
    x: Float[Tensor, "*batch S"], offsets: Int64[Tensor, " E"] | None = None
) -> Float[Tensor, "*batch S"]:
    r"""Product of the earlier samples of the ray, :math:`y_i = \prod_{j<i} x_j`.

    Of ``1 - alphas`` it is the transmittance.

    Args:
        x: Samples, rays as rows; or those of all rays one after the other, (N). Products of 32 neighbours
            must be finite. Differentiable to any order, and exact where a sample is 0: nothing is divided.
        offsets: As in :func:`segment_exclusive_sum`.

    Returns:
        The products, in float32 or float64; 1 at the first sample of every ray. One below the smallest normal
        number may come out as 0, and all behind it.

    The packed ``exclusive_prod`` of NerfAcc (https://arxiv.org/abs/2305.04966), whose gradient divides by x.
    """
    check_layout("x", x, offsets)
    (x,) = common_float(x=x)
    if not has_native(x.device.type):
        return segment_exclusive_prod_reference(x, offsets)
    return torch.ops.renderpretrain.segment_scan(x, None, offsets, False)


def segment_exclusive_sum_reference(
    x: Float[Tensor, "*batch S"], offsets: Int64[Tensor, " E"] | None = None
) -> Float[Tensor, "*batch S"]:
    """:func:`segment_exclusive_sum` in plain PyTorch: the definition the kernels are tested against."""
    return _scan_reference(torch.cumsum, 0.0, x, offsets)


def segment_exclusive_prod_reference(
    x: Float[Tensor, "*batch S"], offsets: Int64[Tensor, " E"] | None = None
) -> Float[Tensor, "*batch S"]:
    """:func:`segment_exclusive_prod` in plain PyTorch: the definition the kernels are tested against."""
    return _scan_reference(torch.cumprod, 1.0, x, offsets)


def _scan_reference(scan: Callable[..., Tensor], start: float, x: Tensor, offsets: Tensor | None) -> Tensor:
    if offsets is not None:
        rows, inside = to_rows(x, offsets, start)
        return _scan_reference(scan, start, rows, None)[inside]
    return scan(torch.cat([torch.full_like(x[..., :1], start), x[..., :-1]], -1), dim=-1)


def _segment_scan(
    factors: Tensor | None, values: Tensor | None, offsets: Tensor | None, reverse: bool
) -> Tensor:
    """``y_{i+1} = factors_i y_i + values_i`` along each ray or, in reverse, from its end.

    Without factors they are 1 and a ray starts at 0; without values they are 0 and it starts at 1.
    """
    states = _fake(factors, values, offsets, reverse)
    if states.is_cuda and offsets is not None:
        states.zero_()  # nobody has looked whether the offsets lead to all samples
    launch("segment_scan", states, factors, values, offsets, *sizes(states, offsets), int(reverse))
    return states


def _fake(factors: Tensor | None, values: Tensor | None, offsets: Tensor | None, reverse: bool) -> Tensor:
    like: Any = factors if values is None else values
    return new_memory(like, *like.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    factors, values, offsets, ctx.reverse = inputs
    ctx.has_values = values is not None
    ctx.save_for_backward(factors, offsets, None if factors is None else output)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """What comes behind a sample, seen through the factors in between, is a scan the other way round."""
    factors, offsets, states = ctx.saved_tensors
    behind = torch.ops.renderpretrain.segment_scan(factors, grad, offsets, not ctx.reverse)
    grad_factors = states * behind if ctx.needs_input_grad[0] else None
    return grad_factors, behind if ctx.has_values else None, None, None


def _check(factors: Tensor | None, values: Tensor | None, offsets: Tensor | None, reverse: bool) -> None:
    x = factors if values is None else values
    if x is None:
        raise ValueError("segment_scan: expected factors, values or both, got neither")
    check_layout("x", x, offsets)


register(
    "segment_scan(Tensor? factors, Tensor? values, Tensor? offsets, bool reverse) -> Tensor",
    _segment_scan,
    _fake,
    {"factors": "float ... S", "values": "float ... S", "offsets": "int64 E"},
    _check,
)
register_gradient("segment_scan", _gradient, _save)
