"""Volumes of several sensors to one, on the same grid."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.ops.batch_norm import BatchNorm3d
from renderpretrain.ops.conv3d import Conv3d


def sum_volumes(volumes: Sequence[Float[Tensor, "B C Z Y X"]]) -> Float[Tensor, "B C Z Y X"]:
    """The sum of volumes of one shape: fusion without parameters, as of UniPAD's LiDAR and cameras (UVTR).

    A sensor that is absent is one volume less. Differentiable.
    """
    _check_grids(volumes)
    shapes = [tuple(volume.shape) for volume in volumes]
    if len(set(shapes)) != 1:
        raise ValueError(f"volumes: expected one shape, got {shapes}")
    return sum(volumes[1:], volumes[0])


class ConcatFusion(nn.Sequential):
    """Channels side by side, then one convolution, batch normalisation and ReLU.

    BEVFusion's ``ConvFuser`` (https://arxiv.org/abs/2205.13542), keys ``{0,1}``; its 2D weights are
    those of a kernel one voxel high.

    Args:
        in_channels: Widths of the volumes, in their order.
        out_channels: Width of the result.
        kernel_size: ``(Z, Y, X)``, odd; ``(1, 3, 3)`` for BEV maps.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, *, kernel_size: tuple[int, int, int] = (3, 3, 3)
    ) -> None:
        if any(size % 2 == 0 for size in kernel_size):
            raise ValueError(f"kernel_size: expected odd sizes, got {kernel_size}")
        z, y, x = kernel_size
        super().__init__(
            Conv3d(sum(in_channels), out_channels, kernel_size, padding=(z // 2, y // 2, x // 2), bias=False),
            BatchNorm3d(out_channels),
            nn.ReLU(),
        )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels

    def forward(self, volumes: Sequence[Float[Tensor, "B _ Z Y X"]]) -> Float[Tensor, "B _ Z Y X"]:
        """One volume on the same grid. Differentiable."""
        _check_grids(volumes)
        widths = tuple(volume.shape[1] for volume in volumes)
        if widths != self.in_channels:
            raise ValueError(f"volumes: expected {self.in_channels} channels, got {widths}")
        return super().forward(torch.cat(list(volumes), 1))


def _check_grids(volumes: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless there are volumes, all of one batch and one grid."""
    if isinstance(volumes, Tensor):
        raise ValueError(f"volumes: expected a list of them, got one tensor {tuple(volumes.shape)}")
    grids = [(volume.shape[0], *volume.shape[2:]) for volume in volumes]
    if len(set(grids)) != 1 or len(grids[0]) != 4:
        raise ValueError(f"volumes: expected at least one, all of one (B, Z, Y, X), got {grids}")
