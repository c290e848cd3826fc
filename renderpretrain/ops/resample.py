"""Drawing positions from a histogram."""

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import common_float, register
from renderpretrain.ops._native import has_native, launch


def resample(
    edges: Float[Tensor, "*batch E"], weights: Float[Tensor, "*batch S"], u: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """Quantiles of a piecewise-constant density: its inverse CDF at ``u``.

    Bin ``i`` spans ``[edges[i], edges[i + 1]]`` and holds the mass ``weights[i]``; the total need not be one.
    A bin without mass is never entered: a ``u`` at the border of two bins belongs to the next one with mass,
    so 0 gives the lower edge of the first bin with mass and 1 the upper edge of the last. Where no bin of a
    ray has mass, all have the same. Sums run in float64, and a larger ``u`` never gives a smaller position.

    Args:
        edges: Sorted, metres; one more than there are weights.
        weights: Mass of the bins; negative and NaN count as zero.
        u: Quantiles in [0, 1], in any order; clipped to that range.

    Returns:
        Positions in metres, in the order of ``u``; without gradient.
    """
    bins = check_shape("weights", weights, "... S")["S"]
    batch = tuple(weights.shape[:-1])
    _check_bins(weights)
    if tuple(edges.shape) != (*batch, bins + 1):
        raise ValueError(
            f"edges: expected {(*batch, bins + 1)}, one more than weights, got {tuple(edges.shape)}"
        )
    if tuple(u.shape[:-1]) != batch or u.dim() == 0:
        raise ValueError(f"u: expected {(*batch, 'n')}, got {tuple(u.shape)}")
    edges, weights, u = common_float(edges=edges.detach(), weights=weights.detach(), u=u.detach())
    if not has_native(edges.device.type):
        return resample_reference(edges, weights, u)
    return torch.ops.renderpretrain.resample(edges, weights, u)


@torch.no_grad()
def resample_reference(
    edges: Float[Tensor, "*batch E"], weights: Float[Tensor, "*batch S"], u: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """:func:`resample` in plain PyTorch: the definition the kernels are tested against."""
    mass = torch.where(weights > 0, weights, 0.0).double()
    mass = torch.where((mass > 0).any(-1, keepdim=True), mass, 1.0)
    cdf = mass.cumsum(-1)
    total = cdf[..., -1:]
    target = u.double().clamp(0, 1) * total
    found = torch.searchsorted(cdf, target.contiguous(), right=True)
    last = torch.searchsorted(cdf, total.contiguous()).expand_as(found)
    past = found == cdf.shape[-1]
    bin_ = torch.where(past, last, found)
    before = torch.cat([torch.zeros_like(total), cdf], -1).gather(-1, bin_)
    fraction = (target - before) / (cdf.gather(-1, bin_) - before)
    low, high = edges.double().gather(-1, bin_), edges.double().gather(-1, bin_ + 1)
    position = low + fraction * (high - low)
    return torch.where(past | (position > high), high, position).to(edges.dtype)


def _check_bins(weights: Tensor) -> None:
    if weights.shape[-1] == 0:
        raise ValueError(f"weights: expected at least one bin, got {tuple(weights.shape)}")


def _resample(edges: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    out = _fake(edges, weights, u)
    cdf = torch.empty(weights.shape, dtype=torch.float64, device=weights.device)
    launch(
        "resample", edges, weights, u, weights.shape[:-1].numel(), weights.shape[-1], u.shape[-1], cdf, out
    )
    return out


def _fake(edges: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    return torch.empty_like(u, memory_format=torch.contiguous_format)


register(
    "resample(Tensor edges, Tensor weights, Tensor u) -> Tensor",
    _resample,
    _fake,
    {"edges": "float ... S+1", "weights": "float ... S", "u": "float ... n"},
    lambda edges, weights, u: _check_bins(weights),
)
