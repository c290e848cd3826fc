"""Lift-splat pooling: pixels spread over their rays by depth, and summed in the cells these cross."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import (
    bilinear_double_backward,
    chosen,
    common_float,
    register,
    register_gradient,
)
from renderpretrain.ops._native import TYPE_CODES, has_native, launch, new_memory
from renderpretrain.ops._rows import EACH_ONCE, check_each_once, check_rising, check_rows, is_known
from renderpretrain.ops._signatures import Frustum
from renderpretrain.ops.lss_plan import LssPlan


def lss_pool(
    depth_probabilities: Float[Tensor, "N D H W"], features: Float[Tensor, "N C H W"], plan: LssPlan
) -> Float[Tensor, "cells C"]:
    r"""Features of pixels, weighted by the probability of each depth, summed in the cell the point lies in.

    .. math:: F_c = \sum_{(n, d, h, w) \in c} p_{n d h w}\, f_{n h w}

    The product of depth and features is never stored. The order of every sum is fixed on all devices, without
    atomics.

    Args:
        depth_probabilities: Distribution over the ``D`` depth bins of every pixel. Differentiable; zero
            gradient where the point is dropped.
        features: Feature maps of the same images; fastest in ``torch.channels_last`` memory. Float16 and
            bfloat16 are read as they are. Differentiable.
        plan: From :func:`~renderpretrain.ops.lss_plan`, on the same device.

    Returns:
        Sums in float32 or float64, zero in cells without points; differentiable to any order.

    Lift, Splat, Shoot (https://arxiv.org/abs/2008.05711), section 3, as one sum like BEVPoolv2
    (https://arxiv.org/abs/2211.17111).
    """
    depth_probabilities, features = _prepare(depth_probabilities, features, plan)
    if not has_native(features.device.type):
        return lss_pool_reference(depth_probabilities, features, plan)
    pool = torch.ops.renderpretrain.lss_pool
    return pool(depth_probabilities, features, plan.cells, plan.order, plan.starts, plan.pixels, plan.bins)


def lss_pool_reference(
    depth_probabilities: Float[Tensor, "N D H W"], features: Float[Tensor, "N C H W"], plan: LssPlan
) -> Float[Tensor, "cells C"]:
    """:func:`lss_pool` in plain PyTorch, with the product in full: what the kernels are tested against."""
    depth, features = common_float(depth_probabilities=depth_probabilities, features=features)
    lifted = depth.permute(0, 2, 3, 1)[..., None] * features.permute(0, 2, 3, 1)[..., None, :]
    kept = plan.cells.flatten() >= 0
    total = features.new_zeros(plan.num_cells, features.shape[1])
    return total.index_add(0, plan.cells.flatten()[kept], lifted.flatten(0, 3)[kept])


def _prepare(depth: Tensor, features: Tensor, plan: LssPlan) -> tuple[Tensor, Tensor]:
    """Depth in float32 or float64, and features in the same type unless they are in half precision."""
    if not isinstance(plan, LssPlan):
        raise ValueError(f"plan: expected one from lss_plan, got {type(plan).__name__}")
    images, height, width, bins = plan.cells.shape
    check_shape("depth_probabilities", depth, "N D H W", N=images, D=bins, H=height, W=width)
    check_shape("features", features, "N C H W", N=images, H=height, W=width)
    if plan.cells.device != features.device:
        raise ValueError(f"plan: expected one on {features.device} like features, got {plan.cells.device}")
    depth, features = common_float(("features",), depth_probabilities=depth, features=features)
    return depth, features


def _dense(depth: Tensor) -> Tensor:
    """Depth in one of the two orders the kernels read: bins before rows, or last."""
    last = depth.is_contiguous(memory_format=torch.channels_last)
    return depth if last else depth.contiguous()


def _frustum(depth: Tensor, features: Tensor, num_cells: int) -> Frustum:
    images, bins, height, width = depth.shape
    return Frustum(images, bins, height, width, features.shape[1], num_cells, not depth.is_contiguous())


def _check_plan(cells: Tensor, order: Tensor, starts: Tensor, pixels: Tensor, bins: Tensor) -> None:
    """What the kernel follows; every cell has a row of the result, so that each occurs."""
    if pixels.numel() != cells.numel():
        raise ValueError(f"pixels: expected {cells.numel()}, one per point in cells, got {pixels.numel()}")
    check_rows("pixels", pixels, cells[..., 0].numel() if cells.shape[-1] else 0)
    check_rows("bins", bins, cells.shape[-1])
    check_rising("starts", starts, len(pixels))
    check_each_once("order", order)


def _lss_pool(  # noqa: PLR0913 - the fields of the plan
    depth: Tensor,
    features: Tensor,
    cells: Tensor,
    order: Tensor,
    starts: Tensor,
    pixels: Tensor,
    bins: Tensor,
) -> Tensor:
    depth, features = _dense(depth), features.contiguous(memory_format=torch.channels_last)
    out = new_memory(depth, len(order), features.shape[1])
    if out.is_cuda and not is_known(order, EACH_ONCE):
        out.zero_()  # nobody has looked whether every cell is there
    frustum = _frustum(depth, features, len(order))
    launch("lss_pool", depth, TYPE_CODES[features.dtype], features, order, starts, pixels, bins, frustum, out)
    return out


def _lss_pool_backward(  # noqa: PLR0913 - those of _lss_pool and what is asked for
    grad: Tensor,
    depth: Tensor,
    features: Tensor,
    cells: Tensor,
    order: Tensor,
    starts: Tensor,
    pixels: Tensor,
    bins: Tensor,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients by depth and features; one that is not needed is an empty tensor.

    All of the plan but the cells is there for the next derivative.
    """
    depth, features = _dense(depth), features.contiguous(memory_format=torch.channels_last)
    grad_depth, grad_features = _new_gradients(depth, features, needed, new_memory)
    if features.shape[1] == 0:
        return grad_depth.zero_(), grad_features
    launch(
        "lss_pool_backward",
        grad,
        depth,
        TYPE_CODES[features.dtype],
        features,
        cells,
        _frustum(depth, features, len(grad)),
        *chosen((grad_depth, grad_features), needed),
    )
    return grad_depth, grad_features


def _new_gradients(
    depth: Tensor, features: Tensor, needed: list[bool], new: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Memory for the gradients: of depth in its own order, of features with channels last."""
    grad_depth, grad_features = new(depth, 0), new(depth, 0)
    images, bins, height, width = depth.shape
    if needed[0] and depth.is_contiguous():
        grad_depth = new(depth, images, bins, height, width)
    elif needed[0]:
        grad_depth = new(depth, images, height, width, bins).permute(0, 3, 1, 2)
    if needed[1]:
        grad_features = new(depth, images, height, width, features.shape[1]).permute(0, 3, 1, 2)
    return grad_depth, grad_features


def _fake(  # noqa: PLR0913 - those of _lss_pool
    depth: Tensor,
    features: Tensor,
    cells: Tensor,
    order: Tensor,
    starts: Tensor,
    pixels: Tensor,
    bins: Tensor,
) -> Tensor:
    return depth.new_empty(order.shape[0], features.shape[1])


def _fake_backward(
    grad: Tensor, depth: Tensor, features: Tensor, *plan_and_needed: Any
) -> tuple[Tensor, Tensor]:
    *_, needed = plan_and_needed
    return _new_gradients(_dense(depth), features, needed, lambda like, *shape: like.new_empty(shape))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    depth, features, *plan = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    backward = torch.ops.renderpretrain.lss_pool_backward
    grad_depth, grad_features = backward(grad, depth, features, *plan, needed)
    return *chosen((grad_depth, grad_features.to(features.dtype)), needed), *(None,) * 5


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, depth, features, *plan = ctx.saved_tensors
    operators = torch.ops.renderpretrain
    found = bilinear_double_backward(
        lambda depth, features: operators.lss_pool(depth, features, *plan),
        lambda grad, depth, features, needed: operators.lss_pool_backward(
            grad, depth, features, *plan, needed
        ),
        (grad, depth, features),
        chosen(along, ctx.needed),
    )
    return *found, *(None,) * 6


_TENSORS = {
    "depth_probabilities": "float~ N D H W",
    "features": "stored~ N C H W",
    "cells": "int32 N H W D",
    "order": "int32 M",
    "starts": "int32 M+1",
    "pixels": "int32 P",
    "bins": "int32 P",
}
register(
    "lss_pool(Tensor depth_probabilities, Tensor features, Tensor cells, Tensor order, Tensor starts,"
    " Tensor pixels, Tensor bins) -> Tensor",
    _lss_pool,
    _fake,
    _TENSORS,
    lambda depth, features, *plan: _check_plan(*plan),
)
register(
    "lss_pool_backward(Tensor grad, Tensor depth_probabilities, Tensor features, Tensor cells,"
    " Tensor order, Tensor starts, Tensor pixels, Tensor bins, bool[2] needed) -> (Tensor, Tensor)",
    _lss_pool_backward,
    _fake_backward,
    {"grad": "float M C", **_TENSORS},
    lambda grad, depth, features, cells, *rest: check_rows("cells", cells, len(grad), lowest=-1),
)
register_gradient("lss_pool", _gradient, _save)
register_gradient("lss_pool_backward", _second_gradient, _save_backward)
