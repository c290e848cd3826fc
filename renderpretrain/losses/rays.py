"""Losses on rendered rays."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops


def masked_mean(values: Float[Tensor, "B ..."], valid: Bool[Tensor, "B ..."]) -> Float[Tensor, ""]:
    """Mean over the valid entries of each sample, then over the batch; 0 for a sample with none.

    Invalid entries may hold anything, NaN included: neither value nor gradient sees them.
    """
    kept = torch.where(valid, values, 0.0).flatten(1).sum(1)
    return (kept / valid.flatten(1).sum(1).clamp(min=1)).mean()


def depth_l1(
    depth: Float[Tensor, "B R"], target: Float[Tensor, "B R"], hit: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Mean absolute error of the depth, metres, over the rays a sensor measured. Differentiable."""
    return masked_mean((depth - torch.where(hit, target, 0.0)).abs(), hit)


def rgb_l1(
    rgb: Float[Tensor, "B R 3"], target: Float[Tensor, "B R 3"], valid: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Mean absolute error of the rendered colour over rays and channels. Differentiable in rgb."""
    return masked_mean((rgb - target).abs(), valid[..., None].expand_as(rgb))


def distortion(
    weights: Float[Tensor, "B R S"],
    t_starts: Float[Tensor, "B R S"],
    t_ends: Float[Tensor, "B R S"],
    valid: Bool[Tensor, "B R"],
) -> Float[Tensor, ""]:
    """Mean over rays of how far their weights are spread, in the unit of t: against floaters and fog.

    See :func:`renderpretrain.ops.distortion_loss`; intervals are near to far. Differentiable in all but
    valid; a ray that is not valid may hold anything, NaN included.
    """
    kept = (torch.where(valid[..., None], x, 0.0) for x in (weights, t_starts, t_ends))
    return masked_mean(ops.distortion_loss(*kept), valid)
