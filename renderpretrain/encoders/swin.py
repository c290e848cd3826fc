"""Swin transformer with the parameter names of timm.

https://arxiv.org/abs/2103.14030. Keys as in timm since 0.9: ``patch_embed.proj / norm``,
``layers.{i}.downsample.norm / reduction`` (at the start of a layer, from the second on),
``layers.{i}.blocks.{j}.norm1 / attn / norm2 / mlp.fc1 / mlp.fc2``; the output norms are ``norm{i}``. The
authors' own files, and timm's before 0.9, have each ``downsample`` at the end of the layer before. Others
name the same weights otherwise: torchvision (``features``) and mmdetection (``stages``, ``attn.w_msa``); the
latter also orders the four cells that ``reduction`` reads differently.
"""

import math
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
from renderpretrain.encoders.drop_path import drop_path as drop
from renderpretrain.encoders.masked import hide_cells, resize_mask
from renderpretrain.encoders.perceptron import Perceptron
from renderpretrain.encoders.window_attention import WindowAttention

PATCH = 4
"""Side of a patch in pixels."""

HEAD_WIDTH = 32
"""Channels of an attention head, as in all published sizes."""


class SwinTransformer(nn.Module):
    """A pyramid of feature maps at strides 4, 8, 16, 32, each normalised.

    Args:
        depths: Blocks per layer; every second one shifts its windows.
        width: Channels of the first layer; each later one has twice as many, and one attention head per 32.
        window: Side of a window in cells.
        drop_path: Probability of skipping a branch of the last block for a sample while training; blocks
            before it skip proportionally less.
        out_indices: Layers whose maps are returned.
        mask_token: Learn an embedding that stands for hidden patches, as SimMIM does
            (https://arxiv.org/abs/2111.09886); key ``mask_token``.

    Differs from timm's classifier in: any size that patches tile; an output norm per returned layer, as
    detection code has it, and no head.
    """

    role: ClassVar[Role] = Role("image_backbone", "images")

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 6, 2),
        width: int = 96,
        *,
        window: int = 7,
        drop_path: int | float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        mask_token: bool = False,
    ) -> None:
        super().__init__()
        if not set(out_indices) <= set(range(len(depths))):
            raise ValueError(f"out_indices: expected layers below {len(depths)}, got {tuple(out_indices)}")
        rates = (drop_path * i / max(sum(depths) - 1, 1) for i in range(sum(depths)))
        widths = [width * 2**i for i in range(len(depths))]
        self.out_indices = tuple(out_indices)
        self.channels = self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.level_channels = tuple(widths)
        self.level_strides = tuple(PATCH * 2**i for i in range(len(widths)))
        self.strides = tuple(self.level_strides[i] for i in self.out_indices)
        self.patch_embed = _PatchEmbed(width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width)) if mask_token else None
        self.layers = nn.ModuleList()
        for i, depth in enumerate(depths):
            blocks = [
                SwinBlock(widths[i], window=window, shifted=j % 2 == 1, drop_path=next(rates))
                for j in range(depth)
            ]
            self.layers.append(_Layer(_PatchMerging(widths[i - 1]) if i else None, blocks))
        for i in self.out_indices:
            self.add_module(f"norm{i}", nn.LayerNorm(widths[i]))
        self.apply(_initialize)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """Feature maps, fine to coarse.

        Args:
            images: Normalised images. Differentiable.
            hidden: Cells the network must not see; needs ``mask_token``, which stands for every patch whose
                centre lies in one. Images hidden beforehand, in pixels, go without.
        """
        maps = self._layers(images, hidden, max(self.out_indices) + 1)
        return [x for i, x in enumerate(maps) if i in self.out_indices]

    def levels(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The maps of all layers, fine to coarse; a call gives those of ``out_indices``.

        These are normalised; layers that a call does not give have no output norm.
        """
        return self._layers(images, hidden, len(self.layers))

    def _layers(self, images: Tensor, hidden: Tensor | None, count: int) -> list[Tensor]:
        """The maps of the first ``count`` layers."""
        check_images(images, "B 3 H W")
        height, width = images.shape[-2:]
        if height % PATCH or width % PATCH:
            raise ValueError(
                f"images: expected height and width divisible by the patch of {PATCH} pixels, got "
                f"({height}, {width})"
            )
        if hidden is not None and self.mask_token is None:
            raise ValueError("hidden: expected None of a network without mask_token, got a mask")
        x = self.patch_embed(hide_cells(images, hidden))
        if hidden is not None and self.mask_token is not None:
            patches = resize_mask(hidden, (x.shape[1], x.shape[2])).permute(0, 2, 3, 1)
            x = torch.where(patches, self.mask_token.to(x.dtype), x)
        maps = []
        for i in range(count):
            x = self.layers[i](x)
            y = self.get_submodule(f"norm{i}")(x) if i in self.out_indices else x
            maps.append(y.permute(0, 3, 1, 2))
        return maps

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """All arguments; the window by the number of places that two cells in it can have."""
        layers = count_numbers(state, r"layers\.(\d+)\.")
        rows = side_of(state, "layers.0.blocks.0.attn.relative_position_bias_table", 0)
        return {
            "depths": [count_numbers(state, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(layers)],
            "width": side_of(state, "patch_embed.proj.weight", 0),
            "window": (math.isqrt(rows) + 1) // 2,
            "out_indices": normed_stages(state, layers),
            "mask_token": "mask_token" in state,
        }

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""
        return self.sizes_of(self.state_dict())


class SwinBlock(nn.Module):
    """Attention inside windows, then a perceptron per cell, each normalised first and added to its input.

    Args:
        width: Channels.
        window: See :class:`WindowAttention`.
        shifted: See :class:`WindowAttention`.
        drop_path: Probability of skipping a branch for a sample while training.
    """

    def __init__(self, width: int, *, window: int, shifted: bool, drop_path: int | float) -> None:
        super().__init__()
        heads = max(1, width // HEAD_WIDTH)
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window=window, shifted=shifted)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Perceptron(width)
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B h w C"]) -> Float[Tensor, "B h w C"]:
        """Add the attention and then the perceptron to the cells. Differentiable."""
        rate = self.drop_path if self.training else 0.0
        x = x + drop(self.attn(self.norm1(x)), rate)
        return x + drop(self.mlp(self.norm2(x)), rate)


def swin_tiny(
    *, drop_path: int | float = 0.0, out_indices: Sequence[int] = (0, 1, 2, 3), mask_token: bool = False
) -> SwinTransformer:
    """Swin-T, window 7: 28 M parameters. The options are :class:`SwinTransformer`'s."""
    return SwinTransformer(drop_path=drop_path, out_indices=out_indices, mask_token=mask_token)


def swin_small(
    *, drop_path: int | float = 0.0, out_indices: Sequence[int] = (0, 1, 2, 3), mask_token: bool = False
) -> SwinTransformer:
    """Swin-S, window 7: 50 M parameters, 18 blocks in the third layer, options as :func:`swin_tiny`."""
    depths = (2, 2, 18, 2)
    return SwinTransformer(depths, drop_path=drop_path, out_indices=out_indices, mask_token=mask_token)


class _PatchEmbed(nn.Module):
    """Patches of four by four pixels, then the norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class _PatchMerging(nn.Module):
    """Halved resolution: two by two cells side by side in the channels, normalised, mixed to twice the width.

    Odd sides are filled up with zeros.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # Of the four cells the upper left comes first, then the one below it.
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=-1)
        return self.reduction(self.norm(x))


class _Layer(nn.Module):
    """Blocks at one resolution, after halving it where ``downsample`` is given."""

    def __init__(self, downsample: _PatchMerging | None, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.downsample is None else self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


def _initialize(module: nn.Module) -> None:
    """The paper's start: weights of standard deviation 0.02, no biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
