"""Sparse U-Net: a feature for every occupied voxel, from its neighbourhood at five resolutions."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from renderpretrain.encoders.described import (
    ROOM_COLUMNS,
    SWEEP_COLUMNS,
    Role,
    Sizes,
    State,
    count_numbers,
    side_of,
)
from renderpretrain.encoders.prompt_norm import Domains, PromptNorm
from renderpretrain.encoders.sparse_backend import Backend
from renderpretrain.encoders.sparse_blocks import RowBatchNorm, strided_specs, with_strided_layers
from renderpretrain.encoders.sparse_conv import SparseConv3d, SparseInverseConv3d, SubMConv3d
from renderpretrain.encoders.sparse_tensor import SparseTensor, check_sparse
from renderpretrain.encoders.strides import covering_shape, output_grid, strides_of
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.known_voxels import known_order, remember_voxels
from renderpretrain.ops.neighbor_search import Triple
from renderpretrain.ops.uncompiled import uncompiled

MakeNorm = Callable[[int], nn.Module]


class SparseUNet(nn.Module):
    """PonderV2's indoor and outdoor backbone, SpUNet of Pointcept (https://arxiv.org/abs/2310.08586).

    A 5x5x5 stem; going down, 2x2x2 convolutions of stride two, each with its residual blocks; going up, their
    inverses, the map of the way down appended, and residual blocks. Keys ``conv_input``, ``down.{s}``,
    ``enc.{s}.block{i}``, ``up.{s}``, ``dec.{s}.block{i}``, stage 0 the finest, both ways: with ``prompt``
    those of SpUNet-v1m3, otherwise of SpUNet-v1m1.

    Weights are Pointcept's as they are: ``(out, kx, ky, kz, in)``, x first, unlike all other sparse layers
    here. Voxels still come and go as ``(b, z, y, x)``; the network exchanges the axes inside.

    Args:
        in_channels: Channels of the voxels.
        channels: Width of every stage, first down, then up, coarse to fine; the last one is the output's.
        depths: Residual blocks of every stage, in the same order.
        stem_channels: Width of the stem.
        prompt: Number of data sets and width of their embeddings, for a :class:`PromptNorm` in place of every
            batch normalisation.
        backend: See :class:`SubMConv3d`.

    Differs from Pointcept in: no classifier (its ``final``); the volume is enlarged by as many cells as the
    strides need, not by 96.
    """

    role: ClassVar[Role] = Role(
        "point_encoder",
        "points",
        columns=(*SWEEP_COLUMNS, ROOM_COLUMNS),
        input_kernels=("conv_input.0.weight", "conv_input.conv.weight"),
        kernel_axes="xyz",
        norm_eps=1e-3,
    )

    def __init__(
        self,
        in_channels: int,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 256, 128, 96, 96),
        depths: Sequence[int] = (2, 3, 4, 6, 2, 2, 2, 2),
        stem_channels: int = 32,
        prompt: tuple[int, int] | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if len(channels) != len(depths) or len(channels) % 2:
            raise ValueError(
                f"channels, depths: expected one of each per stage, as many down as up, got "
                f"{len(channels)} and {len(depths)}"
            )
        stages = len(channels) // 2
        build = _Builder(prompt, backend)
        self.out_channels = channels[-1]
        self.level_channels = tuple(channels[stages - 1 :][::-1])
        self.prompted = prompt is not None
        stem = SubMConv3d(in_channels, stem_channels, 5, bias=False, indice_key="stem", backend=backend)
        self.conv_input = build.layer(stem, stem_channels)
        down = (stem_channels, *channels[:stages])
        up = (*channels[stages:][::-1], channels[stages - 1])
        self.down = nn.ModuleList(build.down(down[s], down[s + 1], s) for s in range(stages))
        self.enc = nn.ModuleList(
            build.stage(down[s + 1], down[s + 1], s + 1, depths[s]) for s in range(stages)
        )
        self.up = nn.ModuleList(build.up(up[s + 1], up[s], s) for s in range(stages))
        self.dec = nn.ModuleList(
            build.stage(up[s] + down[s], up[s], s, depths[-1 - s]) for s in range(stages)
        )
        self.apply(_initialize)

    @uncompiled
    def forward(self, x: SparseTensor, domains: Domains | None = None) -> SparseTensor:
        """Features on the same voxels, in the same order. Differentiable.

        Args:
            x: The visible voxels; none at all is fine.
            domains: Data set of each sample; needed with ``prompt`` and only then.
        """
        *_, finest = self._decoded(x, domains)  # looks at x first
        return x.with_features(finest.features)

    @uncompiled
    def levels(self, x: SparseTensor, domains: Domains | None = None) -> list[SparseTensor]:
        """Features of all resolutions on the way up, fine to coarse: strides 1, 2, 4, ...

        The first one is what a call gives, the last one the coarsest of the way down.
        """
        *coarser, finest = self._decoded(x, domains)
        turned = (
            SparseTensor(
                y.features,
                torch.cat([y.coords[:, :1], y.coords[:, 1:].flip(1)], 1),
                (y.spatial_shape[2], y.spatial_shape[1], y.spatial_shape[0]),
                y.batch_size,
            )
            for y in reversed(coarser)
        )
        return [x.with_features(finest.features), *turned]

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the voxels' grid."""
        specs = strided_specs(self)
        shape = covering_shape(grid.shape, specs)
        return [grid, *(output_grid(grid, specs[: i + 1], shape) for i in range(len(specs)))]

    def _decoded(self, x: SparseTensor, domains: Domains | None) -> list[SparseTensor]:
        """Features of all resolutions on the way up, coarse to fine; axes are ``(x, y, z)`` here."""
        check_sparse(x)
        if (domains is not None) != self.prompted:
            expected = "the data set of each sample" if self.prompted else "None without prompt"
            raise ValueError(f"domains: expected {expected}, got {domains}")
        if domains is not None and len(domains.indices) != x.batch_size:
            raise ValueError(f"domains: expected {x.batch_size} samples, got {len(domains.indices)}")
        z, y, w = covering_shape(x.spatial_shape[::-1], strided_specs(self))
        coords = torch.cat([x.coords[:, :1], x.coords[:, 1:].flip(1)], 1)
        if known_order(x.coords, (x.batch_size, *x.spatial_shape)) is not None:
            remember_voxels(coords, (x.batch_size, *x.spatial_shape[::-1]), ordered=False)
        finest = SparseTensor(x.features, coords, (z, y, w), x.batch_size)
        maps = [self.conv_input(with_strided_layers(finest, self), domains)]
        for down, blocks in zip(self.down, self.enc, strict=True):
            maps.append(blocks(down(maps[-1], domains), domains))
        levels = [maps.pop()]
        for up, blocks in zip(reversed(self.up), reversed(self.dec), strict=True):
            out = up(levels[-1], domains)
            both = torch.cat([out.features, maps.pop().features], dim=1)
            levels.append(blocks(out.with_features(both), domains))
        return levels

    @property
    def level_strides(self) -> tuple[Triple, ...]:
        """Voxels per cell of every level, ``(z, y, x)``."""
        return strides_of(self.level_grids)

    @property
    def strides(self) -> Triple:
        """Voxels per cell of what a call gives, the voxels themselves, ``(z, y, x)``."""
        return self.level_strides[0]

    @classmethod
    def sizes_of(cls, state: State) -> Sizes:
        """Widths, depths and data sets, which weights tell all."""
        prompted = "conv_input.conv.weight" in state
        conv, stages = ("conv" if prompted else "0"), count_numbers(state, r"down\.(\d+)\.")
        down = [side_of(state, f"down.{s}.{conv}.weight", 0) for s in range(stages)]
        up = [side_of(state, f"up.{s}.{conv}.weight", 0) for s in reversed(range(stages))]
        depths = [count_numbers(state, rf"enc\.{s}\.block(\d+)\.") for s in range(stages)]
        depths += [count_numbers(state, rf"dec\.{s}\.block(\d+)\.") for s in reversed(range(stages))]
        sizes: Sizes = {
            "in_channels": side_of(state, f"conv_input.{conv}.weight", 4),
            "channels": down + up,
            "depths": depths,
            "stem_channels": side_of(state, f"conv_input.{conv}.weight", 0),
        }
        if prompted:
            domains = count_numbers(state, r"conv_input\.bn\.bns\.(\d+)\.")
            sizes["prompt"] = [domains, side_of(state, "conv_input.bn.modulation.1.weight", 1)]
        return sizes

    @property
    def sizes(self) -> Sizes:
        """All arguments but those that only training needs."""
        return self.sizes_of(self.state_dict())


class _Builder:
    """Makes the parts of one network, which share the kind of norm, the names it brings and the backend."""

    def __init__(self, prompt: tuple[int, int] | None, backend: Backend) -> None:
        self.backend: Backend = backend
        self.prompted = prompt is not None
        self.norm: MakeNorm = RowBatchNorm
        if prompt is not None:
            self.norm = partial(PromptNorm, num_domains=prompt[0], context_channels=prompt[1])

    def layer(self, conv: nn.Module, channels: int) -> "_Layer":
        names = ("conv", "bn") if self.prompted else ("0", "1")
        return _Layer(conv, self.norm(channels), names)

    def down(self, in_channels: int, out_channels: int, stage: int) -> "_Layer":
        key, geometry = f"spconv{stage + 1}", (2, 2, 0)
        conv = SparseConv3d(
            in_channels, out_channels, geometry, bias=False, indice_key=key, backend=self.backend
        )
        return self.layer(conv, out_channels)

    def up(self, in_channels: int, out_channels: int, stage: int) -> "_Layer":
        conv = SparseInverseConv3d(in_channels, out_channels, 2, indice_key=f"spconv{stage + 1}", bias=False)
        return self.layer(conv, out_channels)

    def stage(self, in_channels: int, out_channels: int, stage: int, depth: int) -> "_Blocks":
        widths = [in_channels, *(out_channels for _ in range(depth))]
        return _Blocks(_Block(widths[i], out_channels, f"subm{stage}", self) for i in range(depth))


class _Layer(nn.Module):
    """A convolution, normalised and rectified, under the two names given."""

    def __init__(self, conv: nn.Module, norm: nn.Module, names: tuple[str, str]) -> None:
        super().__init__()
        self.names = names
        for name, module in zip(names, (conv, norm), strict=True):
            self.add_module(name, module)

    def forward(self, x: SparseTensor, domains: Domains | None) -> SparseTensor:
        conv, norm = (self.get_submodule(name) for name in self.names)
        y = _normalize(norm, conv(x), domains)
        return y.with_features(y.features.relu())


class _Block(nn.Module):
    """Two submanifold convolutions around a skip, projected where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, key: str, build: _Builder) -> None:
        super().__init__()
        self.projection: tuple[str, ...] = ()
        if in_channels != out_channels:
            conv = SubMConv3d(in_channels, out_channels, 1, bias=False, backend=build.backend)
            if build.prompted:
                self.projection = ("proj_conv", "proj_norm")
                self.proj_conv, self.proj_norm = conv, build.norm(out_channels)
            else:
                self.projection = ("proj.0", "proj.1")
                self.proj = nn.Sequential(conv, build.norm(out_channels))
        self.conv1 = SubMConv3d(
            in_channels, out_channels, 3, bias=False, indice_key=key, backend=build.backend
        )
        self.bn1 = build.norm(out_channels)
        self.conv2 = SubMConv3d(
            out_channels, out_channels, 3, bias=False, indice_key=key, backend=build.backend
        )
        self.bn2 = build.norm(out_channels)

    def forward(self, x: SparseTensor, domains: Domains | None) -> SparseTensor:
        y = _normalize(self.bn1, self.conv1(x), domains)
        y = _normalize(self.bn2, self.conv2(y.with_features(y.features.relu())), domains)
        if self.projection:
            conv, norm = (self.get_submodule(name) for name in self.projection)
            x = _normalize(norm, conv(x), domains)
        return y.with_features((y.features + x.features).relu())


class _Blocks(nn.Module):
    """Residual blocks of one stage, under the names ``block{i}``."""

    def __init__(self, blocks: Iterable[_Block]) -> None:
        super().__init__()
        for i, block in enumerate(blocks):
            self.add_module(f"block{i}", block)

    def forward(self, x: SparseTensor, domains: Domains | None) -> SparseTensor:
        for block in self.children():
            x = block(x, domains)
        return x


def _normalize(norm: nn.Module, x: SparseTensor, domains: Domains | None) -> SparseTensor:
    """The norm on the rows of a sparse tensor."""
    if domains is None:
        return x.with_features(norm(x.features))
    return x.with_features(norm(x.features, x.coords[:, 0].long(), domains))


def _initialize(module: nn.Module) -> None:
    """Pointcept's start: submanifold weights and modulations of standard deviation 0.02."""
    if isinstance(module, (SubMConv3d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
