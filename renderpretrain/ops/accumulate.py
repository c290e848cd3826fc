"""Weighted sums of values along rays."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.ops._library import (
    bilinear_double_backward,
    chosen,
    common_float,
    register,
    register_gradient,
)
from renderpretrain.ops._native import TYPE_CODES, has_native, launch, new_memory
from renderpretrain.ops._signatures import Rays


def accumulate(
    weights: Float[Tensor, "*batch S"], values: Float[Tensor, "*batch S C"]
) -> Float[Tensor, "*batch C"]:
    """Weighted sum of the values along each ray; the products are never stored.

    Args:
        weights: Share of every sample. Differentiable.
        values: Any number of channels, in float16 or bfloat16 too; a sample of weight 0 adds nothing,
            whatever its value. Differentiable.

    Returns:
        Sums in float32 or float64. Differentiable to any order.
    """
    check_values("weights", weights, values)
    weights, values = common_float(("values",), weights=weights, values=values)
    if not has_native(weights.device.type):
        return accumulate_reference(weights, values)
    return torch.ops.renderpretrain.accumulate(weights, values)


def accumulate_reference(
    weights: Float[Tensor, "*batch S"], values: Float[Tensor, "*batch S C"]
) -> Float[Tensor, "*batch C"]:
    """:func:`accumulate` in plain PyTorch: the definition the kernels are tested against."""
    nothing = (weights == 0)[..., None] & ~values.isfinite()
    return (weights[..., None] * torch.where(nothing, 0.0, values)).sum(-2)


def check_values(name: str, samples: Tensor, values: Tensor) -> None:
    """Raise ``ValueError`` unless there is a row of values for every one of the samples called ``name``."""
    if samples.dim() == 0:
        raise ValueError(f"{name}: expected (... S), got ()")
    if values.dim() != samples.dim() + 1 or values.shape[:-1] != samples.shape:
        expected = (*samples.shape, "C")
        raise ValueError(f"values: expected {expected} like {name}, got {tuple(values.shape)}")


def rays_of(samples: Tensor, values: Tensor, early_stop: float = 0.0) -> Rays:
    """The sizes that the kernels ask for: rays, samples, channels, type and early stop."""
    num_samples, channels = values.shape[-2:]
    return Rays(samples.shape[:-1].numel(), num_samples, channels, TYPE_CODES[values.dtype], early_stop)


def _accumulate(weights: Tensor, values: Tensor) -> Tensor:
    out = _fake(weights, values)
    launch("accumulate", weights, values, rays_of(weights, values), out)
    return out


def _accumulate_backward(
    grad: Tensor, weights: Tensor, values: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by weights and values; one that is not needed is an empty tensor."""
    found = _fake_backward(grad, weights, values, needed)
    launch("accumulate_backward", grad, weights, values, rays_of(weights, values), *chosen(found, needed))
    return found


def _fake(weights: Tensor, values: Tensor) -> Tensor:
    return weights.new_empty(*weights.shape[:-1], values.shape[-1])


def _fake_backward(
    grad: Tensor, weights: Tensor, values: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    sizes = [tensor.shape if need else (0,) for tensor, need in zip((weights, values), needed, strict=True)]
    return weights.new_empty(sizes[0]), new_memory(weights, *sizes[1])


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    weights, values = ctx.saved_tensors
    needed = list(ctx.needs_input_grad)
    grad_weights, grad_values = torch.ops.renderpretrain.accumulate_backward(grad, weights, values, needed)
    return chosen((grad_weights, grad_values.to(values.dtype)), needed)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    forward, backward = torch.ops.renderpretrain.accumulate, torch.ops.renderpretrain.accumulate_backward
    return *bilinear_double_backward(forward, backward, ctx.saved_tensors, chosen(along, ctx.needed)), None


_SAMPLES = {"weights": "float ... S", "values": "stored ... S C"}
register("accumulate(Tensor weights, Tensor values) -> Tensor", _accumulate, _fake, _SAMPLES)
register(
    "accumulate_backward(Tensor grad, Tensor weights, Tensor values, bool[2] needed) -> (Tensor, Tensor)",
    _accumulate_backward,
    _fake_backward,
    {"grad": "float ... C", **_SAMPLES},
)
register_gradient("accumulate", _gradient, _save)
register_gradient("accumulate_backward", _second_gradient, _save_backward)
