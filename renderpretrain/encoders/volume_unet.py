"""Dense 3D U-Net on a volume: PonderV2's indoor neck."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.encoders.pointwise import Pointwise
from renderpretrain.encoders.strides import grid_of_outputs
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.batch_norm import BatchNorm3d
from renderpretrain.ops.conv3d import Conv3d


class VolumeUNet(nn.Module):
    """A volume seen at several resolutions, each half the one before along all axes.

    PonderV2's UNet3D-v1m2, after https://arxiv.org/abs/1606.06650: per level batch normalisation, a 3x3x3
    convolution and ReLU, in this order; a maximum over 2x2x2 cells between levels; transposed convolutions on
    the way back, summed with the way there; a pointwise convolution last. Keys
    ``encoders.{i}.basic_module.batchnorm / conv``, ``decoders.{i}.upsampling.upsample``,
    ``decoders.{i}.basic_module``, ``final_conv``; decoders count from the coarsest.

    Args:
        in_channels: Channels of the volume.
        out_channels: Channels of the result.
        channels: Width of each level, fine to coarse.

    Differs from PonderV2 in: sides that are no multiple of the coarsest cell are served too, by windows that
    reach over the upper end.
    """

    def __init__(
        self, in_channels: int, out_channels: int = 128, *, channels: Sequence[int] = (32, 64, 128, 256)
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = [in_channels, *channels]
        self.encoders = nn.ModuleList(
            _Encoder(widths[i], widths[i + 1], pool=i > 0) for i in range(len(channels))
        )
        self.decoders = nn.ModuleList(
            _Decoder(channels[i], channels[i - 1]) for i in range(len(channels) - 1, 0, -1)
        )
        self.final_conv = Pointwise(channels[0], out_channels, kernel_size=1)
        self.level_channels = (*channels, out_channels)

    def forward(self, volume: Float[Tensor, "B _ Z Y X"]) -> Float[Tensor, "B _ Z Y X"]:
        """The neck's volume, on the grid of the input. Differentiable."""
        return self.levels(volume)[-1]

    def levels(self, volume: Float[Tensor, "B _ Z Y X"]) -> list[Float[Tensor, "B _ _ _ _"]]:
        """Volumes of all resolutions on the way up, fine to coarse: strides 1, 2, 4, ...; then a call's.

        That is a pointwise convolution of the first one; the one before it is the coarsest of the way down.
        """
        check_shape("volume", volume, "B C Z Y X", C=self.in_channels)
        maps = [volume]
        for encoder in self.encoders:
            maps.append(encoder(maps[-1]))
        levels = [maps.pop()]
        for decoder in self.decoders:
            levels.append(decoder(levels[-1], maps.pop()))
        return [*levels[::-1], self.final_conv(levels[-1])]

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the volume's grid."""
        return [*(_pooled_grid(grid, 2**i) for i in range(len(self.encoders))), grid]


def _pooled_grid(grid: VoxelGrid, step: int) -> VoxelGrid:
    """The grid of maxima over windows of ``step`` cells along all axes, the last ones reaching over."""
    z, y, x = (-(-size // step) for size in grid.shape)
    return grid_of_outputs(grid, [(step - 1) / 2] * 3, [step] * 3, (z, y, x))


class _Encoder(nn.Module):
    """One level of the way down."""

    def __init__(self, in_channels: int, out_channels: int, *, pool: bool) -> None:
        super().__init__()
        self.pooling = nn.MaxPool3d(kernel_size=2, ceil_mode=True) if pool else nn.Identity()
        self.basic_module = _NormConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(self.pooling(x))


class _Decoder(nn.Module):
    """One level of the way up, onto the grid of the finer map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsampling = _Upsampling(in_channels, out_channels)
        self.basic_module = _NormConv(out_channels, out_channels)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        return self.basic_module(finer + self.upsampling(x, finer))


class _Upsampling(nn.Module):
    """A transposed convolution that undoes the pooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        return self.upsample(x, output_size=list(finer.shape[2:]))


class _NormConv(nn.Module):
    """Batch normalisation, a 3x3x3 convolution and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.batchnorm = BatchNorm3d(in_channels)
        self.conv = Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.batchnorm(x)).relu()
