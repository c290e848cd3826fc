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
from renderpretrain.ops._signatures import Window
from renderpretrain.ops.known_voxels import known_order, remember_voxels
from renderpretrain.ops.neighbor_search import (
    Sizes,
    Triple,
    Volume,
    check_inside,
    linear_keys,
    search_strided,
    search_submanifold,
    strided_shape,
    strided_window,
    submanifold_window,
)

MAX_KERNEL_ROWS, MOST_ROWS = 64, 1 << 26
"""``RP_MAX_KERNEL_ROWS``, and rows of a volume along x: what is larger is searched by the references."""


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
    _check_strided(coords, shape, kernel_size, stride, padding)
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


def _check_strided(coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> None:
    _check(coords, shape, kernel_size, stride, padding)
    _check_volume(shape, kernel_size, padding)
    out_shape = strided_shape(shape[1:], kernel_size, stride, padding)
    if max(shape[0], *out_shape) >= INT32_LIMIT:
        raise ValueError(f"shape: expected outputs below 2^31 on every axis, got {(shape[0], *out_shape)}")


def _fits_kernel(shape: Sizes, kernel_size: Sizes, padding: Sizes) -> bool:
    """Whether numbers of 32 bits hold a voxel, and memory an entry for every row of the volume."""
    b, z, y, x = shape
    rows = b * (z + 2 * padding[0]) * (y + 2 * padding[1])
    reach = x + 2 * padding[2] + 2 * kernel_size[2]
    return rows <= MOST_ROWS and reach < INT32_LIMIT and kernel_size[0] * kernel_size[1] <= MAX_KERNEL_ROWS


def _sorted(coords: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor | None]:
    """The voxels by position, where the volume's rows begin among them, and the order if it was another."""
    shape = (window.batch, window.in_z, window.in_y, window.in_x)
    keys, ordered = linear_keys(coords, shape[1:]), known_order(coords, shape)
    if ordered is None:
        ordered = _looked_at(coords, keys, shape)
    if ordered:
        return coords.int().contiguous(), _rows_of(keys, window), None
    keys, order = keys.sort()
    return coords[order].int().contiguous(), _rows_of(keys, window), order


def _looked_at(coords: Tensor, keys: Tensor, shape: Volume) -> bool:
    """Whether voxels are sorted by position; raises a ``ValueError`` if one is outside, or there twice."""
    check_inside(coords, shape)
    ordered = bool((keys[1:] > keys[:-1]).all())
    if not ordered:
        again = keys.sort().values
        if bool((again[1:] == again[:-1]).any()):
            raise ValueError("coords: expected no voxel twice, got some that occur again")
    remember_voxels(coords, shape, ordered=ordered)
    return ordered


def _rows_of(keys: Tensor, window: Window) -> Tensor:
    """Where the volume's rows along x begin among sorted voxels."""
    num_rows = window.batch * window.in_z * window.in_y
    if keys.is_cuda:  # where counting waits for the largest
        edges = torch.arange(num_rows + 1, device=keys.device) * window.in_x
        return torch.searchsorted(keys, edges)
    return _starts(torch.bincount(keys // max(window.in_x, 1), minlength=num_rows))


def _starts(counts: Tensor) -> Tensor:
    """Where each group begins, and where the last one ends."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def _original(table: Tensor, order: Tensor) -> Tensor:
    """A table that names rows after sorting, naming those before."""
    return torch.where(table >= 0, order[table.clamp(min=0).long()], -1).int()


def _submanifold_neighbors(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    window = submanifold_window(shape, kernel_size)
    if not _fits_kernel(shape, kernel_size, (0, 0, 0)):
        return search_submanifold(coords, shape, kernel_size)
    coords, rows, order = _sorted(coords, window)
    table = coords.new_full((math.prod(kernel_size), len(coords)), -1)
    launch("sparse_pairs", coords, rows, coords, rows, window, len(coords), len(coords), table, None)
    if order is None:
        return table
    unsorted = torch.empty_like(table)
    unsorted[:, order] = _original(table, order)
    return unsorted


def _strided_neighbors(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
    window = strided_window(shape, kernel_size, stride, padding)
    if not _fits_kernel(shape, kernel_size, padding):
        return search_strided(coords, shape, kernel_size, stride, padding)
    coords, rows, order = _sorted(coords, window)
    reached = coords[:, 3] + window.padding_x
    first = (reached - window.kernel_x + window.stride_x).div(window.stride_x, rounding_mode="floor")
    last = reached.div(window.stride_x, rounding_mode="floor").clamp(max=window.out_x - 1)
    reach = coords, rows, first.clamp(min=0), last, window
    counts = rows.new_empty(window.batch * window.out_z * window.out_y)
    launch("sparse_count_outputs", *reach, counts)
    out_rows = _starts(counts)
    num_in, num_out, num_cells = len(coords), int(out_rows[-1]), math.prod(kernel_size)
    if num_out >= INT32_LIMIT:
        raise ValueError(f"coords: expected voxels that reach fewer than 2^31 outputs, got {num_out}")
    out_coords = coords.new_empty(num_out, 4)
    inputs, outputs = (coords.new_full((num_cells, num), -1) for num in (num_out, num_in))
    launch("sparse_list_outputs", *reach, out_rows, out_coords)
    launch("sparse_pairs", coords, rows, out_coords, out_rows, window, num_in, num_out, inputs, outputs)
    if order is not None:
        inputs, by_position = _original(inputs, order), outputs
        outputs = torch.empty_like(outputs)
        outputs[:, order] = by_position
    return out_coords, inputs, outputs


def _fake_submanifold(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    return coords.new_empty(math.prod(kernel_size), len(coords), dtype=torch.int32)


def _fake_strided(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> tuple[Tensor, Tensor, Tensor]:
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
    _fake_strided,
    {"coords": "integer M 4"},
    _check_strided,
)
