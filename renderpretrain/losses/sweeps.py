"""Losses on what a sweep says beside depth: intensity, normals, where surfaces are, and what is empty."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.rays import SMALLEST_WEIGHT, masked_mean

SHORTEST = 0.05
"""Length below which a composited normal counts as that of a ray that sees nothing."""


def intensity_smooth_l1(
    intensity: Float[Tensor, "B R"],
    target: Float[Tensor, "B R"],
    valid: Bool[Tensor, "B R"],
    *,
    beta: int | float = 0.1,
) -> Float[Tensor, ""]:
    r"""Huber's error of the rendered intensity, which forgives a reflector that no scene explains.

    .. math:: \frac{e^2}{2 \beta} \text{ for } |e| < \beta, \text{ else } |e| - \frac{\beta}{2}

    Girshick 2015 (https://arxiv.org/abs/1504.08083), equation 3, with ``beta`` in place of 1: intensities are
    shares of 1. Differentiable in intensity.

    Args:
        intensity: Rendered.
        target: Measured, in [0, 1].
        valid: Which rays have a measured intensity.
        beta: Errors below count by their square.
    """
    if not beta > 0:
        raise ValueError(f"beta: expected a positive share, got {beta}")
    _check_rays(intensity=intensity, target=target)
    check_alike(intensity=intensity, valid=valid)
    check_bool(valid=valid)
    kept, wanted = torch.where(valid, intensity, 0.0), torch.where(valid, target, 0.0)
    return masked_mean(smooth_l1_loss(kept, wanted.to(kept.dtype), reduction="none", beta=beta), valid)


def normal_error(
    normals: Float[Tensor, "B R 3"], target: Float[Tensor, "B R 3"], valid: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    r"""One minus the cosine between rendered and measured normals, and the distance of their coordinates.

    .. math:: 1 - \hat n^T n + \| \hat n - n \|_1

    MonoSDF (https://arxiv.org/abs/2206.00665), equation 13, of rendered normals made unit; one that is
    shorter than 0.05 stays shorter, for a ray that sees nothing has none. Differentiable in normals.

    Args:
        normals: Rendered, of length at most 1.
        target: Unit vectors.
        valid: Which rays have a measured normal.
    """
    check_shape("normals", normals, "B R 3")
    check_alike(normals=normals, target=target)
    check_floating(normals=normals, target=target)
    check_alike(**{"normals of a ray": normals[..., 0], "valid": valid})
    check_bool(valid=valid)
    seen = valid[..., None]
    # Where a ray has no normal at all its length has no derivative.
    kept = torch.where(seen, normals, 1.0)
    squared = kept.square().sum(-1, keepdim=True)
    unit = kept / squared.clamp(min=SHORTEST**2).sqrt()
    wanted = torch.where(seen, target, 0.0)
    return masked_mean(1 - (unit * wanted).sum(-1) + (unit - wanted).abs().sum(-1), valid)


def surface_sdf(sdf: Float[Tensor, "B P"], valid: Bool[Tensor, "B P"]) -> Float[Tensor, ""]:
    """Mean distance of the rendered surface from places where a surface was measured, metres.

    ``|sdf|`` at the return itself, between samples: the surface term of CLAP
    (https://arxiv.org/abs/2412.03059). Differentiable in sdf.

    Args:
        sdf: Signed distance at the places, metres.
        valid: Which of them were measured.
    """
    _check_rays(sdf=sdf)
    check_alike(sdf=sdf, valid=valid)
    check_bool(valid=valid)
    return masked_mean(torch.where(valid, sdf, 0.0).abs(), valid)


def empty_rays(opacity: Float[Tensor, "B R"], valid: Bool[Tensor, "B R"]) -> Float[Tensor, ""]:
    r"""Of rays that met nothing, the logarithm of the light that is stopped: none may be.

    .. math:: -\log \frac{1 - o + \epsilon}{1 + \epsilon}, \quad \epsilon = 10^{-6}

    The mask term of NeuS (https://arxiv.org/abs/2106.10689, section 3.3) for rays outside of the mask.
    Differentiable in opacity, at 1, too: there is most to be learned.
    """
    _check_rays(opacity=opacity)
    check_alike(opacity=opacity, valid=valid)
    check_bool(valid=valid)
    passed = (1 - torch.where(valid, opacity, 0.0)).clamp(min=0)
    return masked_mean(math.log1p(SMALLEST_WEIGHT) - (passed + SMALLEST_WEIGHT).log(), valid)


def _check_rays(**tensors: Tensor) -> None:
    """Raise ``ValueError`` unless all are ``(B, R)`` floating-point numbers of one shape."""
    name, first = next(iter(tensors.items()))
    check_shape(name, first, "B R")
    check_alike(**tensors)
    check_floating(**tensors)
