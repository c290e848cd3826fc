"""Sparse encoders of points in a recipe: their section, their network, and the grid of their outputs."""

from typing import Any

from pydantic import Field

from renderpretrain.encoders import PointEncoder, SparseEncoder
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.settings import Settings, VoxelSize, Widths


class SparseConfig(Settings):
    """A sparse encoder of points and its voxels."""

    voxel_size: VoxelSize = (0.1, 0.1, 0.2)
    channels: tuple[Widths, ...] = Field(((16, 32), (32, 32)), description="Widths per stage.")
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)
    """Weight of the newest batch in the running statistics of the 3D networks."""


def sparse_encoder(
    config: SparseConfig, in_channels: int, out_channels: int, **output: tuple[Any, Any, Any]
) -> SparseEncoder:
    """The sparse encoder of a section: all stages but the last halve all axes, the third leaves z unpadded.

    Args:
        config: The section.
        in_channels: Columns of the points.
        out_channels: Width of the volume.
        output: ``out_geometry`` of :class:`~renderpretrain.encoders.SparseEncoder`, if not its own.
    """
    strides = ((2, 2, 2),) * (len(config.channels) - 1)
    paddings = ((1, 1, 1), (1, 1, 1), (0, 1, 1))[: len(strides)]
    sizes: Any = {"channels": config.channels, "strides": strides, "paddings": paddings} | output
    return SparseEncoder(in_channels, out_channels, **sizes)


def sparse_grid(config: SparseConfig, encoder: PointEncoder, grid: VoxelGrid, *, axes: int = 3) -> VoxelGrid:
    """The grid that an encoder's outputs are centred on, given the voxels of the rendered one.

    Args:
        config: The encoder's section.
        encoder: The encoder.
        grid: What ``voxel_size`` says, which is centred elsewhere.
        axes: Of ``(z, y, x)``, the last ones, that must have as many voxels.

    Raises:
        ValueError: If they do not.
    """
    out = encoder.output_grid(VoxelGrid(grid.point_cloud_range, config.voxel_size))
    if out.shape[-axes:] != grid.shape[-axes:]:
        cells = "voxels" if axes == 3 else "columns"
        sides = [whole / part for whole, part in zip(grid.voxel_size, config.voxel_size, strict=True)]
        stride = " x ".join(f"{side:.3g}" for side in sides[:axes][::-1])
        if not isinstance(encoder, SparseEncoder):
            raise ValueError(_other_stride(encoder, grid, config.voxel_size, stride))
        raise ValueError(
            "encoder.voxel_size, encoder.channels: expected an encoder output of "
            f"{grid.shape[-axes:]} {cells} as voxel_size says, got {out.shape[-axes:]}; voxel_size by "
            f"encoder.voxel_size is a stride of {stride}"
        )
    return out


def _other_stride(encoder: PointEncoder, grid: VoxelGrid, voxel_size: VoxelSize, stride: str) -> str:
    """What to do about an encoder of the user's own whose cells are not the recipe's voxels."""
    said = getattr(encoder, "stride", None)
    shape = encoder.output_grid(VoxelGrid(grid.point_cloud_range, voxel_size)).shape
    message = (
        f"encoder: expected a volume of {grid.shape} cells, for voxel_size by encoder.voxel_size is a stride "
        f"of {stride} (z, y, x), got {shape}"
    )
    if said is None:
        return message
    fitting = [round(side / step, 6) for side, step in zip(grid.voxel_size, said[::-1], strict=True)]
    size = ", ".join(f"{side:g}" for side in fitting)
    return f"{message} of one that says stride={said}; if that is right, set encoder.voxel_size=[{size}]"
