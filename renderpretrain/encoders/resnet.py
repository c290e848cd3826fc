"""ResNet, masked or dense, with the parameter names of torchvision.

https://arxiv.org/abs/1512.03385, with the stride in the 3x3 convolution of a bottleneck as torchvision has
it, or in the first one as the paper. Keys: ``conv1``, ``bn1``, ``layer{1..4}.{j}.conv1 / bn1 / ... /
downsample.0 / downsample.1``, in timm and mmdetection too.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.checks import check_images
from renderpretrain.encoders.described import Role, Sizes, State, count_numbers, side_of
from renderpretrain.encoders.frozen import freeze
from renderpretrain.encoders.masked import (
    MaskedBatchNorm2d,
    MaskedConv2d,
    MaskedMaxPool2d,
    hide_cells,
    resize_mask,
)


class ResNet(nn.Module):
    """A pyramid of feature maps at strides 4, 8, 16, 32.

    Args:
        depths: Blocks per stage.
        bottleneck: Blocks of 1x1, 3x3, 1x1 convolutions, four times as wide outside, instead of two 3x3 ones.
        width: Channels of the stem; the stages have 1, 2, 4, 8 times as many.
        out_indices: Stages whose maps are returned.
        frozen_stages: 0 trains everything; ``n`` keeps the stem and the first ``n`` stages, their batch
            statistics included, as they are.
        stride_first: Bottlenecks stride in their first convolution, as those of mmdetection's style ``caffe``
            do, with which UniScene begins.
    """

    role: ClassVar[Role] = Role("image_backbone", "images")

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        *,
        bottleneck: bool = False,
        width: int = 64,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = 0,
        stride_first: bool = False,
    ) -> None:
        super().__init__()
        if stride_first and not bottleneck:
            raise ValueError("stride_first: expected False without bottleneck, got True")
        if not set(out_indices) <= set(range(len(depths))):
            raise ValueError(f"out_indices: expected stages below {len(depths)}, got {tuple(out_indices)}")
        if not 0 <= frozen_stages <= len(depths):
            raise ValueError(f"frozen_stages: expected at most {len(depths)}, got {frozen_stages}")
        self.out_indices = tuple(out_indices)
        self.conv1 = MaskedConv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = MaskedBatchNorm2d(width)
        self.maxpool = MaskedMaxPool2d(kernel_size=3, stride=2, padding=1)
        block = partial(Bottleneck, stride_first=stride_first) if bottleneck else BasicBlock
        channels, widths = width, []
        for i, depth in enumerate(depths):
            stride = 2 if i else 1
            outside = width * 2**i * (4 if bottleneck else 1)
            stage = _Stage(block(channels, width * 2**i, stride=stride))
            stage.extend(block(outside, width * 2**i, stride=1) for _ in range(depth - 1))
            channels = outside
            widths.append(channels)
            self.add_module(f"layer{i + 1}", stage)
        self.channels = self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.level_channels = tuple(widths)
        self.level_strides = tuple(4 * 2**i for i in range(len(widths)))
        self.strides = tuple(self.level_strides[i] for i in self.out_indices)
        self.apply(_initialize)
        stages = [self.get_submodule(f"layer{i + 1}") for i in range(frozen_stages)]
        self.frozen = freeze([self.conv1, self.bn1, *stages] if frozen_stages else [])

    def train(self, mode: bool = True) -> "ResNet":
        """Frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Feature maps, fine to coarse.

        Args:
            images: Normalised images. Differentiable.
            hidden: Cells the network must not see; its output there is zero.
        """
        maps = self._stages(images, hidden, max(self.out_indices) + 1)
        return [x for i, x in enumerate(maps) if i in self.out_indices]

    def levels(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The maps of all stages, fine to coarse; a call gives those of ``out_indices``."""
        return self._stages(images, hidden, len(self.level_channels))

    def _stages(self, images: Tensor, hidden: Tensor | None, count: int) -> list[Tensor]:
        """The maps of the first ``count`` stages."""
        check_images(images, "B 3 H W")
        x = self.bn1(self.conv1(hide_cells(images, hidden), hidden), hidden).relu()
        x = self.maxpool(x, hidden)
        maps = []
        for i in range(count):
            x = self.get_submodule(f"layer{i + 1}")(x, hidden)
            maps.append(x)
        return maps

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Depths and widths; not which maps are returned, nor where a bottleneck strides."""
        stages = count_numbers(state, r"layer(\d+)\.", first=1)
        return {
            "depths": [count_numbers(state, rf"layer{i + 1}\.(\d+)\.") for i in range(stages)],
            "bottleneck": "layer1.0.conv3.weight" in state,
            "width": side_of(state, "conv1.weight", 0),
        }

    @property
    def sizes(self) -> Sizes:
        """Which maps are returned and where bottlenecks stride, too."""
        strides = [m.stride[0] for n, m in self.named_modules() if n == "layer2.0.conv1"]
        caffe = strides == [2] and "layer2.0.conv3.weight" in self.state_dict()
        return {
            **self.sizes_of(self.state_dict()),
            "out_indices": list(self.out_indices),
            "stride_first": caffe,
        }


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first strided, around a skip.

    Args:
        channels: Input channels.
        width: Output channels.
        stride: Stride of the block.
    """

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = MaskedConv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = MaskedBatchNorm2d(width)
        self.conv2 = MaskedConv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = MaskedBatchNorm2d(width)
        self.downsample = _skip(channels, width, stride)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Add the branch and rectify; hidden cells stay zero."""
        y = self.bn1(self.conv1(x, hidden), hidden).relu()
        y = self.bn2(self.conv2(y, hidden), hidden)
        return (y + (x if self.downsample is None else self.downsample(x, hidden))).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a skip, one of them strided; four times as wide outside as inside.

    Args:
        channels: Input channels.
        width: Channels of the 3x3 convolution.
        stride: Stride of the block.
        stride_first: Stride in the first convolution instead of the second.
    """

    def __init__(self, channels: int, width: int, *, stride: int, stride_first: bool = False) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_first else (1, stride)
        self.conv1 = MaskedConv2d(channels, width, kernel_size=1, stride=first, bias=False)
        self.bn1 = MaskedBatchNorm2d(width)
        self.conv2 = MaskedConv2d(width, width, kernel_size=3, stride=second, padding=1, bias=False)
        self.bn2 = MaskedBatchNorm2d(width)
        self.conv3 = MaskedConv2d(width, 4 * width, kernel_size=1, bias=False)
        self.bn3 = MaskedBatchNorm2d(4 * width)
        self.downsample = _skip(channels, 4 * width, stride)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Add the branch and rectify; hidden cells stay zero."""
        y = self.bn1(self.conv1(x, hidden), hidden).relu()
        y = self.bn2(self.conv2(y, hidden), hidden).relu()
        y = self.bn3(self.conv3(y, hidden), hidden)
        return (y + (x if self.downsample is None else self.downsample(x, hidden))).relu()


def resnet18(*, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0) -> ResNet:
    """ResNet-18. The options are :class:`ResNet`'s."""
    return ResNet((2, 2, 2, 2), out_indices=out_indices, frozen_stages=frozen_stages)


def resnet34(*, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0) -> ResNet:
    """ResNet-34. The options are :class:`ResNet`'s."""
    return ResNet((3, 4, 6, 3), out_indices=out_indices, frozen_stages=frozen_stages)


def resnet50(*, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0) -> ResNet:
    """ResNet-50. The options are :class:`ResNet`'s."""
    return ResNet((3, 4, 6, 3), bottleneck=True, out_indices=out_indices, frozen_stages=frozen_stages)


def resnet101(*, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0) -> ResNet:
    """ResNet-101. The options are :class:`ResNet`'s."""
    return ResNet((3, 4, 23, 3), bottleneck=True, out_indices=out_indices, frozen_stages=frozen_stages)


class _Stage(nn.Sequential):
    """Blocks of one width; the first one strides."""

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self):
            x = block(x, hidden)
            if hidden is not None and i == 0:
                hidden = resize_mask(hidden, (x.shape[-2], x.shape[-1]))
        return x


class _ConvNorm(nn.Sequential):
    """The projection of a skip whose shape changes."""

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self[1](self[0](x, hidden), hidden)


def _skip(channels: int, width: int, stride: int) -> _ConvNorm | None:
    """What the skip needs to meet the branch; nothing where shapes agree."""
    if stride == 1 and channels == width:
        return None
    conv = MaskedConv2d(channels, width, kernel_size=1, stride=stride, bias=False)
    return _ConvNorm(conv, MaskedBatchNorm2d(width))


def _initialize(module: nn.Module) -> None:
    """He initialisation of the convolutions, as torchvision does."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
