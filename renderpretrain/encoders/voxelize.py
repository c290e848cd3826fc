"""Points to voxels: which voxels hold points, and the mean of what they hold."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.sparse_neighbors import from_linear_keys, linear_keys


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

    def to_sparse(self, hidden: Bool[Tensor, " M"] | None = None) -> SparseTensor:
        """The voxels as a sparse tensor, without the hidden ones."""
        features, coords = self.features, self.coords
        if hidden is not None:
            features, coords = features[~hidden], coords[~hidden]
        return SparseTensor(features, coords, self.grid.shape, len(self.point_to_voxel))


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
    check_shape("valid", valid, "B P", B=points.shape[0], P=points.shape[1])
    inside = valid & grid.contains(points[..., :3])
    batch, place = inside.nonzero(as_tuple=True)
    kept = points[batch, place]
    keys = linear_keys(torch.cat([batch[:, None], grid.cells(kept[:, :3])], dim=1), grid.shape)
    # Stable: each voxel's points stay in their order, so sums are the same in every run.
    ordered, order = keys.sort(stable=True)
    voxels, rows, counts = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    if max_voxels is not None:
        early = _earliest(voxels // grid.num_voxels, order[counts.cumsum(0) - counts], max_voxels)
        stays = early[rows]
        order, rows = order[stays], (early.cumsum(0) - 1)[rows[stays]]
        voxels, counts = voxels[early], counts[early]
    point_to_voxel = torch.full(valid.shape, -1, device=points.device)
    point_to_voxel[batch[order], place[order]] = rows
    features = torch.segment_reduce(kept[order], "mean", lengths=counts, unsafe=True)
    coords = from_linear_keys(voxels, grid.shape).int()
    return Voxels(features, coords, counts, point_to_voxel, grid)


def _earliest(sample: Tensor, first: Tensor, limit: int) -> Tensor:
    """Which voxels are among their sample's ``limit`` earliest by place ``first`` of their first point."""
    order = first.argsort()
    # Points lie sample by sample, so the order does too, and a sample begins where its number first occurs.
    samples = sample[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(samples, samples)
    early = torch.zeros_like(sample, dtype=torch.bool)
    early[order] = rank < limit
    return early
