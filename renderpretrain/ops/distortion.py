"""How far the weights of a ray are spread."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from renderpretrain.ops._library import (
    chosen,
    common_float,
    on_tape,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops._segments import check_layout, sizes, to_rows


def distortion_loss(
    weights: Float[Tensor, "*batch S"],
    t_starts: Float[Tensor, "*batch S"],
    t_ends: Float[Tensor, "*batch S"],
    offsets: Int64[Tensor, " E"] | None = None,
) -> Float[Tensor, "*rays"]:
    r"""Mean distance of two points drawn from a ray's weights, each spread evenly over its interval.

    :math:`\sum_{ij} w_i w_j |m_i - m_j| + \frac13 \sum_i w_i^2 (t^e_i - t^s_i)` with middles m: small where
    the weights gather in one place. Takes time in proportion to the number of samples.

    Args:
        weights: Share of every interval, rays as rows; or those of all rays one after the other, (N). A
            sample of weight 0 counts as absent. Differentiable to any order.
        t_starts: Where the intervals begin; their middles are finite and near to far. Differentiable to any
            order; of two intervals with one middle the first counts as nearer.
        t_ends: Where they end. The loss has their unit: metres, or none for the paper's, which are normalised
            to [0, 1]. Differentiable to any order.
        offsets: Where in (N) each ray begins and the last one ends, (R + 1): sorted, from 0 to N. On CUDA the
            values are not checked, for that would wait for the device: wrong ones give wrong losses.

    Returns:
        One loss per ray, in float32 or float64; 0 for a ray without samples.

    Mip-NeRF 360 (https://arxiv.org/abs/2111.12077), equation 15.
    """
    check_layout("weights", weights, offsets)
    for name, t in (("t_starts", t_starts), ("t_ends", t_ends)):
        if t.shape != weights.shape:
            raise ValueError(f"{name}: expected {tuple(weights.shape)} like weights, got {tuple(t.shape)}")
    weights, t_starts, t_ends = common_float(weights=weights, t_starts=t_starts, t_ends=t_ends)
    if not has_native(weights.device.type):
        return distortion_loss_reference(weights, t_starts, t_ends, offsets)
    return torch.ops.renderpretrain.distortion_loss(weights, t_starts, t_ends, offsets)


def distortion_loss_reference(
    weights: Float[Tensor, "*batch S"],
    t_starts: Float[Tensor, "*batch S"],
    t_ends: Float[Tensor, "*batch S"],
    offsets: Int64[Tensor, " E"] | None = None,
) -> Float[Tensor, "*rays"]:
    """:func:`distortion_loss` in plain PyTorch: the definition the kernels are tested against."""
    if offsets is not None:
        weights, t_starts, t_ends = (to_rows(x, offsets, 0.0)[0] for x in (weights, t_starts, t_ends))
    middles = 0.5 * (t_starts + t_ends)
    # Between one middle and the next the distance to everything in front grows by the gap.
    mass = weights.cumsum(-1)[..., :-1]
    spread = (mass * middles.diff(dim=-1)).cumsum(-1)
    between = 2 * (weights[..., 1:] * spread).sum(-1)
    return between + (weights.square() * (t_ends - t_starts)).sum(-1) / 3


def _distortion_loss(weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor | None) -> Tensor:
    losses = _fake(weights, t_starts, t_ends, offsets)
    launch("distortion_loss", weights, t_starts, t_ends, offsets, *sizes(weights, offsets), losses)
    return losses


def _distortion_loss_backward(
    grad: Tensor, weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor | None, ends_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by weights, starts and ends; the last two are empty unless they are needed."""
    results = _fake_backward(grad, weights, t_starts, t_ends, offsets, ends_needed)
    if grad.is_cuda and offsets is not None:
        for result in results:  # nobody has looked whether the offsets lead to all samples
            result.zero_()
    pointers = chosen(results, [True, ends_needed, ends_needed])
    inputs = (grad, weights, t_starts, t_ends, offsets)
    launch("distortion_loss_backward", *inputs, *sizes(weights, offsets), *pointers)
    return results


def _fake(weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor | None) -> Tensor:
    return weights.new_empty(weights.shape[:-1] if offsets is None else (offsets.shape[0] - 1,))


def _fake_backward(
    grad: Tensor, weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor | None, ends_needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    by_weights = new_memory(weights, *weights.shape)
    if not ends_needed:
        return by_weights, weights.new_empty(0), weights.new_empty(0)
    return by_weights, new_memory(weights, *weights.shape), new_memory(weights, *weights.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    ends_needed = any(needed[1:])
    backward = torch.ops.renderpretrain.distortion_loss_backward
    grads = backward(grad, *ctx.saved_tensors, ends_needed)
    return *chosen(grads, needed), None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.ends_needed = inputs
    ctx.save_for_backward(*tensors)


def _second_gradient(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate a form made of scans: rarely needed, so it has no kernel of its own."""
    *tensors, offsets = ctx.saved_tensors
    used = 3 if ctx.ends_needed else 1
    with torch.enable_grad():
        grad, *inputs = (on_tape(x) for x in tensors)
        weights, t_starts, t_ends = inputs
        shares = _shares(weights, t_starts, t_ends, offsets)
        total = (_per_sample(grad, offsets, weights) * shares).sum()
        grads = torch.autograd.grad(total, inputs, create_graph=True)
        seconds = torch.autograd.grad(grads[:used], (grad, *inputs), along[:used], create_graph=True)
    return *seconds, None, None


def _per_sample(grad: Tensor, offsets: Tensor | None, like: Tensor) -> Tensor:
    """The value of each ray at all of its samples."""
    if offsets is None:
        return grad[..., None]
    return grad.repeat_interleave(offsets.diff(), output_size=like.shape[0])


def _shares(weights: Tensor, t_starts: Tensor, t_ends: Tensor, offsets: Tensor | None) -> Tensor:
    """What each sample adds to the loss of its ray, as in ``csrc/distortion.h``."""
    scan = torch.ops.renderpretrain.segment_scan
    middles = 0.5 * (t_starts + t_ends)
    # At the first sample of a ray the gap is no gap, but the mass in front of it is 0.
    gaps = middles - torch.cat([middles[..., :1], middles[..., :-1]], -1)
    grown = scan(None, weights, offsets, False) * gaps
    spread = scan(None, grown, offsets, False) + grown
    return weights * (2 * spread + weights * (t_ends - t_starts) / 3)


def _check_backward(grad: Tensor, weights: Tensor, *rest: Any) -> None:
    offsets = rest[2]
    check_layout("weights", weights, offsets)
    losses = weights.shape[:-1] if offsets is None else (len(offsets) - 1,)
    if grad.shape != losses:
        raise ValueError(f"grad: expected one number per ray {tuple(losses)}, got {tuple(grad.shape)}")


_TENSORS = {
    **dict.fromkeys(("weights", "t_starts", "t_ends"), "float ... S"),
    "offsets": "int64 E",
}
register(
    "distortion_loss(Tensor weights, Tensor t_starts, Tensor t_ends, Tensor? offsets) -> Tensor",
    _distortion_loss,
    _fake,
    _TENSORS,
    lambda weights, t_starts, t_ends, offsets: check_layout("weights", weights, offsets),
)
register(
    "distortion_loss_backward(Tensor grad, Tensor weights, Tensor t_starts, Tensor t_ends, Tensor? offsets,"
    " bool ends_needed) -> (Tensor, Tensor, Tensor)",
    _distortion_loss_backward,
    _fake_backward,
    {"grad": "float *", **_TENSORS},
    _check_backward,
)
register_gradient("distortion_loss", _gradient, _save)
register_gradient("distortion_loss_backward", _second_gradient, _save_backward)
