"""Dense 3D convolutions on a volume: UniPAD's multi-scale neck, and one light layer."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.encoders.described import Role, Sizes, State, count_numbers, side_of
from renderpretrain.encoders.pointwise import Pointwise
from renderpretrain.encoders.strides import grid_of_outputs, strides_of
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.batch_norm import BatchNorm3d
from renderpretrain.ops.conv3d import Conv3d
from renderpretrain.ops.neighbor_search import Triple


class VolumeNeck(nn.Module):
    """Parallel branches at several horizontal resolutions, brought back to the input's and summed.

    The branches are UniPAD's SECOND3D (keys ``blocks.{i}.{j}``), the way back its SECOND3DFPN
    (``deblocks.{i}.{j}``): a transposed convolution, and for stride 1 a convolution, as its configurations
    have it (``use_conv_for_no_stride``). Height slices never meet: kernels are (1, 3, 3) and (1, s, s).

    Args:
        in_channels: Channels of the volume.
        out_channels: Channels of the result.
        channels: Channels of each branch.
        strides: Horizontal stride of each branch.
        num_blocks: Convolutions of a branch after its strided one.

    Differs from UniPAD in: a volume whose sides the strides do not divide is served too, by cropping the way
    back.
    """

    role: ClassVar[Role] = Role("point_neck", "volume", norm_eps=1e-3)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (128, 256, 512),
        strides: Sequence[int] = (1, 2, 4),
        num_blocks: int = 5,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides):
            raise ValueError(
                f"strides: expected one per branch of channels={tuple(channels)}, got {tuple(strides)}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.level_channels, self._steps = (*channels, out_channels), tuple(strides)
        self.blocks = nn.ModuleList()
        self.deblocks = nn.ModuleList()
        for width, stride in zip(channels, strides, strict=True):
            layers = _conv(in_channels, width, stride)
            for _ in range(num_blocks):
                layers += _conv(width, width, 1)
            self.blocks.append(nn.Sequential(*layers))
            step = (1, stride, stride)
            up = (
                _Back(width, out_channels, kernel_size=1, bias=False)
                if stride == 1
                else nn.ConvTranspose3d(width, out_channels, kernel_size=step, stride=step, bias=False)
            )
            self.deblocks.append(nn.Sequential(up, _norm(out_channels), nn.ReLU(inplace=True)))

    def forward(self, volume: Float[Tensor, "B _ Z Y X"]) -> Float[Tensor, "B _ Z Y X"]:
        """The neck's volume, on the grid of the input. Differentiable."""
        return self.levels(volume)[-1]

    def levels(self, volume: Float[Tensor, "B _ Z Y X"]) -> list[Float[Tensor, "B _ Z _ _"]]:
        """The volumes of all branches, and what a call gives: the sum of what ``deblocks`` make of them."""
        check_shape("volume", volume, "B C Z Y X", C=self.in_channels)
        height, width = volume.shape[-2:]
        branches = [down(volume) for down in self.blocks]
        ups = [up(x)[..., :height, :width] for up, x in zip(self.deblocks, branches, strict=True)]
        total = ups[0]
        for up in ups[1:]:
            total = total + up
        return [*branches, total]

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the volume's grid."""
        z, y, x = grid.shape
        branches = [
            grid_of_outputs(grid, (0, 0, 0), (1, stride, stride), (z, -(-y // stride), -(-x // stride)))
            for stride in self._steps
        ]
        return [*branches, grid]

    @property
    def level_strides(self) -> tuple[Triple, ...]:
        """Cells of the input per cell of every level, ``(z, y, x)``."""
        return strides_of(self.level_grids)

    @property
    def strides(self) -> Triple:
        """Cells of the input per cell of what a call gives: one, along every axis."""
        return self.level_strides[-1]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Widths, strides and depths, which weights tell all."""
        branches = count_numbers(state, r"blocks\.(\d+)\.")
        convs = [k for k, v in state.items() if k.startswith("blocks.0.") and v.ndim == 5]
        return {
            "in_channels": side_of(state, "blocks.0.0.weight", 1),
            "out_channels": side_of(state, "deblocks.0.1.weight", 0),
            "channels": [side_of(state, f"blocks.{i}.0.weight", 0) for i in range(branches)],
            "strides": [side_of(state, f"deblocks.{i}.0.weight", 4) for i in range(branches)],
            "num_blocks": len(convs) - 1,
        }

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""
        return self.sizes_of(self.state_dict())


class VolumeConv(nn.Module):
    """One 3x3x3 convolution, batch normalisation and ReLU, on the grid of the input.

    Args:
        in_channels: Channels of the volume.
        out_channels: Channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = _norm(out_channels)

    def forward(self, volume: Float[Tensor, "B _ Z Y X"]) -> Float[Tensor, "B _ Z Y X"]:
        """Convolve, normalise and rectify a volume. Differentiable."""
        check_shape("volume", volume, "B C Z Y X", C=self.conv.in_channels)
        return self.norm(self.conv(volume)).relu()


class _Back(Pointwise):
    """The way back of a branch without a stride."""

    def reset_parameters(self) -> None:
        """Drawn as the transposed convolutions of the other branches draw theirs."""
        drawn = torch.empty_like(self.weight.transpose(0, 1), memory_format=torch.contiguous_format)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
        with torch.no_grad():
            self.weight.copy_(drawn.transpose(0, 1))


def _conv(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    """A horizontal 3x3 convolution, normalised and rectified."""
    conv = Conv3d(
        in_channels, out_channels, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, _norm(out_channels), nn.ReLU(inplace=True)]


def _norm(channels: int) -> BatchNorm3d:
    """Batch normalisation with SECOND's constants."""
    return BatchNorm3d(channels, eps=1e-3, momentum=0.01)
