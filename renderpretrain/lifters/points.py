"""Points to a volume."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
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
    check_shape("points", points, "B P 3", B=batch, P=num_points)
    box = grid.shape, grid.lower, grid.upper, grid.scale, grid.offset
    index = ops.voxel_index(points, valid, *box).flatten()
    volume = ops.voxel_scatter(values.flatten(0, 1), index, batch * grid.num_voxels, reduce=reduce)
    return volume.view(batch, *grid.shape, channels).permute(0, 4, 1, 2, 3)
