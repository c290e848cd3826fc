"""Which voxels a 3D kernel connects, as tables of rows.

Occupied voxels are rows ``(b, z, y, x)``, none twice, in any order; the ``shape`` around them is ``(B, Z, Y,
X)``. Kernels are ``(z, y, x)``, their ``K`` cells counted with x fastest, as weights are laid out. Output
``j`` reads the input ``j * stride - padding + cell``. Nothing here is the size of the volume: memory grows
with the number of voxels and of the volume's rows along x.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Int, Int32
from torch import Tensor

from renderpretrain.checks import check_integer, check_shape
from renderpretrain.ops._library import register
from renderpretrain.ops._native import INT32_LIMIT, has_native, launch
from renderpretrain.ops._sorted_voxels import (
    before_sorting,
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
    search_submanifold,
    strided_shape,
    strided_window,
    submanifold_window,
)


class StridedNeighbors(NamedTuple):
    """The voxels a strided kernel makes of others, and who reads whom.

    Attributes:
        coords: The outputs whose kernel reaches an occupied input, sorted by position.
        inputs: The input under each cell of each output, -1 for none.
        outputs: The converse, the output that reads an input under each cell.
    """

    coords: Int32[Tensor, "N 4"]
    inputs: Int32[Tensor, "K N"]
    outputs: Int32[Tensor, "K M"]


def submanifold_neighbors(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple
) -> Int32[Tensor, "K M"]:
    """The voxel under each cell of a kernel centred on each voxel: its row, or -1 for none.

    The table is its own converse with the cells mirrored: where ``table[k, n] == i`` there is ``table[K - 1 -
    k, i] == n``. Not differentiable.

    Args:
        coords: Occupied voxels, inside ``shape``.
        shape: ``(B, Z, Y, X)``.
        kernel_size: Odd.

    Raises:
        ValueError: If a size is out of range, the volume has 2^63 voxels or an axis of 2^31, or a voxel is
            outside; to know, this waits for the device, unless the voxels are those of :func:`voxelize` or
            of another table.
    """
    _check_submanifold(coords, shape, kernel_size)
    if not has_native(coords.device.type):
        return submanifold_neighbors_reference(coords, shape, kernel_size)
    return torch.ops.renderpretrain.submanifold_neighbors(coords, shape, kernel_size)


def submanifold_neighbors_reference(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple
) -> Int32[Tensor, "K M"]:
    """:func:`submanifold_neighbors` in plain PyTorch, by searching for every neighbour."""
    return search_submanifold(coords, shape, kernel_size)


def strided_neighbors(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple, stride: Triple, padding: Triple
) -> StridedNeighbors:
    """The voxels a strided kernel makes of others, and who reads whom. Not differentiable.

    Args:
        coords: Occupied voxels, inside ``shape``.
        shape: ``(B, Z, Y, X)``.
        kernel_size: Per axis.
        stride: Per axis.
        padding: Per axis.

    Returns:
        Outputs in the volume of :func:`strided_shape`, and both tables.

    Raises:
        ValueError: As for :func:`submanifold_neighbors`.
    """
    check_strided(coords, shape, kernel_size, stride, padding)
    if not has_native(coords.device.type):
        return strided_neighbors_reference(coords, shape, kernel_size, stride, padding)
    found = torch.ops.renderpretrain.strided_neighbors(coords, shape, kernel_size, stride, padding)
    out_shape = strided_shape(shape[1:], kernel_size, stride, padding)
    remember_voxels(found[0], (shape[0], *out_shape), ordered=True)
    return StridedNeighbors(*found)


def strided_neighbors_reference(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple, stride: Triple, padding: Triple
) -> StridedNeighbors:
    """:func:`strided_neighbors` in plain PyTorch: all outputs each input reaches, then a search."""
    return StridedNeighbors(*search_strided(coords, shape, kernel_size, stride, padding))


def _check(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes = (1, 1, 1), padding: Sizes = (0, 0, 0)
) -> None:
    """Check all arguments but the place of the voxels."""
    check_shape("coords", coords, "M 4")
    check_integer("coords", coords)
    if len(coords) >= INT32_LIMIT:
        raise ValueError(f"coords: expected fewer than 2^31 voxels, got {len(coords)}")
    if len(shape) != 4 or min(shape) < 0:
        raise ValueError(f"shape: expected four sizes (B, Z, Y, X), got {shape}")
    for name, sizes, least in (
        ("kernel_size", kernel_size, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
    ):
        if len(sizes) != 3 or min(sizes) < least:
            raise ValueError(f"{name}: expected three sizes (z, y, x) of at least {least}, got {sizes}")


def _check_volume(shape: Sizes, kernel_size: Sizes, padding: Sizes) -> None:
    """Voxels are counted in 64 bits, kernel and padding around the volume included."""
    sides = [n + 2 * p + k for n, k, p in zip(shape[1:], kernel_size, padding, strict=True)]
    if shape[0] * math.prod(sides) >= 2**63:
        raise ValueError(f"shape: expected fewer than 2^63 voxels with their padding, got {tuple(shape)}")


def _check_submanifold(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> None:
    _check(coords, shape, kernel_size)
    if any(k % 2 == 0 for k in kernel_size):
        raise ValueError(f"kernel_size: expected odd sizes for a submanifold convolution, got {kernel_size}")
    _check_volume(shape, kernel_size, [k // 2 for k in kernel_size])


def check_strided(coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> None:
    """Check all arguments of :func:`strided_neighbors` but the place of the voxels."""
    _check(coords, shape, kernel_size, stride, padding)
    _check_volume(shape, kernel_size, padding)
    out_shape = strided_shape(shape[1:], kernel_size, stride, padding)
    if max(shape[0], *out_shape) >= INT32_LIMIT:
        raise ValueError(f"shape: expected outputs below 2^31 on every axis, got {(shape[0], *out_shape)}")


def _submanifold_neighbors(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    window = submanifold_window(shape, kernel_size)
    if not fits_kernel(shape, kernel_size, (0, 0, 0)):
        return search_submanifold(coords, shape, kernel_size)
    voxels, order = sorted_voxels(coords, window)
    num = len(coords)
    table = coords.new_full((math.prod(kernel_size), num), -1, dtype=torch.int32)
    launch("sparse_pairs", *voxels, *voxels, window, num, num, table, None)
    if order is None:
        return table
    unsorted = torch.empty_like(table)
    unsorted[:, order] = before_sorting(table, order)
    return unsorted


def _strided_neighbors(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    window = strided_window(shape, kernel_size, stride, padding)
    if not fits_kernel(shape, kernel_size, padding):
        return search_strided(coords, shape, kernel_size, stride, padding)
    voxels, order = sorted_voxels(coords, window)
    found = reached_outputs(voxels, window)
    made = listed(found, counted(found))
    return made.coords, *paired(voxels, made, window, order)


def _fake_submanifold(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    return coords.new_empty(math.prod(kernel_size), len(coords), dtype=torch.int32)


def fake_strided(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes of what :func:`strided_neighbors` gives, their number of outputs unknown."""
    num_out, num_cells = torch.library.get_ctx().new_dynamic_size(), math.prod(kernel_size)
    like = coords.new_empty(0, dtype=torch.int32)
    return (
        like.new_empty(num_out, 4),
        like.new_empty(num_cells, num_out),
        like.new_empty(num_cells, coords.shape[0]),
    )


register(
    "submanifold_neighbors(Tensor coords, int[4] shape, int[3] kernel_size) -> Tensor",
    _submanifold_neighbors,
    _fake_submanifold,
    {"coords": "integer M 4"},
    _check_submanifold,
)
register(
    "strided_neighbors(Tensor coords, int[4] shape, int[3] kernel_size, int[3] stride, int[3] padding)"
    " -> (Tensor, Tensor, Tensor)",
    _strided_neighbors,
    fake_strided,
    {"coords": "integer M 4"},
    check_strided,
)
