"""What a predictor without geometry gets: the mean depth and colour of each image row of each camera.

A driving scene's depth is largely a function of the image row. A method that renders is worth something only
where it beats the training frames' row means; without cameras a row is half a degree of LiDAR elevation.
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


@dataclass(frozen=True)
class RowMeans:
    """Means over the training rays of each camera's image rows; an unseen row takes the nearest one's.

    Attributes:
        depth_rows: Rows with depth, sorted.
        depths: Mean depth of each, metres.
        color_rows: Rows with colour, sorted.
        colors: Mean colour of each.
    """

    depth_rows: Int[Tensor, " P"]
    depths: Float[Tensor, "P 1"]
    color_rows: Int[Tensor, " Q"]
    colors: Float[Tensor, "Q 3"]

    @staticmethod
    def of(training: Iterable[RayTargets]) -> "RowMeans":
        """The means over the rays of the training scenes."""
        rows, depths, color_rows, colors = [], [], [], []
        for targets in training:
            row = _rows(targets)
            rows.append(row[targets.hit])
            depths.append(targets.depth[targets.hit][:, None])
            color_rows.append(row[targets.rgb_valid])
            colors.append(targets.rgb[targets.rgb_valid])
        depth_means = _means(torch.cat(rows), torch.cat(depths))
        return RowMeans(*depth_means, *_means(torch.cat(color_rows), torch.cat(colors)))

    def depth(self, targets: RayTargets) -> Float[Tensor, "B R"]:
        """Predicted depth of every ray, metres; 0 without any training ray."""
        return _lookup(self.depth_rows, self.depths, _rows(targets))[..., 0]

    def rgb(self, targets: RayTargets) -> Float[Tensor, "B R 3"]:
        """Predicted colour of every ray; black without any training ray."""
        return _lookup(self.color_rows, self.colors, _rows(targets))


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
    rows: Int[Tensor, " P"], means: Float[Tensor, "P C"], asked: Int[Tensor, "B R"]
) -> Float[Tensor, "B R C"]:
    """The mean of the nearest row."""
    if not len(rows):
        return means.new_zeros(*asked.shape, means.shape[1])
    above = torch.searchsorted(rows, asked).clamp(max=len(rows) - 1)
    below = (above - 1).clamp(min=0)
    nearer = torch.where((asked - rows[below]).abs() < (rows[above] - asked).abs(), below, above)
    return means[nearer]
