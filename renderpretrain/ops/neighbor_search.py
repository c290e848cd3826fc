"""Which voxels a 3D kernel connects, by searching for every one of them in plain PyTorch."""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.ops._signatures import Window
from renderpretrain.ops.constant import constant

Triple = tuple[int, int, int]
Volume = tuple[int, int, int, int]
Sizes = Sequence[int]
"""A triple or a volume; a tuple from the user is a list behind PyTorch's dispatcher."""


def strided_shape(spatial_shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Triple:
    """``floor((n + 2 padding - kernel) / stride) + 1`` cells per axis, at least one."""
    z, y, x = (
        (n + 2 * p - k) // s + 1
        for n, k, s, p in zip(spatial_shape, kernel_size, stride, padding, strict=True)
    )
    if min(z, y, x) < 1:
        raise ValueError(
            f"spatial_shape: expected at least one output cell per axis of kernel {kernel_size}, stride "
            f"{stride}, padding {padding}, got {spatial_shape}"
        )
    return z, y, x


def linear_keys(coords: Int[Tensor, "M 4"], shape: Triple) -> Int[Tensor, " M"]:
    """Position of each voxel in a batch of volumes ``(Z, Y, X)`` laid out ``(B, Z, Y, X)``."""
    b, z, y, x = coords.long().unbind(1)
    return ((b * shape[0] + z) * shape[1] + y) * shape[2] + x


def from_linear_keys(keys: Int[Tensor, " M"], shape: Triple) -> Int[Tensor, "M 4"]:
    """Coordinates ``(b, z, y, x)`` of keys; the inverse of :func:`linear_keys`."""
    x, rest = keys % shape[2], keys // shape[2]
    y, rest = rest % shape[1], rest // shape[1]
    return torch.stack([rest // shape[0], rest % shape[0], y, x], dim=1)


def check_inside(coords: Tensor, shape: Sizes) -> None:
    """Raise ``ValueError`` unless all voxels lie in the volume ``(B, Z, Y, X)``; waits for the device."""
    if len(coords) == 0:
        return
    lowest, highest = torch.stack(coords.aminmax(dim=0)).tolist()
    if min(lowest) < 0 or any(last >= size for last, size in zip(highest, shape, strict=True)):
        raise ValueError(f"coords: expected voxels inside {tuple(shape)}, got {lowest} to {highest}")


def submanifold_window(shape: Sizes, kernel_size: Sizes) -> Window:
    """Where a kernel goes whose outputs are its inputs."""
    return Window(*shape, *shape[1:], *kernel_size, 1, 1, 1, *(k // 2 for k in kernel_size))


def strided_window(shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Window:
    """Where a strided kernel goes."""
    out_shape = strided_shape(shape[1:], kernel_size, stride, padding)
    return Window(*shape, *out_shape, *kernel_size, *stride, *padding)


def _cells(kernel_size: Sizes, like: Tensor) -> Tensor:
    """``(z, y, x)`` of every cell."""
    return constant(list(product(*map(range, kernel_size))), like, torch.int64)


def _search(coords: Tensor, out_coords: Tensor, w: Window) -> Tensor:
    """The table of inputs, by binary search among the positions in the padded volume."""
    padded = w.in_z + 2 * w.padding_z, w.in_y + 2 * w.padding_y, w.in_x + 2 * w.padding_x
    coords, out_coords = coords.long(), out_coords.long()
    padding = constant([0, w.padding_z, w.padding_y, w.padding_x], coords)
    stride = constant([1, w.stride_z, w.stride_y, w.stride_x], coords)
    cells = torch.nn.functional.pad(_cells((w.kernel_z, w.kernel_y, w.kernel_x), coords), (1, 0))
    wanted = linear_keys(cells, padded)[:, None] + linear_keys(out_coords * stride, padded)
    if len(coords) == 0:
        return torch.full_like(wanted, -1, dtype=torch.int32)
    ordered, order = linear_keys(coords + padding, padded).sort()
    place = torch.searchsorted(ordered, wanted).clamp(max=len(coords) - 1)
    return torch.where(ordered[place] == wanted, order[place], -1).int()


def search_submanifold(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    """The voxel under each cell of a kernel centred on each voxel, -1 for none, ``(K, M)``."""
    check_inside(coords, shape)
    return _search(coords, coords, submanifold_window(shape, kernel_size))


def search_strided(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs that a strided kernel makes, ``(N, 4)``, and its two tables, ``(K, N)`` and ``(K, M)``."""
    check_inside(coords, shape)
    window = strided_window(shape, kernel_size, stride, padding)
    out_shape = (window.out_z, window.out_y, window.out_x)
    cells = _cells(kernel_size, coords)
    reached = coords[:, None, 1:].long() + constant(padding, cells) - cells
    outputs = reached.div(constant(stride, reached), rounding_mode="floor")
    hit = (outputs * constant(stride, reached) == reached) & (outputs >= 0)
    hit = (hit & (outputs < constant(out_shape, reached))).all(2)
    candidates = torch.cat([coords[:, None, :1].expand_as(outputs[..., :1]), outputs], 2)[hit]
    out_coords = from_linear_keys(linear_keys(candidates, out_shape).unique(sorted=True), out_shape).int()
    inputs = _search(coords, out_coords, window)
    cell, output = (inputs >= 0).nonzero(as_tuple=True)
    converse = inputs.new_full((len(inputs), len(coords)), -1)
    converse[cell, inputs[cell, output].long()] = output.int()
    return out_coords, inputs, converse
