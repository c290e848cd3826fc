"""Sparse networks with dense convolutions, and random voxels for them and for our encoders.

A volume and the cells that exist stand for the sparse tensor. A submanifold convolution keeps the cells, a
strided one makes those its kernel reaches. Axes are the host's own, first to last; nothing of our encoders,
key tables or layout conversions is used in a network, so that a mistake in those shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from renderpretrain.encoders import SparseEncoder, SparseTensor
from renderpretrain.encoders.sparse_blocks import strided_specs
from renderpretrain.encoders.strides import covering_shape

EPS = 1e-3
"""``eps`` of every batch norm in these networks."""

VOXELS = (24, 40, 32)
"""``(Z, Y, X)`` of the random voxels: all sides differ, and eight divides them."""


@dataclass(frozen=True)
class Cells:
    """A volume of which some cells exist.

    Attributes:
        values: ``(1, C, ...)``, zero where no cell exists.
        exist: ``(1, 1, ...)``, 1 or 0.
    """

    values: Tensor
    exist: Tensor


@dataclass(frozen=True)
class Network:
    """A host's weights, and how it reads them.

    Attributes:
        state: By its keys.
        kernels: ``"KRSC"`` or ``"RSCK"``.
    """

    state: Mapping[str, Tensor]
    kernels: str

    def kernel(self, name: str) -> Tensor:
        """A kernel as dense convolutions want it: ``(out, in, ...)``."""
        weight = self.state[f"{name}.weight"]
        if self.kernels == "RSCK":
            return weight.permute(4, 3, 0, 1, 2)
        out, first, second, third, channels = weight.shape
        if first * second * third == 1:
            return weight.reshape(channels, out).T[..., None, None, None]
        return weight.permute(0, 4, 1, 2, 3)

    def same_cells(self, x: Cells, name: str) -> Cells:
        """Submanifold convolution, with its bias where there is one."""
        kernel = self.kernel(name)
        padding = [k // 2 for k in kernel.shape[2:]]
        bias = self.state.get(f"{name}.bias")
        return Cells(nn.functional.conv3d(x.values, kernel, bias, padding=padding) * x.exist, x.exist)

    def new_cells(self, x: Cells, name: str, stride: Sequence[int], padding: Sequence[int]) -> Cells:
        """A strided convolution, which makes new cells."""
        kernel = self.kernel(name)
        stride, padding = tuple(stride), tuple(padding)
        reached = nn.functional.conv3d(
            x.exist, torch.ones(1, 1, *kernel.shape[2:]), stride=stride, padding=padding
        )
        exist = (reached > 0).to(x.exist.dtype)
        values = nn.functional.conv3d(x.values, kernel, stride=stride, padding=padding)
        return Cells(values * exist, exist)

    def old_cells(self, x: Cells, name: str, finer: Cells) -> Cells:
        """The inverse of a 2x2x2 convolution of stride two, on the cells that one started from."""
        values = nn.functional.conv_transpose3d(x.values, self.kernel(name).transpose(0, 1), stride=2)
        return Cells(values * finer.exist, finer.exist)

    def norm(self, x: Cells, name: str, *, relu: bool = True) -> Cells:
        """Batch normalisation in evaluation, and ReLU."""
        mean, var, weight, bias = (
            self.state[f"{name}.{side}"] for side in ("running_mean", "running_var", "weight", "bias")
        )
        values = nn.functional.batch_norm(x.values, mean, var, weight, bias, eps=EPS) * x.exist
        return Cells(values.relu() if relu else values, x.exist)

    def block(self, x: Cells, name: str, skip: Cells | None = None) -> Cells:
        """Two submanifold convolutions around a skip."""
        y = self.norm(self.same_cells(x, f"{name}.conv1"), f"{name}.bn1")
        y = self.norm(self.same_cells(y, f"{name}.conv2"), f"{name}.bn2", relu=False)
        return Cells((y.values + (skip or x).values).relu(), x.exist)


def random_voxels(channels: int, shape: tuple[int, int, int], generator: torch.Generator) -> SparseTensor:
    """A tenth of the cells, in clumps, as surfaces are."""
    coarse = torch.rand(1, 1, *(n // 2 for n in shape), generator=generator)
    clumps = nn.functional.interpolate(coarse, size=shape)[0, 0] < 0.3
    coords = (clumps & (torch.rand(shape, generator=generator) < 0.4)).nonzero()
    coords = torch.cat([torch.zeros(len(coords), 1, dtype=torch.long), coords], 1)
    features = torch.randn(len(coords), channels, generator=generator)
    return SparseTensor(features, coords, shape, 1)


def as_cells(x: SparseTensor, shape: tuple[int, int, int], axes: str) -> Cells:
    """The voxels as a dense volume of a host, enlarged at the upper ends."""
    exist = SparseTensor(torch.ones(len(x.coords), 1), x.coords, shape, 1).dense()
    values = SparseTensor(x.features, x.coords, shape, 1).dense()
    return Cells(in_axes(values, axes).contiguous(), in_axes(exist, axes).contiguous())


def in_axes(volume: Tensor, axes: str) -> Tensor:
    """``(B, C, Z, Y, X)`` in another order of axes, or back."""
    return volume if axes == "zyx" else volume.permute(0, 1, 4, 3, 2)


def last_volume(module: SparseEncoder, x: SparseTensor, *, whole: bool) -> Tensor:
    """What our encoder gives; the last stage's volume where the host has another last convolution."""
    if whole:
        return module(x)
    shape = covering_shape(x.spatial_shape, strided_specs(module.encoder_layers))
    enlarged = SparseTensor(x.features, x.coords, shape, 1)
    return module.encoder_layers(module.conv_input(enlarged)).dense()


def has_last(state: Mapping[str, Tensor]) -> bool:
    """Whether a host's file has the last convolution."""
    return any(key.startswith("conv_out.") for key in state)
