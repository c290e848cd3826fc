"""What predictors without geometry get: one depth and one colour for each image row of each camera.

A driving scene's depth is largely a function of the image row. A method that renders is worth something only
where it beats the training frames' rows; without cameras a row is half a degree of LiDAR elevation. Three
numbers stand for a row's depths: their mean, their median, and the number whose mean relative error is the
smallest, which lies well below both. The last is the hardest to beat.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.samplers import RayTargets

ROWS_PER_CAMERA = 65536
"""More than any image has rows, so that (camera, row) fits one integer."""

BINS_PER_RADIAN = 2 * 180 / torch.pi
"""LiDAR elevation bins of half a degree."""

CLOSEST = 1e-3
"""Metres that smaller depths count as, as :func:`renderpretrain.training.scores.score_sums` has it."""


@dataclass(frozen=True)
class RowConstants:
    """A depth and a colour for each row of each camera; a row that was never seen takes the nearest one's.

    Attributes:
        depth_rows: Rows with depth, sorted.
        means: Mean depth of each, metres.
        medians: Median depth of each, metres.
        best: Of the depths of each, the one with the smallest mean ``|d - d*| / d*``, metres.
        color_rows: Rows with colour, sorted.
        colors: Mean colour of each.
    """

    depth_rows: Int[Tensor, " P"]
    means: Float[Tensor, "P 1"]
    medians: Float[Tensor, "P 1"]
    best: Float[Tensor, "P 1"]
    color_rows: Int[Tensor, " Q"]
    colors: Float[Tensor, "Q 3"]

    @staticmethod
    def of(training: Iterable[RayTargets]) -> "RowConstants":
        """The constants that the rays of the training scenes suggest."""
        rows, depths, color_rows, colors = [], [], [], []
        for targets in training:
            row = _rows(targets)
            rows.append(row[targets.hit])
            depths.append(targets.depth[targets.hit])
            color_rows.append(row[targets.rgb_valid])
            colors.append(targets.rgb[targets.rgb_valid])
        row, depth = torch.cat(rows), torch.cat(depths)
        seen, means = _means(row, depth[:, None])
        medians = weighted_medians(row, depth, torch.ones_like(depth))
        best = weighted_medians(row, depth, 1 / depth.clamp(min=CLOSEST))
        return RowConstants(
            seen, means, medians[:, None], best[:, None], *_means(torch.cat(color_rows), torch.cat(colors))
        )

    def mean_depth(self, targets: RayTargets) -> Float[Tensor, "B R"]:
        """The mean depth of every ray's row, metres; 0 without any training ray."""
        return self._depth(self.means, targets)

    def median_depth(self, targets: RayTargets) -> Float[Tensor, "B R"]:
        """The median depth of every ray's row, metres; 0 without any training ray."""
        return self._depth(self.medians, targets)

    def best_depth(self, targets: RayTargets) -> Float[Tensor, "B R"]:
        """The depth of every ray's row that minimises the relative error, metres; 0 without training rays."""
        return self._depth(self.best, targets)

    def rgb(self, targets: RayTargets) -> Float[Tensor, "B R 3"]:
        """The mean colour of every ray's row; black without any training ray."""
        return _lookup(self.color_rows, self.colors, _rows(targets))

    def _depth(self, values: Tensor, targets: RayTargets) -> Tensor:
        """One of the depths of every ray's row."""
        return _lookup(self.depth_rows, values, _rows(targets))[..., 0]


def weighted_medians(
    rows: Int[Tensor, " M"], values: Float[Tensor, " M"], weights: Float[Tensor, " M"]
) -> Float[Tensor, " P"]:
    """Of each row's values the one ``c`` that minimises the row's sum of ``weight * |c - value|``.

    The smallest value up to which lies half of the row's weight. With weights of one it is the (lower)
    median; with weights of one by the value it minimises the mean error relative to the values.

    Args:
        rows: Which row each value belongs to.
        values: Finite numbers.
        weights: Positive.

    Returns:
        One for each of the distinct rows, in their order.
    """
    order = values.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    _, counts = torch.unique_consecutive(rows[order], return_counts=True)
    ends = counts.cumsum(0)
    reached = weights[order].double().cumsum(0)
    before = torch.cat([reached.new_zeros(1), reached])[ends - counts]
    half = (before + reached[ends - 1]) / 2
    # In sums that were rounded the place of half the weight stays within its row.
    place = torch.searchsorted(reached, half).clamp(max=len(reached))
    place = torch.minimum(torch.maximum(place, ends - counts), ends - 1)
    return values[order[place]]


def _rows(targets: RayTargets) -> Int[Tensor, "B R"]:
    """One integer per ray: its camera and image row, or a negative one for its elevation."""
    seen = targets.camera >= 0
    row = targets.pixels[..., 1].nan_to_num().floor().clamp(0, ROWS_PER_CAMERA - 1).long()
    elevation = (torch.asin(targets.rays.directions[..., 2].clamp(-1, 1)) * BINS_PER_RADIAN).floor().long()
    return torch.where(seen, targets.camera * ROWS_PER_CAMERA + row, elevation - ROWS_PER_CAMERA)


def _means(
    rows: Int[Tensor, " M"], values: Float[Tensor, "M C"]
) -> tuple[Int[Tensor, " P"], Float[Tensor, "P C"]]:
    """The distinct rows, sorted, and the mean value of each."""
    distinct, which, counts = torch.unique(rows, return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(distinct), values.shape[1], dtype=torch.float64).index_add_(
        0, which, values.double()
    )
    return distinct, (sums / counts[:, None]).float()


def _lookup(
    rows: Int[Tensor, " P"], constants: Float[Tensor, "P C"], asked: Int[Tensor, "B R"]
) -> Float[Tensor, "B R C"]:
    """The constant of the nearest row."""
    if not len(rows):
        return constants.new_zeros(*asked.shape, constants.shape[1])
    above = torch.searchsorted(rows, asked).clamp(max=len(rows) - 1)
    below = (above - 1).clamp(min=0)
    nearer = torch.where((asked - rows[below]).abs() < (rows[above] - asked).abs(), below, above)
    return constants[nearer]
