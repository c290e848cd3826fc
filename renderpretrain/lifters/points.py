"""Points and sparse voxels to a volume."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_floating, check_integer, check_shape
from renderpretrain.geometry import VoxelGrid


def lift_points(
    values: Float[Tensor, "B P C"],
    points: Float[Tensor, "B P 3"],
    valid: Bool[Tensor, "B P"],
    grid: VoxelGrid,
    *,
    reduce: Literal["sum", "mean", "max"] = "mean",
) -> Float[Tensor, "B C Z Y X"]:
    """Gather each point's values in the voxel it lies in; points outside are dropped, empty voxels are zero.

    Args:
        values: Features of the points. Differentiable, as in :func:`~renderpretrain.ops.voxel_scatter`.
        points: World positions, metres.
        valid: False for padding.
        grid: The volume's grid.
        reduce: Sum, mean or maximum over a voxel's points.

    Returns:
        The volume in ``torch.channels_last_3d`` memory.
    """
    batch, num_points, channels = check_shape("values", values, "B P C").values()
    check_floating(values=values)
    check_shape("points", points, "B P 3", B=batch, P=num_points)
    index = grid.voxel_index(points, valid).flatten()
    volume = ops.voxel_scatter(values.flatten(0, 1), index, batch * grid.num_voxels, reduce=reduce)
    return volume.view(batch, *grid.shape, channels).permute(0, 4, 1, 2, 3)


def lift_voxels(
    features: Float[Tensor, "M C"],
    coords: Int[Tensor, "M 4"],
    fine: VoxelGrid,
    grid: VoxelGrid,
    batch_size: int,
    *,
    reduce: Literal["sum", "mean", "max"] = "mean",
) -> Float[Tensor, "B C Z Y X"]:
    """Gather sparse voxels in the coarser voxel their centre lies in, as :func:`lift_points` does points.

    PonderV2's dense volume (https://arxiv.org/abs/2310.08586): the mean of the voxels in each cell, however
    many points they hold.

    Args:
        features: Of the voxels. Differentiable.
        coords: Voxels ``(b, z, y, x)`` of ``fine``.
        fine: The voxels' grid.
        grid: The volume's grid; voxels with a centre outside are dropped.
        batch_size: Number of samples.
        reduce: Sum, mean or maximum over the voxels.

    Returns:
        The volume in ``torch.channels_last_3d`` memory.
    """
    rows = check_shape("features", features, "M C")["M"]
    check_shape("coords", coords, "M 4", M=rows)
    check_integer("coords", coords)
    centers = fine.to_world(coords[:, 1:].flip(1).to(torch.float32))
    cell = grid.voxel_index(centers[None], torch.ones_like(coords[None, :, 0], dtype=torch.bool))[0]
    index = torch.where(cell >= 0, cell + coords[:, 0].long() * grid.num_voxels, -1)
    volume = ops.voxel_scatter(features, index, batch_size * grid.num_voxels, reduce=reduce)
    return volume.view(batch_size, *grid.shape, features.shape[1]).permute(0, 4, 1, 2, 3)
