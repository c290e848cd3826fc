"""Front-to-back alpha compositing of samples along rays."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_mask, check_shape
from renderpretrain.ops._library import (
    common_float,
    double_backward,
    register,
    register_gradient,
)
from renderpretrain.ops._native import has_native, launch

RAY_GROUP = 16
"""``RP_RAY_GROUP``: rays that the CPU follows together, and samples between its notes."""


def composite(
    alphas: Float[Tensor, "*batch S"], valid: Bool[Tensor, "*batch S"] | None = None
) -> Float[Tensor, "*batch S"]:
    r"""Compositing weights :math:`w_i = \alpha_i \prod_{j<i} (1 - \alpha_j)`.

    Args:
        alphas: Opacity of each interval, near to far, in [0, 1]. Differentiable to any order; the gradient is
            exact at 0 and at 1.
        valid: Samples that count; the others have weight and gradient zero whatever their alpha, and hide
            nothing. All, if not given.

    Returns:
        The share of every interval, in float32 or float64; they sum to the opacity of the ray.

    Volume rendering after Max (1995), "Optical models for direct volume rendering", equation 11.
    """
    check_shape("alphas", alphas, "... S")
    (alphas,) = common_float(alphas=alphas)
    if valid is not None:
        check_mask("valid", valid, alphas.shape, alphas.device)
    if not has_native(alphas.device.type):
        return composite_reference(alphas, valid)
    return torch.ops.renderpretrain.composite(alphas, valid)


def composite_reference(
    alphas: Float[Tensor, "*batch S"], valid: Bool[Tensor, "*batch S"] | None = None
) -> Float[Tensor, "*batch S"]:
    """:func:`composite` in plain PyTorch: the definition the kernels are tested against."""
    if valid is not None:
        alphas = torch.where(valid, alphas, 0.0)
    return alphas * transmittance(alphas)


def transmittance(alphas: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """The share of light that reaches each interval, in plain PyTorch."""
    behind = torch.cumprod(1 - alphas, dim=-1)
    return torch.cat([torch.ones_like(alphas[..., :1]), behind[..., :-1]], dim=-1)


def ray_scratch(samples: Tensor) -> Tensor:
    """``RP_RAY_SCRATCH`` numbers: what the CPU notes on the way along a ray for the way back."""
    num_rays, num_samples = samples.shape[:-1].numel(), samples.shape[-1]
    return samples.new_empty(RAY_GROUP * -(-num_rays // RAY_GROUP) * -(-num_samples // RAY_GROUP))


def _num_rays(alphas: Tensor) -> int:
    return alphas.shape[:-1].numel()


def _composite(alphas: Tensor, valid: Tensor | None) -> Tensor:
    weights = torch.empty_like(alphas)
    launch("composite", alphas, valid, _num_rays(alphas), alphas.shape[-1], weights)
    return weights


def _composite_backward(grad_weights: Tensor, alphas: Tensor, valid: Tensor | None) -> Tensor:
    grad_alphas = torch.empty_like(alphas)
    sizes = _num_rays(alphas), alphas.shape[-1]
    scratch = None if alphas.is_cuda else ray_scratch(alphas)
    launch("composite_backward", grad_weights, alphas, valid, *sizes, scratch, grad_alphas)
    return grad_alphas


def _fake(alphas: Tensor, valid: Tensor | None) -> Tensor:
    return torch.empty_like(alphas, memory_format=torch.contiguous_format)


def _fake_backward(grad_weights: Tensor, alphas: Tensor, valid: Tensor | None) -> Tensor:
    return _fake(alphas, valid)


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad_weights: Tensor) -> tuple[Tensor, None]:
    alphas, valid = ctx.saved_tensors
    return torch.ops.renderpretrain.composite_backward(grad_weights, alphas, valid), None


def _second_gradient(ctx: Any, along: Tensor) -> tuple[Tensor | None, ...]:
    grad_weights, alphas, valid = ctx.saved_tensors
    (by_alphas,), (by_grad,) = double_backward(
        lambda alphas: composite_reference(alphas, valid), [alphas], [grad_weights], [along]
    )
    return by_grad, by_alphas, None


_SAMPLES = {"alphas": "float ... S", "valid": "bool ... S"}
register("composite(Tensor alphas, Tensor? valid) -> Tensor", _composite, _fake, _SAMPLES)
register(
    "composite_backward(Tensor grad_weights, Tensor alphas, Tensor? valid) -> Tensor",
    _composite_backward,
    _fake_backward,
    {"grad_weights": "float ... S", **_SAMPLES},
)
register_gradient("composite", _gradient, _save)
register_gradient("composite_backward", _second_gradient, _save)
