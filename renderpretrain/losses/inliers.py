"""How far each ray is believed: weights in [0, 1] from how well it fits, for losses to count it by.

A wrong return, a moving object or a badly posed camera leaves residuals that no scene can explain. Weights
are found per sample, against that sample's other rays, in whatever unit the residual has; they are constants:
no gradient flows through them. They cannot tell a wrong ray from one that is hard or not learned yet, and
what loses its weight is not learned at all.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape

SMALLEST_SCALE = 1e-12
"""Where more than half of the residuals are zero the others have no weight, and no division fails."""


def inlier_weights(
    residual: Float[Tensor, " B *rays"],
    valid: Bool[Tensor, " B *rays"],
    *,
    scale: int | float = 3.0,
    shape: int | float = -2.0,
) -> Float[Tensor, " B *rays"]:
    r"""Smooth weights: 1 for no residual, falling towards 0 beyond a few of the sample's medians.

    .. math:: w_i = \Big(\frac{(r_i / c)^2}{|\alpha - 2|} + 1\Big)^{\alpha / 2 - 1}, \quad
        c = \text{scale} \cdot \operatorname{median}_j |r_j|

    The loss of Barron 2019 (https://arxiv.org/abs/1701.03077), equation 8, as iteratively reweighted least
    squares: :math:`\rho'(r) / r`, scaled to 1 at its largest. Differs from the paper in: the scale follows
    the residuals.

    Args:
        residual: Of every ray, of either sign; anything where not valid.
        valid: Which rays were measured; the others weigh 0.
        scale: Medians at which a ray begins to lose weight.
        shape: The paper's alpha, below 2: -2 is Geman-McClure's loss, 0 Cauchy's, 1 Charbonnier's.

    Returns:
        Weights in the residual's type, float32 at least. Not differentiable.

    Raises:
        ValueError: If the scale is not positive or the shape not below 2.
    """
    if not scale > 0:
        raise ValueError(f"scale: expected a positive number of medians, got {scale}")
    if not (shape < 2 and math.isfinite(shape)):
        raise ValueError(f"shape: expected a finite number below 2, got {shape}")
    size = _sizes(residual, valid, torch.nan)
    median = size.flatten(1).nanmedian(1).values.nan_to_num()
    unit = (scale * median).clamp(min=SMALLEST_SCALE).view(-1, *(1,) * (size.dim() - 1))
    weights = ((size / unit).square() / abs(shape - 2) + 1) ** (shape / 2 - 1)
    return torch.where(valid, weights, 0.0)


def trimmed_weights(
    residual: Float[Tensor, " B *rays"], valid: Bool[Tensor, " B *rays"], *, keep: int | float = 0.9
) -> Float[Tensor, " B *rays"]:
    """Hard weights: 1 for the share ``keep`` of a sample's valid rays with the smallest residuals, else 0.

    The trimmed least squares of RobustNeRF (https://arxiv.org/abs/2302.00833, section 4), there with half of
    the rays, without its smoothing over patches: rays here are scattered. Ties with the last one kept are
    kept too.

    Args:
        residual: Of every ray, of either sign; anything where not valid.
        valid: Which rays were measured; the others weigh 0.
        keep: Share in (0, 1]; of ``n`` rays ``ceil(keep n)``.

    Returns:
        Weights in the residual's type, float32 at least. Not differentiable.

    Raises:
        ValueError: If the share is outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep: expected a share in (0, 1], got {keep}")
    size = _sizes(residual, valid, torch.inf)
    ranked, count = size.flatten(1).sort(1).values, valid.flatten(1).sum(1, keepdim=True)
    # The product is rounded first: 0.55 * 100 is a hair above 55.
    last = torch.ceil((keep * count.double()).round(decimals=6)).long().clamp(min=1) - 1
    threshold = ranked.gather(1, last).view(-1, *(1,) * (size.dim() - 1))
    return (valid & (size <= threshold)).to(size.dtype)


def _sizes(residual: Tensor, valid: Tensor, fill: int | float) -> Tensor:
    """Absolute residuals, through which no gradient flows."""
    check_shape("residual", residual, "B R ...")
    check_alike(residual=residual, valid=valid)
    check_floating(residual=residual)
    check_bool(valid=valid)
    residual = residual.detach()
    return torch.where(valid, residual.abs(), fill).to(torch.promote_types(residual.dtype, torch.float32))
