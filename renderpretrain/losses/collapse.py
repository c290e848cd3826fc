"""What keeps features from using a few of their directions only.

A loss on features alone is least where all of them are the same, and one on what is rendered from them is
content with as many directions as rendering needs. These terms ask for more: that features vary in every
channel (:func:`variance_hinge`), that no channel repeats another (:func:`covariance_penalty`), or both at
once (:func:`sigreg`).

Features are rows ``(B, M, C)``, of which some count; a sample is compared with itself alone. They are
computed in float32.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_floating, check_shape

SMALLEST_VARIANCE = 1e-4
"""Added to a variance before its root, as in VICReg: the gradient is finite where all features are one."""

SMALLEST_SQUARE = 1e-6
"""Added to a squared length, likewise."""


def variance_hinge(
    features: Float[Tensor, "B M C"],
    valid: Bool[Tensor, "B M"],
    weights: Float[Tensor, "B M"] | None = None,
) -> Float[Tensor, ""]:
    r"""How far features of unit length fall short of varying alike in every channel.

    .. math:: \frac1C \sum_c \max\Big(0, \frac1{\sqrt C} - \sqrt{\operatorname{Var}_m(x_{mc} / |x_m|) +
        10^{-4}}\Big)

    AD-L-JEPA's term (https://arxiv.org/abs/2501.04969). It is 0 for directions that are spread evenly, and at
    most ``1 / sqrt(C) - 0.01``. Differentiable in features.

    Args:
        features: Rows of any length.
        valid: Which of them count; a sample with less than two has no variance, and no term.
        weights: How much they do, not negative. Not differentiable.
    """
    kept, share, counted = _rows(features, valid, weights)
    with torch.autocast(kept.device.type, enabled=False):
        unit = kept * (kept.square().sum(-1, keepdim=True) + SMALLEST_SQUARE).rsqrt()
        spread = (_variance(unit, share) + SMALLEST_VARIANCE).sqrt()
        hinge = (features.shape[-1] ** -0.5 - spread).relu().mean(-1)
        return torch.where(counted > 1, hinge, 0.0).mean()


def covariance_penalty(
    features: Float[Tensor, "B M C"],
    valid: Bool[Tensor, "B M"],
    weights: Float[Tensor, "B M"] | None = None,
) -> Float[Tensor, ""]:
    r"""How far channels repeat each other: the mean over channels of their squared correlations with others.

    .. math:: \frac1C \sum_{c \ne d} \Big(\frac{\operatorname{Cov}(x_c, x_d)}{s_c s_d}\Big)^2, \quad
        s_c = \sqrt{\operatorname{Var}(x_c) + 10^{-4}}

    VICReg's covariance term (https://arxiv.org/abs/2105.04906) of channels that are divided by their standard
    deviations, so that small features are no way out. 0 of channels that are uncorrelated, ``C - 1`` of
    channels that are all one. Differentiable in features.

    Args:
        features: Rows.
        valid: Which of them count; a sample with less than two has no term.
        weights: How much they do, not negative. Not differentiable.
    """
    kept, share, counted = _rows(features, valid, weights)
    with torch.autocast(kept.device.type, enabled=False):
        scaled = _centered(kept, share) * (_variance(kept, share) + SMALLEST_VARIANCE).rsqrt()[:, None]
        table = (share[..., None] * scaled).mT @ scaled
        others = table.square().sum((1, 2)) - table.diagonal(dim1=1, dim2=2).square().sum(1)
        return torch.where(counted > 1, others / features.shape[-1], 0.0).mean()


def sigreg(  # noqa: PLR0913  the test's numbers
    features: Float[Tensor, "B M C"],
    valid: Bool[Tensor, "B M"],
    seeds: Int[Tensor, " B"],
    weights: Float[Tensor, "B M"] | None = None,
    *,
    slices: int = 1024,
    knots: int = 17,
    t_max: int | float = 3.0,
) -> Float[Tensor, ""]:
    r"""How far features are from a normal distribution of unit variance, in random directions.

    The Epps-Pulley statistic of the features' products with unit vectors, the mean over these:

    .. math:: n \int_{-t_{max}}^{t_{max}} \Big|\frac1n \sum_m e^{i t u^T x_m} - e^{-t^2 / 2}\Big|^2
        e^{-t^2 / 2} \, dt

    by the trapezoidal rule. LeJEPA's sketched isotropic Gaussian regularisation
    (https://arxiv.org/abs/2511.08544). About 1 of normal features however many there are, and ``0.4 n`` of
    features that are all 0. Differentiable in features.

    Args:
        features: Rows.
        valid: Which of them count; a sample with less than two has no term.
        seeds: Of the directions, one per sample.
        weights: How much rows count, not negative; ``n`` is then their effective number. Not differentiable.
        slices: Directions.
        knots: Of the integral between 0 and ``t_max``; the other half is the same.
        t_max: Where it ends.
    """
    if slices < 1 or knots < 2 or t_max <= 0:
        raise ValueError(
            f"slices, knots, t_max: expected at least 1, at least 2 and a positive number, got {slices}, "
            f"{knots} and {t_max}"
        )
    kept, share, counted = _rows(features, valid, weights)
    directions = _unit_vectors(ops.own_seeds(seeds, len(kept), "sigreg"), kept.shape[-1], slices)
    with torch.autocast(kept.device.type, enabled=False):
        step = t_max / (knots - 1)
        t = step * torch.arange(knots, device=kept.device, dtype=kept.dtype)
        ends = torch.where((t == 0) | (t == t[-1]), step, 2 * step)  # half of what lies between
        window = (-t.square() / 2).exp()
        angles = (kept @ directions)[..., None] * t
        real, imaginary = (torch.einsum("bm,bmkt->bkt", share, f(angles)) for f in (torch.cos, torch.sin))
        error = (real - window).square() + imaginary.square()
        statistic = counted * (error * (ends * window)).sum(-1).mean(-1)
        return torch.where(counted > 1, statistic, 0.0).mean()


def _rows(
    features: Tensor, valid: Tensor, weights: Tensor | None
) -> tuple[Float[Tensor, "B M C"], Float[Tensor, "B M"], Float[Tensor, " B"]]:
    """The rows that count, 0 for the others; the share of each; and how many these are, by their weights."""
    sizes = check_shape("features", features, "B M C")
    check_shape("valid", valid, "B M", B=sizes["B"], M=sizes["M"])
    check_floating(features=features, weights=weights)
    check_bool(valid=valid)
    counted = valid.float()
    if weights is not None:
        check_shape("weights", weights, "B M", B=sizes["B"], M=sizes["M"])
        counted = torch.where(valid, weights.detach(), 0.0).float()
    total, squares = counted.sum(1), counted.square().sum(1)
    share = counted / torch.where(total > 0, total, 1.0)[:, None]
    effective = total.square() / torch.where(squares > 0, squares, 1.0)
    return torch.where(valid[..., None], features, 0.0).float(), share, effective


def _centered(rows: Tensor, share: Tensor) -> Float[Tensor, "B M C"]:
    """Rows without their mean."""
    return rows - (share[..., None] * rows).sum(1, keepdim=True)


def _variance(rows: Tensor, share: Tensor) -> Float[Tensor, "B C"]:
    """Variance of every channel."""
    return (share[..., None] * _centered(rows, share).square()).sum(1)


def _unit_vectors(seeds: Int[Tensor, " B"], width: int, count: int) -> Float[Tensor, "B C K"]:
    """Directions that are evenly distributed, by Box and Muller from the seeds."""
    radius, angle = ops.uniform(seeds, (2, count, width)).unbind(1)
    normal = (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()
    return torch.nn.functional.normalize(normal, dim=-1).mT
