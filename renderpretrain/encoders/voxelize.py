"""Points to voxels: which voxels hold points, and the mean of what they hold."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_floating, check_mask, check_shape
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.known_voxels import known_order, remember_voxels
from renderpretrain.ops.neighbor_search import from_linear_keys
from renderpretrain.ops.uncompiled import uncompiled


@dataclass(frozen=True)
class Voxels:
    """The occupied voxels of a batch of point clouds.

    Attributes:
        features: Mean over each voxel's points.
        coords: ``(b, z, y, x)``, sorted, none twice.
        counts: Points in each voxel.
        point_to_voxel: Row of each point's voxel; -1 for a point without one (padding, outside, over the
            limit).
        grid: The voxels' grid.
    """

    features: Float[Tensor, "M C"]
    coords: Int[Tensor, "M 4"]
    counts: Int[Tensor, " M"]
    point_to_voxel: Int[Tensor, "B P"]
    grid: VoxelGrid

    def points_of(self, rows: Bool[Tensor, " M"]) -> Bool[Tensor, "B P"]:
        """Which points lie in the chosen voxels; none that has no voxel."""
        check_mask("rows", rows, (len(self.coords),), self.coords.device)
        # Points without a voxel have row -1, which reads the False appended here.
        return torch.cat([rows, rows.new_zeros(1)])[self.point_to_voxel]

    @uncompiled
    def to_sparse(self, hidden: Bool[Tensor, " M"] | None = None) -> SparseTensor:
        """The voxels as a sparse tensor, without the hidden ones."""
        features, coords = self.features, self.coords
        if hidden is not None:
            check_mask("hidden", hidden, (len(coords),), coords.device)
            kept = (~hidden).nonzero()[:, 0]  # waits for their number, once for both
            features, coords = features[kept], coords[kept]
        shape = len(self.point_to_voxel), *self.grid.shape
        if coords is not self.coords and known_order(self.coords, shape):
            remember_voxels(coords, shape, ordered=True)
        return SparseTensor(features, coords, self.grid.shape, len(self.point_to_voxel))


@uncompiled
def voxelize(
    points: Float[Tensor, "B P C"],
    valid: Bool[Tensor, "B P"],
    grid: VoxelGrid,
    *,
    max_voxels: int | None = None,
) -> Voxels:
    """Gather points in voxels, by rounding down, and average all their columns (mean VFE).

    The result does not depend on the device or the run. Differentiable in the points' columns.

    Args:
        points: ``x, y, z`` in metres, then features.
        valid: False for padding, which may hold anything.
        grid: Points outside are dropped.
        max_voxels: At most so many voxels per sample: those whose first point comes earliest in ``points``.

    Differs from hard voxelisation in: no limit on the points of a voxel.
    """
    if check_shape("points", points, "B P C")["C"] < 3:
        raise ValueError(f"points: expected x, y, z and features in the last axis, got {tuple(points.shape)}")
    check_floating(points=points)
    batch, num_points, _ = points.shape
    index = grid.voxel_index(points[..., :3], valid).flatten()
    found = ops.occupied_cells(index, batch * grid.num_voxels)
    cells, rows, plan = found.cells, found.rows, found.plan
    if max_voxels is not None:
        first = plan.order[plan.offsets[:-1]]  # a voxel's points are in their order
        early = _earliest(cells // grid.num_voxels, first, max_voxels)
        row = torch.where(early, early.cumsum(0) - 1, -1)
        rows = torch.cat([row, row.new_full((1,), -1)])[rows]  # row -1, the last, stays -1
        cells = cells[early]
        plan = ops.scatter_plan(rows, len(cells))
    features = ops.voxel_scatter(points.flatten(0, 1), rows, len(cells), reduce="mean", plan=plan)
    coords = from_linear_keys(cells, grid.shape).int()
    remember_voxels(coords, (batch, *grid.shape), ordered=True)
    return Voxels(features, coords, plan.counts.long(), rows.view(batch, num_points), grid)


def _earliest(sample: Tensor, first: Tensor, limit: int) -> Tensor:
    """Which voxels are among their sample's ``limit`` earliest by place ``first`` of their first point."""
    order = first.argsort()
    # Points lie sample by sample, so the order does too, and a sample begins where its number first occurs.
    samples = sample[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(samples, samples)
    early = torch.zeros_like(sample, dtype=torch.bool)
    early[order] = rank < limit
    return early
