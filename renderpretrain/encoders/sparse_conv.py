"""3D sparse convolutions with the parameters of spconv 2, run by spconv or by our own operators."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from renderpretrain.encoders.rulebook import ConvSpec
from renderpretrain.encoders.sparse_backend import Backend, run_conv
from renderpretrain.encoders.sparse_tensor import SparseTensor, check_sparse
from renderpretrain.ops.uncompiled import uncompiled

Size = int | Sequence[int]


class SubMConv3d(nn.Module):
    """Submanifold convolution (https://arxiv.org/abs/1706.01307): the output exists where the input does.

    ``weight`` has shape ``(out, kz, ky, kx, in)``. A 1x1x1 kernel is stored, under that shape, in the memory
    order ``(in, out)``: spconv 2 does so, and weights drop in unchanged.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Odd, one number or ``(z, y, x)``.
        bias: Add a learned constant.
        indice_key: Layers on the same voxels with the same key and kernel share the search for neighbours.
        backend: ``"auto"``, ``"spconv"`` or ``"builtin"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = 3,
        *,
        bias: bool = True,
        indice_key: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        self.spec = ConvSpec("submanifold", _triple(kernel_size), indice_key=indice_key)
        self.weight, self.bias = _parameters(in_channels, out_channels, self.spec, bias)
        self.backend = backend

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the same voxels, in the same order."""
        return _run(self, x)


class SparseConv3d(nn.Module):
    """Strided convolution: the output exists wherever the kernel reaches an existing input.

    Per axis ``floor((n + 2 padding - kernel) / stride) + 1`` cells; see :mod:`strides` for where they lie in
    the world. The bias is part of existing outputs only. ``weight`` as in :class:`SubMConv3d`.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        geometry: Kernel size, stride and padding, each one number or ``(z, y, x)``.
        bias: Add a learned constant.
        indice_key: Name by which :class:`SparseInverseConv3d` finds the way back.
        backend: ``"auto"``, ``"spconv"`` or ``"builtin"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        geometry: tuple[Size, Size, Size] = (3, 1, 0),
        *,
        bias: bool = True,
        indice_key: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        kernel, stride, padding = (_triple(size) for size in geometry)
        self.spec = ConvSpec("strided", kernel, stride, padding, indice_key)
        if self.spec.pointwise and padding != (0, 0, 0):
            raise ValueError(f"geometry: expected no padding for a 1x1x1 kernel of stride 1, got {padding}")
        self.weight, self.bias = _parameters(in_channels, out_channels, self.spec, bias)
        self.backend = backend

    @uncompiled
    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the reached voxels; their order depends on the backend."""
        return _run(self, x)


class SparseInverseConv3d(nn.Module):
    """The way back of a strided convolution: output exists on the voxels that one started from.

    Kernel cell ``k`` connects the same pairs as in the strided convolution (a transposed convolution
    restricted to the known voxels). ``weight`` as in :class:`SubMConv3d`; it runs on the backend that the
    strided convolution ran on.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: The strided convolution's; more than one cell.
        indice_key: The strided convolution's.
        bias: Add a learned constant.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, *, indice_key: str, bias: bool = True
    ) -> None:
        super().__init__()
        self.spec = ConvSpec("inverse", _triple(kernel_size), indice_key=indice_key)
        if self.spec.kernel_size == (1, 1, 1):
            # spconv takes such a layer for a pointwise one and stays on the coarse voxels.
            raise ValueError("kernel_size: expected more than one cell, got (1, 1, 1)")
        self.weight, self.bias = _parameters(in_channels, out_channels, self.spec, bias)
        self.backend: Backend = "auto"

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features on the voxels before the strided convolution, in their order."""
        return _run(self, x)


def _run(layer: SubMConv3d | SparseConv3d | SparseInverseConv3d, x: SparseTensor) -> SparseTensor:
    """Convolve and add the bias, which spconv itself cannot do on a CPU in evaluation."""
    check_sparse(x)
    channels = layer.weight.shape[-1]
    if x.features.shape[1] != channels:
        raise ValueError(f"x: expected {channels} channels, got {x.features.shape[1]}")
    out = run_conv(x, layer.weight, layer.spec, layer.backend)
    return out if layer.bias is None else out.with_features(out.features + layer.bias)


def _parameters(
    in_channels: int, out_channels: int, spec: ConvSpec, bias: bool
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weights as spconv starts them: uniform within ``1 / sqrt(fan in)``, the bias too."""
    bound = 1 / math.sqrt(in_channels * math.prod(spec.kernel_size))
    weight = torch.empty(out_channels, *spec.kernel_size, in_channels).uniform_(-bound, bound)
    if not bias:
        return nn.Parameter(weight), None
    return nn.Parameter(weight), nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))


def _triple(size: Size) -> tuple[int, int, int]:
    """``(z, y, x)`` from one number or three."""
    if isinstance(size, int):
        return size, size, size
    z, y, x = size
    return z, y, x
