"""ConvNeXt, masked or dense, with the parameter names of timm.

https://arxiv.org/abs/2201.03545. Keys: ``stem.0`` (convolution), ``stem.1`` (norm),
``stages.{i}.downsample.0/1``, ``stages.{i}.blocks.{j}.conv_dw / norm / mlp.fc1 / mlp.fc2 / gamma``; the
output norms are ``norm{i}``.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.checks import check_images
from renderpretrain.encoders.described import (
    Role,
    Sizes,
    State,
    count_numbers,
    normed_stages,
    side_of,
)
from renderpretrain.encoders.drop_path import drop_path
from renderpretrain.encoders.frozen import freeze
from renderpretrain.encoders.masked import (
    MaskedConv2d,
    MaskedLayerNorm2d,
    hide_cells,
    resize_mask,
)
from renderpretrain.encoders.perceptron import Perceptron


class ConvNeXt(nn.Module):
    """A pyramid of feature maps at strides 4, 8, 16, 32, each normalised.

    Args:
        depths: Blocks per stage.
        widths: Channels per stage.
        layer_scale: Initial weight of every residual branch; 0 leaves the weights out.
        drop_path: Probability of skipping the last block's branch for a sample while training; blocks before
            it skip proportionally less.
        out_indices: Stages whose maps are returned.
        frozen_stages: 0 trains everything; ``n`` keeps the stem and the first ``n`` stages as they are.

    Differs from timm's classifier in: an output norm per returned stage, as detection code has it, and no
    head.
    """

    role: ClassVar[Role] = Role("image_backbone", "images")

    def __init__(
        self,
        depths: Sequence[int] = (3, 3, 9, 3),
        widths: Sequence[int] = (96, 192, 384, 768),
        *,
        layer_scale: int | float = 1e-6,
        drop_path: int | float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        if len(depths) != len(widths):
            raise ValueError(f"widths: expected one per stage of depths={tuple(depths)}, got {tuple(widths)}")
        if not set(out_indices) <= set(range(len(depths))):
            raise ValueError(f"out_indices: expected stages below {len(depths)}, got {tuple(out_indices)}")
        rates = (drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths)))
        self.out_indices = tuple(out_indices)
        self.channels = self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.level_channels = tuple(widths)
        self.level_strides = tuple(4 * 2**i for i in range(len(widths)))
        self.strides = tuple(self.level_strides[i] for i in self.out_indices)
        self.stem = _ConvNorm(3, widths[0])
        self.stages = nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = [
                ConvNeXtBlock(width, layer_scale=layer_scale, drop_path=next(rates)) for _ in range(depth)
            ]
            self.stages.append(_Stage(_NormConv(widths[i - 1], width) if i else None, blocks))
        for i in self.out_indices:
            self.add_module(f"norm{i}", MaskedLayerNorm2d(widths[i]))
        self.apply(_initialize)
        self.frozen = freeze([self.stem, *self.stages[:frozen_stages]] if frozen_stages else [])

    def train(self, mode: bool = True) -> "ConvNeXt":
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
        return [x for i, x in enumerate(self.levels(images, hidden)) if i in self.out_indices]

    def levels(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The maps of all stages, fine to coarse; a call gives those of ``out_indices``.

        These are normalised; stages that a call does not give have no output norm.
        """
        check_images(images, "B 3 H W")
        x = self.stem(hide_cells(images, hidden), hidden)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x, hidden)
            maps.append(self.get_submodule(f"norm{i}")(x, hidden) if i in self.out_indices else x)
        return maps

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Depths and widths, the output norms, and whether there is a layer scale."""
        stages = count_numbers(state, r"stages\.(\d+)\.")
        return {
            "depths": [count_numbers(state, rf"stages\.{i}\.blocks\.(\d+)\.") for i in range(stages)],
            "widths": [side_of(state, f"stages.{i}.blocks.0.conv_dw.weight", 0) for i in range(stages)],
            "layer_scale": 1.0 if "stages.0.blocks.0.gamma" in state else 0.0,
            "out_indices": normed_stages(state, stages),
        }

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""
        return self.sizes_of(self.state_dict())


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, norm, two-layer perceptron per cell, scaled and added to the input.

    Args:
        width: Channels.
        layer_scale: Initial weight of the branch, or 0 for none.
        drop_path: Probability of skipping the branch for a sample while training.
    """

    def __init__(self, width: int, *, layer_scale: int | float, drop_path: int | float) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)
        self.gamma = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None
        self.drop_path = drop_path

    def forward(
        self, x: Float[Tensor, "B C h w"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Add the branch; hidden cells of ``x`` are zero and stay so."""
        # After the depthwise convolution no position meets another, so hiding once at the end is enough.
        branch = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        if self.gamma is not None:
            branch = branch * self.gamma[:, None, None]
        return x + drop_path(hide_cells(branch, hidden), self.drop_path if self.training else 0.0)


def convnext_tiny(
    *, drop_path: int | float = 0.0, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0
) -> ConvNeXt:
    """ConvNeXt-T: 28 M parameters, widths 96 to 768. The options are :class:`ConvNeXt`'s."""
    return ConvNeXt(drop_path=drop_path, out_indices=out_indices, frozen_stages=frozen_stages)


def convnext_small(
    *, drop_path: int | float = 0.0, out_indices: Sequence[int] = (0, 1, 2, 3), frozen_stages: int = 0
) -> ConvNeXt:
    """ConvNeXt-S: 50 M parameters, 27 blocks in the third stage. The options are :class:`ConvNeXt`'s."""
    depths = (3, 3, 27, 3)
    return ConvNeXt(depths, drop_path=drop_path, out_indices=out_indices, frozen_stages=frozen_stages)


class _ConvNorm(nn.Sequential):
    """The stem: patches of four by four pixels, then the norm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(MaskedConv2d(channels, width, kernel_size=4, stride=4), MaskedLayerNorm2d(width))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self[1](self[0](x, hidden), hidden)


class _NormConv(nn.Sequential):
    """Between stages: the norm, then halved resolution."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(MaskedLayerNorm2d(channels), MaskedConv2d(channels, width, kernel_size=2, stride=2))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self[1](self[0](x, hidden), hidden)


class _Stage(nn.Module):
    """Blocks at one resolution, after halving it where ``downsample`` is given."""

    def __init__(self, downsample: _NormConv | None, blocks: Sequence[ConvNeXtBlock]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = x if self.downsample is None else self.downsample(x, hidden)
        if hidden is not None:
            hidden = resize_mask(hidden, (x.shape[-2], x.shape[-1]))
        for block in self.blocks:
            x = block(x, hidden)
        return x


def _initialize(module: nn.Module) -> None:
    """The paper's start: weights of standard deviation 0.02, no biases."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
