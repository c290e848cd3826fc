"""Losses on the samples of a signed-distance field; all lengths in metres."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.rays import check_depths, masked_mean


def free_space(
    sdf: Float[Tensor, "B R S"],
    t: Float[Tensor, "B R S"],
    depth: Float[Tensor, "B R"],
    hit: Bool[Tensor, "B R"],
    *,
    truncation: int | float,
    inliers: Float[Tensor, "B R"] | None = None,
) -> Float[Tensor, ""]:
    """Samples well in front of the measured surface must be at least ``truncation`` from any.

    Mean of ``relu(truncation - sdf)`` over the samples with ``t < depth - truncation``. Differentiable in
    sdf. Of what was rendered, ``sdf`` is ``rendered.along.field.sdf`` and ``t`` is
    ``rendered.along.samples.t_mids``. ``inliers`` are weights of the rays.
    """
    _check_samples(sdf, t, depth, hit, inliers)
    front = hit[..., None] & (t < depth[..., None] - truncation)
    return masked_mean((truncation - sdf).clamp(min=0.0), front, _per_sample(inliers, sdf))


def near_surface_sdf(
    sdf: Float[Tensor, "B R S"],
    t: Float[Tensor, "B R S"],
    depth: Float[Tensor, "B R"],
    hit: Bool[Tensor, "B R"],
    *,
    truncation: int | float,
    inliers: Float[Tensor, "B R"] | None = None,
) -> Float[Tensor, ""]:
    """Within ``truncation`` of the measured surface the distance is what remains along the ray.

    Mean of ``|t + sdf - depth|`` over the samples with ``|t - depth| <= truncation``. Differentiable in sdf.
    ``inliers`` are weights of the rays.
    """
    _check_samples(sdf, t, depth, hit, inliers)
    remaining = depth[..., None] - t
    near = hit[..., None] & (remaining.abs() <= truncation)
    return masked_mean((sdf - remaining).abs(), near, _per_sample(inliers, sdf))


def _check_samples(sdf: Tensor, t: Tensor, depth: Tensor, hit: Tensor, inliers: Tensor | None) -> None:
    """Raise ``ValueError`` unless every sample has its distance, and every ray its measurement."""
    sizes = check_shape("sdf", sdf, "B R S")
    check_alike(sdf=sdf, t=t)
    check_floating(sdf=sdf, t=t)
    check_shape("depth", depth, "B R", B=sizes["B"], R=sizes["R"])
    check_depths(depth, depth, hit, inliers)


def _per_sample(inliers: Tensor | None, sdf: Tensor) -> Tensor | None:
    """A ray's weight for each of its samples."""
    return None if inliers is None else inliers[..., None].expand_as(sdf)


def eikonal(gradients: Float[Tensor, "B R S 3"], valid: Bool[Tensor, "B R S"]) -> Float[Tensor, ""]:
    """Mean of ``(|grad sdf| - 1)^2``: what makes a field a distance (https://arxiv.org/abs/2002.10099).

    The norm's gradient at a zero vector is taken as zero. Differentiable in the gradients.
    """
    check_shape("gradients", gradients, "B R S 3")
    check_floating(gradients=gradients)
    check_alike(**{"a gradient": gradients[..., 0], "valid": valid})
    check_bool(valid=valid)
    squared = torch.where(valid[..., None], gradients, 0.0).square().sum(-1)
    norms = squared.where(squared > 0, 1.0).sqrt() * (squared > 0)
    return masked_mean((norms - 1).square(), valid)


def sdf_sparsity(
    sdf: Float[Tensor, "B R S"], valid: Bool[Tensor, "B R S"], *, sharpness: int | float
) -> Float[Tensor, ""]:
    """Mean of ``exp(-sharpness |sdf|)`` over samples: no surfaces where nothing asks for one.

    SparseNeuS (https://arxiv.org/abs/2206.05737), its sparseness regularisation. Differentiable in sdf; at
    zero its gradient is taken as zero.

    Args:
        sdf: Signed distance, metres.
        valid: Which samples count; uniform ones along the rays in the paper.
        sharpness: The paper's tau, 1/m.
    """
    check_alike(sdf=sdf, valid=valid)
    check_floating(sdf=sdf)
    check_bool(valid=valid)
    return masked_mean((-sharpness * torch.where(valid, sdf, 0.0).abs()).exp(), valid)
