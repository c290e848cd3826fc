"""Where along a ray to ask a distance field again: the importance pass of NeuS."""

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import common_float, common_type, register
from renderpretrain.ops._native import has_native, launch
from renderpretrain.ops.composite import composite_reference
from renderpretrain.ops.neus import ALPHA_EPSILON
from renderpretrain.ops.resample import resample_reference

HISTOGRAM_PADDING = 1e-5
"""Mass every section gets, so that no part of a ray is unreachable."""


def neus_upsample(
    positions: Float[Tensor, "*batch S"],
    sdf: Float[Tensor, "*batch S"],
    inv_s: float,
    count: int,
    u: Float[Tensor, "*batch count"] | None = None,
) -> Float[Tensor, "*batch T"]:
    """Add ``count`` positions where a field of sharpness ``inv_s`` would be opaque, merged in order.

    The opacity of each section between neighbouring positions comes from the distances at its ends (the
    slope is the smaller of this section's and the one before, so that one noisy value cannot hide a
    surface), and the new positions are quantiles of the resulting weights. NeuS
    (https://arxiv.org/abs/2106.10689), section 3.3 and supplement.

    Args:
        positions: Sorted, metres; at least two.
        sdf: Signed distance there, metres. From the first NaN on a ray has no mass; where that leaves none,
            the new positions spread evenly over the sections.
        inv_s: Sharpness, 1/m.
        count: Positions to add.
        u: Which quantiles, in [0, 1] and in any order, NaN as 0; by default the middles of ``count`` equal
            parts.

    Returns:
        ``S + count`` sorted positions in float32 or float64, the old ones among them; without gradient.
    """
    if check_shape("positions", positions, "... S")["S"] < 2:
        raise ValueError(f"positions: expected at least two on a ray, got {tuple(positions.shape)}")
    if sdf.shape != positions.shape:
        raise ValueError(
            f"sdf: expected the shape of positions {tuple(positions.shape)}, got {tuple(sdf.shape)}"
        )
    if count < 0:
        raise ValueError(f"count: expected at least zero, got {count}")
    if u is not None:
        if tuple(u.shape) != (*positions.shape[:-1], count):
            raise ValueError(f"u: expected {(*positions.shape[:-1], count)}, got {tuple(u.shape)}")
        common_type(positions=positions, u=u)
    positions, sdf = common_float(positions=positions.detach(), sdf=sdf.detach())
    if not has_native(positions.device.type):
        return neus_upsample_reference(positions, sdf, inv_s, count, u)
    quantiles = _middles(count, positions)
    if u is not None:
        quantiles = u.detach().to(positions.dtype).nan_to_num(0.0).sort(-1).values
    return torch.ops.renderpretrain.neus_upsample(positions, sdf, inv_s, quantiles)


@torch.no_grad()
def neus_upsample_reference(
    positions: Float[Tensor, "*batch S"],
    sdf: Float[Tensor, "*batch S"],
    inv_s: float,
    count: int,
    u: Float[Tensor, "*batch count"] | None = None,
) -> Float[Tensor, "*batch T"]:
    """:func:`neus_upsample` in plain PyTorch: the definition the kernels are tested against."""
    weights = composite_reference(section_alphas(positions, sdf, inv_s)) + HISTOGRAM_PADDING
    if u is None:
        u = _middles(count, positions).expand(*positions.shape[:-1], count)
    fine = resample_reference(positions, weights, u.to(positions.dtype))
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


def _middles(count: int, like: Tensor) -> Tensor:
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) / max(count, 1)


def _check(positions: Tensor, sdf: Tensor, inv_s: float, u: Tensor) -> None:
    if positions.shape[-1] < 2:
        raise ValueError(f"positions: expected at least two on a ray, got {tuple(positions.shape)}")
    if u.shape[:-1] not in ((), positions.shape[:-1]) or u.dim() == 0:
        raise ValueError(f"u: expected (n) or {(*positions.shape[:-1], 'n')}, got {tuple(u.shape)}")


def _neus_upsample(positions: Tensor, sdf: Tensor, inv_s: float, u: Tensor) -> Tensor:
    """What :func:`neus_upsample` does, with sorted quantiles: ``(count,)``, or ``(..., count)`` by ray."""
    out = _fake(positions, sdf, inv_s, u)
    inputs = positions, sdf, u
    num_rays, count = positions.shape[:-1].numel(), u.shape[-1]
    stride = count if u.dim() == positions.dim() > 1 else 0
    mass = torch.empty((num_rays, positions.shape[-1] - 1), dtype=torch.float64, device=positions.device)
    launch("neus_upsample", *inputs, num_rays, positions.shape[-1], count, stride, inv_s, mass, out)
    return out


def _fake(positions: Tensor, sdf: Tensor, inv_s: float, u: Tensor) -> Tensor:
    return positions.new_empty((*positions.shape[:-1], positions.shape[-1] + u.shape[-1]))


register(
    "neus_upsample(Tensor positions, Tensor sdf, float inv_s, Tensor u) -> Tensor",
    _neus_upsample,
    _fake,
    {"positions": "float ... S", "sdf": "float ... S", "u": "float *"},
    _check,
)
