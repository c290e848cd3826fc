"""Rendering signed distances in one pass."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.ops._library import (
    common_float,
    double_backward,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops.accumulate import check_values, rays_of
from renderpretrain.ops.composite import RAY_GROUP, ray_scratch
from renderpretrain.ops.composite_values import (
    COMPOSITED_AND_GRADIENTS,
    Composited,
    check_backward,
    check_early_stop,
    check_samples,
    composite_values_reference,
    gradient_by_t,
    new_outputs,
)
from renderpretrain.ops.neus import check_intervals, neus_alphas_reference, num_parts


def neus_render(  # noqa: PLR0913  an interval has four numbers
    sdf: Float[Tensor, "*batch S"],
    cosines: Float[Tensor, "*batch S"],
    deltas: Float[Tensor, "*batch S"],
    t: Float[Tensor, "*batch S"],
    inv_s: Float[Tensor, ""],
    values: Float[Tensor, "*batch S C"],
    *,
    valid: Bool[Tensor, "*batch S"] | None = None,
    early_stop: float = 0.0,
) -> Composited:
    """:func:`composite_values` of :func:`neus_alphas` in one pass per ray; the alphas are not kept.

    Args:
        sdf: Signed distance at the intervals' middles, metres, positive in free space. Differentiable.
        cosines: Ray direction times sdf gradient. Differentiable.
        deltas: Interval lengths, metres. Differentiable.
        t: Where the samples are, metres. Differentiable.
        inv_s: Sharpness in 1/m. Differentiable; its gradient sums the rays in a fixed order.
        values: Any number of channels, also none, in float16 or bfloat16 too. Differentiable.
        valid: Samples that count; the others do nothing, even if NaN. All, if not given.
        early_stop: Transmittance in [0, 1) below which a ray ends: samples behind have weight and gradient 0.

    Returns:
        Sums in float32 or float64; all four differentiable to any order, from the second on without a kernel.
    """
    check_values("sdf", sdf, values)
    check_intervals(sdf, cosines, deltas, inv_s)
    check_samples(sdf, t, valid, early_stop)
    tensors = common_float(
        ("values",), sdf=sdf, cosines=cosines, deltas=deltas, t=t, inv_s=inv_s, values=values
    )
    if not has_native(sdf.device.type):
        return neus_render_reference(*tensors, valid=valid, early_stop=early_stop)
    return Composited(*torch.ops.renderpretrain.neus_render(*tensors, valid, early_stop))


def neus_render_reference(  # noqa: PLR0913  an interval has four numbers
    sdf: Float[Tensor, "*batch S"],
    cosines: Float[Tensor, "*batch S"],
    deltas: Float[Tensor, "*batch S"],
    t: Float[Tensor, "*batch S"],
    inv_s: Float[Tensor, ""],
    values: Float[Tensor, "*batch S C"],
    *,
    valid: Bool[Tensor, "*batch S"] | None = None,
    early_stop: float = 0.0,
) -> Composited:
    """:func:`neus_render` in plain PyTorch: the definition the kernels are tested against."""
    if valid is not None:
        sdf, cosines, deltas = (torch.where(valid, x, 0.0) for x in (sdf, cosines, deltas))
    alphas = neus_alphas_reference(sdf, cosines, deltas, inv_s)
    return composite_values_reference(alphas, values, t, valid=valid, early_stop=early_stop)


def _neus_render(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *tensors, early_stop = inputs
    sdf, cosines, deltas, t, inv_s, values, valid = tensors
    out = new_outputs(sdf, values)
    rays = rays_of(sdf, values, early_stop)
    launch("neus_render", sdf, cosines, deltas, inv_s, values, t, valid, rays, *out)
    return out


def _neus_render_backward(*inputs: Any) -> tuple[Tensor, ...]:
    """Gradients by sdf, cosines, deltas, inv_s and values; the last is empty if not needed."""
    *tensors, early_stop, need_values = inputs
    sdf, cosines, deltas, t, inv_s, values, valid, depth, opacity, weights, *grads = tensors
    *found, grad_values = _fake_backward(*inputs)
    count = num_parts(sdf.numel()) if sdf.is_cuda else -(-sdf.shape[:-1].numel() // RAY_GROUP)
    parts = sdf.new_empty(count, dtype=torch.float64)
    launch(
        "neus_render_backward",
        *(sdf, cosines, deltas, inv_s, values, t, valid, depth, opacity, weights, *grads),
        rays_of(sdf, values, early_stop),
        None if sdf.is_cuda else ray_scratch(sdf),
        *(*found[:3], parts, found[3], grad_values if need_values else None),
    )
    return *found, grad_values


def _fake(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sdf, _, _, _, _, values, *_ = inputs
    return new_outputs(sdf, values)


def _fake_backward(*inputs: Any) -> tuple[Tensor, ...]:
    sdf, _, _, _, inv_s, values, *_, need_values = inputs
    intervals = (new_memory(sdf, *sdf.shape) for _ in range(3))
    return *intervals, inv_s.new_empty(()), new_memory(sdf, *(values.shape if need_values else (0,)))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.early_stop = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors  # read once: a checkpoint computes them anew, and gives them away
    *_, values, _, _, opacity, weights = tensors
    need_values = ctx.needs_input_grad[5] and grads[0] is not None
    *intervals, grad_inv_s, grad_values = torch.ops.renderpretrain.neus_render_backward(
        *tensors, *grads, ctx.early_stop, need_values
    )
    grad_t = gradient_by_t(weights, opacity, grads[1]) if ctx.needs_input_grad[3] else None
    grad_values = grad_values.to(values.dtype) if need_values else None
    return *intervals, grad_t, grad_inv_s, grad_values, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *intervals, valid, _, _, _, grad_values, grad_depth, grad_opacity, grad_weights = inputs[:-2]
    ctx.early_stop, ctx.need_values = inputs[-2:]
    ctx.save_for_backward(*intervals, valid, grad_values, grad_depth, grad_opacity, grad_weights)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    """Depth, opacity and weights follow from the rest, so that nothing is left to differentiate by them."""
    *inputs, valid, grad_values, grad_depth, grad_opacity, grad_weights = ctx.saved_tensors
    grads = grad_values, grad_depth, grad_opacity, grad_weights
    by_sdf, by_cosines, by_deltas, by_inv_s, by_values = along
    asked = by_sdf, by_cosines, by_deltas, None, by_inv_s, by_values if ctx.need_values else None
    reference = partial(neus_render_reference, valid=valid, early_stop=ctx.early_stop)
    by_inputs, by_grads = double_backward(reference, inputs, grads, asked)
    return *by_inputs, None, None, None, None, *by_grads, None, None


_INTERVALS = "Tensor sdf, Tensor cosines, Tensor deltas, Tensor t, Tensor inv_s, Tensor values, Tensor? valid"
_TENSORS = {
    **dict.fromkeys(("sdf", "cosines", "deltas", "t"), "float ... S"),
    "inv_s": "float",
    "values": "stored ... S C",
    "valid": "bool ... S",
}
register(
    f"neus_render({_INTERVALS}, float early_stop) -> (Tensor, Tensor, Tensor, Tensor)",
    _neus_render,
    _fake,
    _TENSORS,
    lambda *arguments: check_early_stop(arguments[-1]),
)
register(
    f"neus_render_backward({_INTERVALS}, Tensor depth, Tensor opacity, Tensor weights,"
    " Tensor? grad_values, Tensor? grad_depth, Tensor? grad_opacity, Tensor? grad_weights,"
    " float early_stop, bool need_values) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _neus_render_backward,
    _fake_backward,
    {**_TENSORS, **COMPOSITED_AND_GRADIENTS},
    check_backward,
)
register_gradient("neus_render", _gradient, _save)
register_gradient("neus_render_backward", _second_gradient, _save_backward)
