"""BEVFusion's image neck: coarse maps are appended to finer ones and mixed, level by level."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape
from renderpretrain.encoders.described import Role, Sizes, State, count_numbers, side_of
from renderpretrain.ops.batch_norm import BatchNorm2d


class LSSFPN(nn.Module):
    """The generalised FPN of lift-splat networks (BEVFusion's GeneralizedLSSFPN, also NS-MAE's).

    From the coarsest map on: enlarge bilinearly, append to the next finer map, 1x1 and 3x3 convolution, each
    normalised and rectified. https://arxiv.org/abs/2205.13542. Keys as in BEVFusion:
    ``lateral_convs.{i}.conv / bn``, ``fpn_convs.{i}.conv / bn``, counted from the finest.

    Args:
        in_channels: Channels of every map given, fine to coarse; at least two.
        out_channels: Channels of every map returned.

    Differs from the released code in: pixels are edge to edge when maps are enlarged (its
    ``align_corners=False``, as BEVFusion's configurations have it, not the default).
    """

    role: ClassVar[Role] = Role("image_neck", "maps")

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(f"in_channels: expected at least two maps, got {tuple(in_channels)}")
        self.in_channels = tuple(in_channels)
        # What comes from below is the coarsest map itself at first, afterwards the last result.
        coarser = [*(out_channels for _ in in_channels[2:]), in_channels[-1]]
        self.lateral_convs = nn.ModuleList(
            _ConvNorm(fine + coarse, out_channels, kernel_size=1)
            for fine, coarse in zip(in_channels[:-1], coarser, strict=True)
        )
        self.fpn_convs = nn.ModuleList(
            _ConvNorm(out_channels, out_channels, kernel_size=3) for _ in in_channels[:-1]
        )

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B _ _ _"]]:
        """One map less than given, fine to coarse. Differentiable.

        Args:
            maps: One per entry of ``in_channels``.
        """
        expected = len(self.lateral_convs) + 1
        if len(maps) != expected:
            raise ValueError(f"maps: expected {expected} feature maps, got {len(maps)}")
        for x, channels in zip(maps, self.in_channels, strict=True):
            check_shape("maps", x, "B C h w", B=len(maps[0]), C=channels)
        outs = [maps[-1]]
        for i in range(expected - 2, -1, -1):
            coarse = nn.functional.interpolate(outs[0], size=maps[i].shape[-2:], mode="bilinear")
            both = torch.cat([maps[i], coarse], dim=1)
            outs.insert(0, self.fpn_convs[i](self.lateral_convs[i](both)))
        return outs[:-1]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Widths; of the two coarsest maps, whose sum alone is known, the last has twice the other's."""
        count = count_numbers(state, r"lateral_convs\.(\d+)\.")
        out = side_of(state, "lateral_convs.0.conv.weight", 0)
        both = [side_of(state, f"lateral_convs.{i}.conv.weight", 1) for i in range(count)]
        coarsest = [both[-1] // 3, both[-1] - both[-1] // 3]
        return {"in_channels": [n - out for n in both[:-1]] + coarsest, "out_channels": out}

    @property
    def sizes(self) -> Sizes:
        """The widths of all maps given."""
        return {**self.sizes_of(self.state_dict()), "in_channels": list(self.in_channels)}


class _ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation and ReLU under mmdetection's names."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()
