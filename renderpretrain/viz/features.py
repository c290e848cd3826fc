"""Features as colours: the three directions in which they vary most, as red, green and blue."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape

SPREAD = (0.02, 0.98)
"""Quantiles along a direction that are the darkest and the brightest of a colour; what is beyond is cut."""

TAME = 0.01
"""Share of a channel's values at either end that is drawn in before directions are sought."""

MOST_ROWS = 2**15
"""Rows that directions are sought in; of more, so many are taken evenly."""


@dataclass(frozen=True)
class FeatureColors:
    """Which feature has which colour: fitted on some features, used on these and on others.

    What looks alike is alike to the encoder. Two fits have nothing to do with each other: what is red in one
    may be green in the other, though nothing has changed.

    Attributes:
        mean: What has the middle of all colours.
        axes: Unit directions, the widest first; rows of zeros where features vary in fewer.
        low: Along each, where its colour is 0.
        high: Along each, where its colour is 1.
    """

    mean: Float[Tensor, " C"]
    axes: Float[Tensor, "3 C"]
    low: Float[Tensor, "3"]
    high: Float[Tensor, "3"]

    @torch.no_grad()
    def __call__(self, features: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch 3"]:
        """RGB in [0, 1] of features in the last axis; black for one that is not finite."""
        check_shape("features", features, "... C", C=len(self.mean))
        along = (features.float() - self.mean.to(features.device)) @ self.axes.T.to(features.device)
        low, high = self.low.to(features.device), self.high.to(features.device)
        place = torch.where(high > low, (along - low) / (high - low).clamp(min=1e-12), 0.5)
        return torch.where(features.isfinite().all(-1, keepdim=True), place.clamp(0, 1), 0.0)


@torch.no_grad()
def feature_colors(features: Float[Tensor, "M C"]) -> FeatureColors:
    """Fit colours on features: principal components, of which a few odd features decide nothing.

    Each channel's outermost values are drawn in first, and each component is scaled by its quantiles, so one
    value that is a thousand times the others leaves the others' colours as they are. The sign of a direction
    is chosen so that its largest weight is positive: the same features have the same colours everywhere.

    Args:
        features: One vector a row, on any device. Rows that are not finite are left out.

    Raises:
        ValueError: If fewer than two rows are finite.
    """
    check_shape("features", features, "M C")
    rows = features.detach().float().cpu()
    rows = rows[rows.isfinite().all(1)]
    if len(rows) < 2:
        raise ValueError(f"features: expected at least 2 finite rows, got {len(rows)} of {len(features)}")
    rows = rows[:: -(-len(rows) // MOST_ROWS)]
    low, high = _quantiles(rows, (TAME, 1 - TAME))
    tamed = rows.clamp(low, high)
    mean = tamed.mean(0)
    variances, directions = torch.linalg.eigh((tamed - mean).T.double() @ (tamed - mean).double())
    axes = torch.zeros(3, rows.shape[1])
    count = min(3, rows.shape[1])
    axes[:count] = directions.T.flip(0)[:count].float()
    axes[:count][variances.flip(0)[:count] <= 1e-10 * variances.sum()] = 0.0
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)
    return FeatureColors(mean, axes, *_quantiles((rows - mean) @ axes.T, SPREAD))


def _quantiles(rows: Float[Tensor, "M C"], shares: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Two quantiles of each column."""
    ordered = rows.sort(0).values
    low, high = (ordered[round(share * (len(rows) - 1))] for share in shares)
    return low, high
