"""Compositing the values along rays in one pass."""

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_mask
from renderpretrain.ops._library import (
    common_float,
    double_backward,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch, new_memory
from renderpretrain.ops.accumulate import accumulate_reference, check_values, rays_of
from renderpretrain.ops.composite import ray_scratch, transmittance

OPACITY_EPSILON = 1e-10
"""Keeps the expected depth of an empty ray at 0 instead of 0/0."""


COMPOSITED_AND_GRADIENTS = {
    "depth": "float ...",
    "opacity": "float ...",
    "weights": "float ... S",
    "grad_values": "float ... C",
    "grad_depth": "float ...",
    "grad_opacity": "float ...",
    "grad_weights": "float ... S",
}
"""What a backward operator of rendering takes besides the inputs; see :func:`register`."""


class Composited(NamedTuple):
    """What is seen along rays.

    Attributes:
        values: Weighted sums of the values.
        depth: Expected ``t`` given a hit; 0 where nothing was hit.
        opacity: Sum of the weights, in [0, 1].
        weights: Share of every sample.
    """

    values: Float[Tensor, "*batch C"]
    depth: Float[Tensor, "*batch"]
    opacity: Float[Tensor, "*batch"]
    weights: Float[Tensor, "*batch S"]


def composite_values(
    alphas: Float[Tensor, "*batch S"],
    values: Float[Tensor, "*batch S C"],
    t: Float[Tensor, "*batch S"],
    *,
    valid: Bool[Tensor, "*batch S"] | None = None,
    early_stop: float = 0.0,
) -> Composited:
    r"""Composite values, distance and opacity front to back, without storing a product.

    With :math:`T_i = \prod_{j<i} (1 - \alpha_j)` and :math:`w_i = T_i \alpha_i`: the sums
    :math:`\sum w_i v_i` and :math:`\sum w_i`, and the mean :math:`\sum w_i t_i / (\sum w_i + 10^{-10})`. Max
    (1995), "Optical models for direct volume rendering", equation 11.

    Args:
        alphas: Opacity of each interval, near to far, in [0, 1]. Differentiable, exactly at 0 and 1 too.
        values: Any number of channels, also none, in float16 or bfloat16 too. Differentiable.
        t: Where the samples are, metres. Differentiable.
        valid: Samples that count; the others are not read and hide nothing. All, if not given.
        early_stop: Transmittance in [0, 1) below which a ray ends: samples behind have weight and gradient 0.

    Returns:
        Sums in float32 or float64; all four differentiable to any order, from the second on without a kernel.
    """
    check_values("alphas", alphas, values)
    check_samples(alphas, t, valid, early_stop)
    alphas, values, t = common_float(("values",), alphas=alphas, values=values, t=t)
    if not has_native(alphas.device.type):
        return composite_values_reference(alphas, values, t, valid=valid, early_stop=early_stop)
    return Composited(*torch.ops.renderpretrain.composite_values(alphas, values, t, valid, early_stop))


def composite_values_reference(
    alphas: Float[Tensor, "*batch S"],
    values: Float[Tensor, "*batch S C"],
    t: Float[Tensor, "*batch S"],
    *,
    valid: Bool[Tensor, "*batch S"] | None = None,
    early_stop: float = 0.0,
) -> Composited:
    """:func:`composite_values` in plain PyTorch: the definition the kernels are tested against."""
    if valid is not None:
        alphas = torch.where(valid, alphas, 0.0)
    light = transmittance(alphas)
    seen = light.abs() >= early_stop
    if valid is not None:
        seen = seen & valid
    weights = torch.where(seen, alphas * light, 0.0)
    opacity = weights.sum(-1)
    depth = (weights * torch.where(seen, t, 0.0)).sum(-1) / (opacity + OPACITY_EPSILON)
    summed = accumulate_reference(weights, torch.where(seen[..., None], values, 0.0))
    return Composited(summed, depth, opacity, weights)


def check_samples(alphas: Tensor, t: Tensor, valid: Tensor | None, early_stop: float) -> None:
    """Raise ``ValueError`` unless the arguments belong to the same samples."""
    if t.shape != alphas.shape:
        raise ValueError(f"t: expected {tuple(alphas.shape)}, got {tuple(t.shape)}")
    if valid is not None:
        check_mask("valid", valid, alphas.shape, alphas.device)
    check_early_stop(early_stop)


def check_early_stop(early_stop: float) -> None:
    """Raise ``ValueError`` unless it is a transmittance that ends a ray."""
    if not 0 <= early_stop < 1:
        raise ValueError(f"early_stop: expected a transmittance in [0, 1), got {early_stop}")


def check_backward(*arguments: Any) -> None:
    """Raise ``ValueError`` where the last arguments of a backward operator do not fit each other."""
    *_, grad_values, _, _, _, early_stop, need_values = arguments
    check_early_stop(early_stop)
    if need_values and grad_values is None:
        raise ValueError(
            "grad_values: expected a gradient, for the one by the values is asked for, got nothing"
        )


def new_outputs(samples: Tensor, values: Tensor) -> Composited:
    """Memory for the four outputs."""
    batch = samples.shape[:-1]
    return Composited(
        samples.new_empty(*batch, values.shape[-1]),
        samples.new_empty(batch),
        samples.new_empty(batch),
        new_memory(samples, *samples.shape),
    )


def gradient_by_t(weights: Tensor, opacity: Tensor, grad_depth: Tensor | None) -> Tensor | None:
    """The gradient of the expected depth by ``t``; absent where nobody used that depth."""
    if grad_depth is None:
        return None
    return weights * (grad_depth / (opacity + OPACITY_EPSILON))[..., None]


def _composite_values(
    alphas: Tensor, values: Tensor, t: Tensor, valid: Tensor | None, early_stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out = new_outputs(alphas, values)
    launch("composite_values", alphas, values, t, valid, rays_of(alphas, values, early_stop), *out)
    return out


def _composite_values_backward(  # noqa: PLR0913  the operator's inputs, outputs and their gradients
    alphas: Tensor,
    values: Tensor,
    t: Tensor,
    valid: Tensor | None,
    depth: Tensor,
    opacity: Tensor,
    weights: Tensor,
    grad_values: Tensor | None,
    grad_depth: Tensor | None,
    grad_opacity: Tensor | None,
    grad_weights: Tensor | None,
    early_stop: float,
    need_values: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients by alphas and values; the latter is empty if not needed."""
    by_alphas = new_memory(alphas, *alphas.shape)
    by_values = new_memory(alphas, *(values.shape if need_values else (0,)))
    launch(
        "composite_values_backward",
        *(alphas, values, t, valid, depth, opacity, weights),
        *(grad_values, grad_depth, grad_opacity, grad_weights),
        rays_of(alphas, values, early_stop),
        torch.empty_like(alphas) if alphas.is_cuda else ray_scratch(alphas),
        *(by_alphas, by_values if need_values else None),
    )
    return by_alphas, by_values


def _fake(
    alphas: Tensor, values: Tensor, t: Tensor, valid: Tensor | None, early_stop: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return new_outputs(alphas, values)


def _fake_backward(*arguments: Any) -> tuple[Tensor, Tensor]:
    alphas, values, *_, need_values = arguments
    return alphas.new_empty(alphas.shape), alphas.new_empty(values.shape if need_values else (0,))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.early_stop = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    alphas, values, t, valid, depth, opacity, weights = ctx.saved_tensors
    need_values = ctx.needs_input_grad[1] and grads[0] is not None
    grad_alphas, grad_values = torch.ops.renderpretrain.composite_values_backward(
        alphas, values, t, valid, depth, opacity, weights, *grads, ctx.early_stop, need_values
    )
    return (
        grad_alphas,
        grad_values.to(values.dtype) if need_values else None,
        gradient_by_t(weights, opacity, grads[1]) if ctx.needs_input_grad[2] else None,
        None,
        None,
    )


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    alphas, values, t, valid, _, _, _, *grads, ctx.early_stop, ctx.need_values = inputs
    ctx.save_for_backward(alphas, values, t, valid, *grads)
    ctx.set_materialize_grads(False)


def _second_gradient(
    ctx: Any, along_alphas: Tensor | None, along_values: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Depth, opacity and weights follow from the rest, so that nothing is left to differentiate by them."""
    alphas, values, t, valid, *grads = ctx.saved_tensors
    reference = partial(composite_values_reference, valid=valid, early_stop=ctx.early_stop)
    along = along_alphas, along_values if ctx.need_values else None, None
    by_inputs, by_grads = double_backward(reference, (alphas, values, t), grads, along)
    return *by_inputs, None, None, None, None, *by_grads, None, None


_SAMPLES = {
    "alphas": "float ... S",
    "values": "stored ... S C",
    "t": "float ... S",
    "valid": "bool ... S",
}
register(
    "composite_values(Tensor alphas, Tensor values, Tensor t, Tensor? valid, float early_stop)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _composite_values,
    _fake,
    _SAMPLES,
    lambda *arguments: check_early_stop(arguments[-1]),
)
register(
    "composite_values_backward(Tensor alphas, Tensor values, Tensor t, Tensor? valid, Tensor depth,"
    " Tensor opacity, Tensor weights, Tensor? grad_values, Tensor? grad_depth, Tensor? grad_opacity,"
    " Tensor? grad_weights, float early_stop, bool need_values) -> (Tensor, Tensor)",
    _composite_values_backward,
    _fake_backward,
    {**_SAMPLES, **COMPOSITED_AND_GRADIENTS},
    check_backward,
)
register_gradient("composite_values", _gradient, _save)
register_gradient("composite_values_backward", _second_gradient, _save_backward)
