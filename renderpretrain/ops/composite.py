"""Front-to-back alpha compositing."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import common_float, register, register_gradient
from renderpretrain.ops._native import has_native, launch


def composite(alphas: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    r"""Compositing weights :math:`w_i = \alpha_i \prod_{j<i} (1 - \alpha_j)`.

    Args:
        alphas: Opacity of each interval, near to far, in [0, 1]. Differentiable to any order; the gradient is
            exact at 0 and at 1.

    Returns:
        The share of every interval, in float32 or float64; they sum to the opacity of the ray.

    Volume rendering after Max (1995), "Optical models for direct volume rendering", equation 11.
    """
    check_shape("alphas", alphas, "... S")
    (alphas,) = common_float(alphas=alphas)
    if not has_native(alphas.device.type):
        return composite_reference(alphas)
    return torch.ops.renderpretrain.composite(alphas)


def composite_reference(alphas: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
    """:func:`composite` in plain PyTorch: the definition the kernels are tested against."""
    transmittance = torch.cumprod(1 - alphas, dim=-1)
    return alphas * torch.cat([torch.ones_like(alphas[..., :1]), transmittance[..., :-1]], dim=-1)


def _num_rays(alphas: Tensor) -> int:
    return alphas.shape[:-1].numel()


def _composite(alphas: Tensor) -> Tensor:
    alphas = alphas.contiguous()
    weights = torch.empty_like(alphas)
    launch("composite", alphas, _num_rays(alphas), alphas.shape[-1], weights)
    return weights


def _composite_backward(grad_weights: Tensor, alphas: Tensor) -> Tensor:
    alphas, grad_weights = alphas.contiguous(), grad_weights.contiguous()
    grad_alphas = torch.empty_like(alphas)
    launch("composite_backward", grad_weights, alphas, _num_rays(alphas), alphas.shape[-1], grad_alphas)
    return grad_alphas


def _fake(*tensors: Tensor) -> Tensor:
    return torch.empty_like(tensors[-1], memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad_weights: Tensor) -> Tensor:
    (alphas,) = ctx.saved_tensors
    return torch.ops.renderpretrain.composite_backward(grad_weights, alphas)


def _second_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate the reference's gradient: rarely needed, so it has no kernel of its own."""
    with torch.enable_grad():
        grad_weights, alphas = (_on_tape(tensor) for tensor in ctx.saved_tensors)
        (grad_alphas,) = torch.autograd.grad(
            composite_reference(alphas), alphas, grad_weights, create_graph=True
        )
        first, second = torch.autograd.grad(grad_alphas, (grad_weights, alphas), grad, create_graph=True)
    return first, second


def _on_tape(tensor: Tensor) -> Tensor:
    """An alias that can be differentiated by, and still leads back to the tensor's own history."""
    alias = tensor.view_as(tensor)
    return alias if alias.requires_grad else alias.requires_grad_()


register("composite(Tensor alphas) -> Tensor", _composite, _fake)
register("composite_backward(Tensor grad_weights, Tensor alphas) -> Tensor", _composite_backward, _fake)
register_gradient("composite", _gradient, _save)
register_gradient("composite_backward", _second_gradient, _save)
