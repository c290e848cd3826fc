"""Points to a volume."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.geometry import VoxelGrid


def lift_points(
    values: Float[Tensor, "B P C"],
    points: Float[Tensor, "B P 3"],
    valid: Bool[Tensor, "B P"],
    grid: VoxelGrid,
    *,
    reduce: Literal["sum", "mean"] = "mean",
) -> Float[Tensor, "B C Z Y X"]:
    """Gather each point's values in the voxel it lies in; points outside are dropped, empty voxels are zero.

    Args:
        values: Features of the points. Differentiable.
        points: World positions, metres.
        valid: False for padding.
        grid: The volume's grid.
        reduce: Sum, or mean over a voxel's points.
    """
    volume = ops.splat(values, points, grid.shape, grid.scale, grid.offset, mode="nearest", valid=valid)
    if reduce == "sum":
        return volume
    ones = torch.ones_like(values[..., :1])
    count = ops.splat(ones, points, grid.shape, grid.scale, grid.offset, mode="nearest", valid=valid)
    return volume / count.clamp(min=1)
