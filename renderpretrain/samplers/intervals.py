"""Where along a ray to ask the field: sorted distances ``t`` in metres, none differentiable."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.ops.neus import ALPHA_EPSILON

HISTOGRAM_PADDING = 1e-5
"""Mass every interval gets in the importance pass, so that no part of a ray is unreachable."""


def uniform_positions(
    near: Float[Tensor, "B R"], far: Float[Tensor, "B R"], count: int, seeds: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B R S"]:
    """The middles of ``count`` equal intervals between ``near`` and ``far``.

    Args:
        near: Start of each ray's range.
        far: End of it.
        count: Positions per ray.
        seeds: With seeds, all positions of a ray move together by up to half an interval either way.
    """
    step = (far - near)[..., None] / count
    places = torch.arange(count, device=near.device) + 0.5
    if seeds is None:
        return near[..., None] + step * places
    jitter = ops.uniform(seeds, (near.shape[1], 1)) - 0.5
    return near[..., None] + step * (places + jitter)


def neus_upsample(
    positions: Float[Tensor, "*batch S"], sdf: Float[Tensor, "*batch S"], inv_s: float, count: int
) -> Float[Tensor, "*batch T"]:
    """Add ``count`` positions where a field of sharpness ``inv_s`` would be opaque, merged in order.

    The opacity of each section between neighbouring positions comes from the distances at its ends (the
    slope is the smaller of this section's and the one before, so that one noisy value cannot hide a
    surface), and the new positions are the quantiles of the resulting weights. NeuS
    (https://arxiv.org/abs/2106.10689), section 3.3 and supplement.

    Args:
        positions: Sorted, metres.
        sdf: Signed distance there, metres.
        inv_s: Sharpness, 1/m.
        count: Positions to add.
    """
    alphas = section_alphas(positions, sdf, inv_s)
    weights = ops.composite(alphas) + HISTOGRAM_PADDING
    quantiles = (torch.arange(count, device=sdf.device, dtype=sdf.dtype) + 0.5) / count
    fine = ops.resample(positions, weights, quantiles.expand(*positions.shape[:-1], count))
    return torch.cat([positions, fine], -1).sort(-1).values


def section_alphas(
    positions: Float[Tensor, "*batch S"], sdf: Float[Tensor, "*batch S"], inv_s: float
) -> Float[Tensor, "*batch T"]:
    """Opacity of the ``S - 1`` sections between neighbouring positions, from the distances at their ends."""
    deltas = positions[..., 1:] - positions[..., :-1]
    middle = 0.5 * (sdf[..., 1:] + sdf[..., :-1])
    slope = (sdf[..., 1:] - sdf[..., :-1]) / (deltas + ALPHA_EPSILON)
    before = torch.cat([torch.zeros_like(slope[..., :1]), slope[..., :-1]], -1)
    slope = torch.minimum(slope, before).clamp(-1e3, 0.0)
    enter = torch.sigmoid((middle - slope * deltas * 0.5) * inv_s)
    leave = torch.sigmoid((middle + slope * deltas * 0.5) * inv_s)
    return (enter - leave + ALPHA_EPSILON) / (enter + ALPHA_EPSILON)
