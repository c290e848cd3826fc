"""Points to a bird's-eye view by a small network per point and the maximum per pillar."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.batch_norm import BatchNorm1d


class PillarLayer(nn.Module):
    """One linear layer, normalised and rectified; keys as the ``pfn_layers`` of OpenPCDet and mmdet3d.

    With fewer than two points there is nothing to learn statistics from: the running ones are used and kept.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = BatchNorm1d(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, x: Float[Tensor, "M _"]) -> Float[Tensor, "M _"]:
        """A linear layer, normalised and rectified, on every row. Differentiable."""
        x, norm = self.linear(x), self.norm
        if len(x) > 1:
            return norm(x).relu()
        mean, var = norm.running_mean, norm.running_var
        return nn.functional.batch_norm(x, mean, var, norm.weight, norm.bias, eps=norm.eps).relu()


class PillarFeatureNet(nn.Module):
    """The maximum over a voxel's points of a learned feature of each.

    A point is described by its columns, its offset from the mean of the voxel's points, and its offset from
    the voxel's centre, metres: ``columns + 6`` numbers in the order of OpenPCDet. PointPillars
    (https://arxiv.org/abs/1812.05784), section 2.1.

    Args:
        grid: The volume's grid; one voxel high for pillars.
        in_channels: Columns of the points, of which the first three are x, y, z.
        out_channels: Width of the volume.

    Differs from the published code in: no limit on the points of a voxel or on voxels, so the statistics of
    the normalisation are those of points and not of empty slots.
    """

    def __init__(self, grid: VoxelGrid, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.in_channels = in_channels
        self.pfn_layers = nn.ModuleList([PillarLayer(in_channels + 6, out_channels)])

    def forward(
        self, points: Float[Tensor, "B P C"], valid: Bool[Tensor, "B P"]
    ) -> Float[Tensor, "B D Z Y X"]:
        """The volume, zero where there are no points.

        Args:
            points: ``x, y, z`` in metres, then features; those outside the grid are dropped. Differentiable.
            valid: False for padding, which may hold anything.
        """
        sizes = check_shape("points", points, "B P C", C=self.in_channels)
        grid = self.grid
        index = grid.voxel_index(points[..., :3], valid).flatten()
        kept = index >= 0
        index, columns = index[kept], points.flatten(0, 1)[kept]
        cells = ops.occupied_cells(index, sizes["B"] * grid.num_voxels)
        means = ops.voxel_scatter(
            columns[:, :3], cells.rows, len(cells.cells), reduce="mean", plan=cells.plan
        )
        centers = grid.centers(points.device).reshape(-1, 3)[index % grid.num_voxels]
        place = columns[:, :3]
        x = torch.cat([columns, place - means[cells.rows], place - centers], -1)
        for layer in self.pfn_layers:
            x = layer(x)
        volume = ops.voxel_scatter(x, index, sizes["B"] * grid.num_voxels, reduce="max")
        return volume.view(sizes["B"], *grid.shape, -1).permute(0, 4, 1, 2, 3)
