"""The NeuS opacity law: from signed distances to the opacity of an interval."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import common_float, double_backward, register, register_gradient
from renderpretrain.ops._native import has_native, launch, new_memory

ALPHA_EPSILON = 1e-5
"""Keeps the quotient finite where the logistic CDF underflows; the value of NeuS."""

INTERVALS_PER_PART = 4096
"""``RP_PART``: how many intervals' gradients by the sharpness are summed together first."""


def neus_alphas(
    sdf: Float[Tensor, "*batch"],
    cosines: Float[Tensor, "*batch"],
    deltas: Float[Tensor, "*batch"],
    inv_s: Float[Tensor, ""],
) -> Float[Tensor, "*batch"]:
    r"""Opacity of an interval from the logistic CDF of the signed distance at its two ends.

    .. math:: \alpha = \mathrm{clip}\Big(\frac{\Phi_s(f_-) - \Phi_s(f_+) + \epsilon}{\Phi_s(f_-) + \epsilon},
        0, 1\Big), \quad f_\mp = f \mp \min(\cos, 0)\,\delta / 2

    NeuS (https://arxiv.org/abs/2106.10689), equation 13, with the distance at the ends extrapolated along
    the gradient and the cosine fully annealed, as UniPAD and PonderV2 run it. (The cosine that NeuS anneals
    is never positive, so it can be handed over as it is.)

    Args:
        sdf: Signed distance at the interval's middle, metres, positive in free space. Differentiable.
        cosines: Ray direction times sdf gradient; positive values (leaving a surface) count as 0.
            Differentiable.
        deltas: Interval lengths, metres. Differentiable.
        inv_s: Sharpness in 1/m; grows as training converges. Differentiable; its gradient sums the intervals
            in a fixed order.

    Returns:
        Opacities in float32 or float64; differentiable to any order, from the second on without a kernel.
    """
    check_intervals(sdf, cosines, deltas, inv_s)
    tensors = common_float(sdf=sdf, cosines=cosines, deltas=deltas, inv_s=inv_s)
    if not has_native(sdf.device.type):
        return neus_alphas_reference(*tensors)
    return torch.ops.renderpretrain.neus_alphas(*tensors)


def neus_alphas_reference(
    sdf: Float[Tensor, "*batch"],
    cosines: Float[Tensor, "*batch"],
    deltas: Float[Tensor, "*batch"],
    inv_s: Float[Tensor, ""],
) -> Float[Tensor, "*batch"]:
    """:func:`neus_alphas` in plain PyTorch: the definition the kernels are tested against."""
    drop = cosines.clamp(max=0.0) * deltas * 0.5
    before = torch.sigmoid((sdf - drop) * inv_s)
    after = torch.sigmoid((sdf + drop) * inv_s)
    return ((before - after + ALPHA_EPSILON) / (before + ALPHA_EPSILON)).clamp(0.0, 1.0)


def check_intervals(sdf: Tensor, cosines: Tensor, deltas: Tensor, inv_s: Tensor) -> None:
    """Raise ``ValueError`` unless the arguments belong to the same intervals."""
    for name, tensor in (("cosines", cosines), ("deltas", deltas)):
        if tensor.shape != sdf.shape:
            raise ValueError(f"{name}: expected {tuple(sdf.shape)} like sdf, got {tuple(tensor.shape)}")
    check_shape("inv_s", inv_s, "")


def num_parts(count: int) -> int:
    """``RP_NUM_PARTS`` of so many intervals."""
    return -(-count // INTERVALS_PER_PART)


def _neus_alphas(sdf: Tensor, cosines: Tensor, deltas: Tensor, inv_s: Tensor) -> Tensor:
    alphas = new_memory(sdf, *sdf.shape)
    launch("neus_alphas", sdf, cosines, deltas, inv_s, sdf.numel(), alphas)
    return alphas


def _neus_alphas_backward(
    grad: Tensor, sdf: Tensor, cosines: Tensor, deltas: Tensor, inv_s: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inputs = grad, sdf, cosines, deltas
    found = _fake_backward(grad, sdf, cosines, deltas, inv_s)
    parts = sdf.new_empty(num_parts(sdf.numel()), dtype=torch.float64)
    launch("neus_alphas_backward", *inputs, inv_s, sdf.numel(), *found[:3], parts, found[3])
    return found


def _fake(sdf: Tensor, cosines: Tensor, deltas: Tensor, inv_s: Tensor) -> Tensor:
    return sdf.new_empty(sdf.shape)


def _fake_backward(
    grad: Tensor, sdf: Tensor, cosines: Tensor, deltas: Tensor, inv_s: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    by_sdf, by_cosines, by_deltas = (new_memory(sdf, *sdf.shape) for _ in range(3))
    return by_sdf, by_cosines, by_deltas, inv_s.new_empty(())


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return torch.ops.renderpretrain.neus_alphas_backward(grad, *ctx.saved_tensors)


def _save_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, *inputs = ctx.saved_tensors
    by_inputs, by_grads = double_backward(neus_alphas_reference, inputs, [grad], along)
    return *by_grads, *by_inputs


_TENSORS = {"sdf": "float ...", "cosines": "float ...", "deltas": "float ...", "inv_s": "float"}
register(
    "neus_alphas(Tensor sdf, Tensor cosines, Tensor deltas, Tensor inv_s) -> Tensor",
    _neus_alphas,
    _fake,
    _TENSORS,
)
register(
    "neus_alphas_backward(Tensor grad, Tensor sdf, Tensor cosines, Tensor deltas, Tensor inv_s)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _neus_alphas_backward,
    _fake_backward,
    {"grad": "float ...", **_TENSORS},
)
register_gradient("neus_alphas", _gradient, _save)
register_gradient("neus_alphas_backward", _second_gradient, _save_backward)
