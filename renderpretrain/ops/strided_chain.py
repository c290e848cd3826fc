"""Which voxels strided kernels connect that read each other's outputs, found together."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.ops._library import register
from renderpretrain.ops._native import has_native
from renderpretrain.ops._signatures import Window
from renderpretrain.ops._sorted_voxels import (
    SortedVoxels,
    counted,
    fits_kernel,
    listed,
    paired,
    reached_outputs,
    sorted_voxels,
)
from renderpretrain.ops.known_voxels import remember_voxels
from renderpretrain.ops.neighbor_search import (
    Sizes,
    Triple,
    Volume,
    search_strided,
    strided_shape,
    strided_window,
)
from renderpretrain.ops.sparse_neighbors import StridedNeighbors, check_strided, fake_strided

MOST_UNCOUNTED = 1 << 24
"""Voxels that there is memory for, 400 MB of it for a moment, before anyone knows how many there are."""

Conv = tuple[Triple, Triple, Triple]
"""Kernel size, stride and padding, ``(z, y, x)`` each."""


def strided_chain(coords: Int[Tensor, "M 4"], shape: Volume, convs: Sequence[Conv]) -> list[StridedNeighbors]:
    """:func:`strided_neighbors` of convolutions, each of which reads the outputs of the one before.

    On CUDA this waits once, for the numbers of outputs of all of them: until then there is memory for as many
    as there could be, unless that is more than ``MOST_UNCOUNTED``. Not differentiable.

    Args:
        coords: Occupied voxels, inside ``shape``.
        shape: ``(B, Z, Y, X)``.
        convs: At least one.

    Raises:
        ValueError: As for :func:`submanifold_neighbors`.
    """
    flat = [size for conv in convs for sizes in conv for size in sizes]
    _check_chain(coords, shape, flat)
    if not has_native(coords.device.type):
        return strided_chain_reference(coords, shape, convs)
    tables = torch.ops.renderpretrain.strided_chain(coords, shape, flat)
    found = [StridedNeighbors(*tables[place : place + 3]) for place in range(0, len(tables), 3)]
    for made, (volume, *conv) in zip(found, _chained(shape, flat), strict=True):
        remember_voxels(made.coords, (shape[0], *strided_shape(volume[1:], *conv)), ordered=True)
    return found


def strided_chain_reference(
    coords: Int[Tensor, "M 4"], shape: Volume, convs: Sequence[Conv]
) -> list[StridedNeighbors]:
    """:func:`strided_chain` in plain PyTorch, one convolution after the other."""
    return [StridedNeighbors(*three) for three in _searched(coords, shape, convs)]


def _searched(coords: Tensor, shape: Sizes, convs: Sequence[Conv]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for kernel_size, stride, padding in convs:
        found = search_strided(coords, shape, kernel_size, stride, padding)
        yield found
        coords, shape = found[0], (shape[0], *strided_shape(shape[1:], kernel_size, stride, padding))


def _chained(shape: Sizes, convs: Sizes) -> Iterator[tuple[Sizes, Sizes, Sizes, Sizes]]:
    """The volume that each convolution reads, its kernel size, stride and padding."""
    for place in range(0, len(convs), 9):
        kernel_size, stride, padding = (convs[place + k : place + k + 3] for k in (0, 3, 6))
        yield shape, kernel_size, stride, padding
        shape = (shape[0], *strided_shape(shape[1:], kernel_size, stride, padding))


def _check_chain(coords: Tensor, shape: Sizes, convs: Sizes) -> None:
    if not convs or len(convs) % 9:
        raise ValueError(f"convs: expected nine sizes for each of one convolution or more, got {convs}")
    for geometry in _chained(shape, convs):
        check_strided(coords, *geometry)


def _strided_chain(coords: Tensor, shape: Sizes, convs: Sizes) -> list[Tensor]:
    geometries = list(_chained(shape, convs))
    if not all(fits_kernel(volume, kernel, padding) for volume, kernel, _, padding in geometries):
        found = list[Tensor]()
        for geometry in geometries:
            found += search_strided(found[-3] if found else coords, *geometry)
        return found
    windows = [strided_window(*geometry) for geometry in geometries]
    voxels, order = sorted_voxels(coords, windows[0])
    levels = _all_outputs(voxels, windows)
    tables = list[Tensor]()
    for window, made in zip(windows, levels, strict=True):
        tables += [made.coords, *paired(voxels, made, window, order)]
        voxels, order = made, None
    return tables


def _all_outputs(voxels: SortedVoxels, windows: Sequence[Window]) -> list[SortedVoxels]:
    """The outputs of every kernel, all counted before one number is read."""
    levels, room = [voxels], len(voxels.coords)
    for window in windows:
        found = reached_outputs(levels[-1], window)
        room = min(room * _most_readers(window), window.batch * window.out_z * window.out_y * window.out_x)
        if room > MOST_UNCOUNTED:
            room = counted(found)
        levels.append(listed(found, room))
    numbers = torch.stack([made.rows[-1] for made in levels[1:]]).tolist()
    # Memory beyond the numbers goes back.
    return [
        SortedVoxels(made.coords[:number].clone(), made.rows)
        for made, number in zip(levels[1:], numbers, strict=True)
    ]


def _most_readers(window: Window) -> int:
    """How many outputs read a voxel, at most."""
    kernel = window.kernel_z, window.kernel_y, window.kernel_x
    stride = window.stride_z, window.stride_y, window.stride_x
    return math.prod(-(-k // s) for k, s in zip(kernel, stride, strict=True))


def _fake(coords: Tensor, shape: Sizes, convs: Sizes) -> list[Tensor]:
    tables = list[Tensor]()
    for geometry in _chained(shape, convs):
        tables += fake_strided(tables[-3] if tables else coords, *geometry)
    return tables


register(
    "strided_chain(Tensor coords, int[4] shape, int[] convs) -> Tensor[]",
    _strided_chain,
    _fake,
    {"coords": "integer M 4"},
    _check_chain,
)
