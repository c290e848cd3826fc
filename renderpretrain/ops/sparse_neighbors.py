"""Which voxels a 3D kernel connects, as tables of rows.

Occupied voxels are rows ``(b, z, y, x)``, none twice, in any order; the ``shape`` around them is ``(B, Z, Y,
X)``. Kernels are ``(z, y, x)``, their ``K`` cells counted with x fastest, as weights are laid out. Output
``j`` reads the input ``j * stride - padding + cell``. Nothing here is the size of the volume: memory grows
with the number of voxels and of the volume's rows along x.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Int, Int32
from torch import Tensor

from renderpretrain.checks import check_integer, check_shape
from renderpretrain.ops._library import register
from renderpretrain.ops._native import INT32_LIMIT, Window, has_native, launch
from renderpretrain.ops.constant import constant

Triple = tuple[int, int, int]
Volume = tuple[int, int, int, int]
Sizes = Sequence[int]
"""A triple or a volume; a tuple from the user is a list behind PyTorch's dispatcher."""

MAX_KERNEL_ROWS = 64
"""``RP_MAX_KERNEL_ROWS``: larger kernels are searched by the references."""


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
        ValueError: If a size is out of range, or a voxel outside; to know, this waits for the device.
    """
    _check(coords, shape, kernel_size)
    if any(k % 2 == 0 for k in kernel_size):
        raise ValueError(f"kernel_size: expected odd sizes for a submanifold convolution, got {kernel_size}")
    if not _by_kernel(coords, kernel_size):
        return submanifold_neighbors_reference(coords, shape, kernel_size)
    return torch.ops.renderpretrain.submanifold_neighbors(coords, shape, kernel_size)


def submanifold_neighbors_reference(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple
) -> Int32[Tensor, "K M"]:
    """:func:`submanifold_neighbors` in plain PyTorch, by searching for every neighbour."""
    _check_inside(coords, shape)
    return _search(coords, coords, _submanifold_window(shape, kernel_size))


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
    _check(coords, shape, kernel_size, stride, padding)
    strided_shape(shape[1:], kernel_size, stride, padding)
    if not _by_kernel(coords, kernel_size):
        return strided_neighbors_reference(coords, shape, kernel_size, stride, padding)
    found = torch.ops.renderpretrain.strided_neighbors(coords, shape, kernel_size, stride, padding)
    return StridedNeighbors(*found)


def strided_neighbors_reference(
    coords: Int[Tensor, "M 4"], shape: Volume, kernel_size: Triple, stride: Triple, padding: Triple
) -> StridedNeighbors:
    """:func:`strided_neighbors` in plain PyTorch: all outputs each input reaches, then a search."""
    _check_inside(coords, shape)
    window = _strided_window(shape, kernel_size, stride, padding)
    out_shape = (window.out_z, window.out_y, window.out_x)
    reached = coords[:, None, 1:].long() + constant(padding, coords) - _cells(kernel_size, coords)
    outputs = reached.div(constant(stride, reached), rounding_mode="floor")
    hit = (outputs * constant(stride, reached) == reached) & (outputs >= 0)
    hit = (hit & (outputs < constant(out_shape, reached))).all(2)
    candidates = torch.cat([coords[:, None, :1].expand_as(outputs[..., :1]), outputs], 2)[hit]
    out_coords = from_linear_keys(linear_keys(candidates, out_shape).unique(sorted=True), out_shape).int()
    inputs = _search(coords, out_coords, window)
    cell, output = (inputs >= 0).nonzero(as_tuple=True)
    converse = inputs.new_full((len(inputs), len(coords)), -1)
    converse[cell, inputs[cell, output].long()] = output.int()
    return StridedNeighbors(out_coords, inputs, converse)


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
    """Inverse of :func:`linear_keys`."""
    x, rest = keys % shape[2], keys // shape[2]
    y, rest = rest % shape[1], rest // shape[1]
    return torch.stack([rest // shape[0], rest % shape[0], y, x], dim=1)


def _check(
    coords: Tensor, shape: Sizes, kernel_size: Sizes, stride: Sizes = (1, 1, 1), padding: Sizes = (0, 0, 0)
) -> None:
    """All but where the voxels are."""
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


def _check_inside(coords: Tensor, shape: Sizes) -> None:
    if len(coords) == 0:
        return
    lowest, highest = torch.stack(coords.aminmax(dim=0)).tolist()
    if min(lowest) < 0 or any(last >= size for last, size in zip(highest, shape, strict=True)):
        raise ValueError(f"coords: expected voxels inside {tuple(shape)}, got {lowest} to {highest}")


def _by_kernel(coords: Tensor, kernel_size: Sizes) -> bool:
    return has_native(coords.device.type) and kernel_size[0] * kernel_size[1] <= MAX_KERNEL_ROWS


def _submanifold_window(shape: Sizes, kernel_size: Sizes) -> Window:
    return Window(*shape, *shape[1:], *kernel_size, 1, 1, 1, *(k // 2 for k in kernel_size))


def _strided_window(shape: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Window:
    out_shape = strided_shape(shape[1:], kernel_size, stride, padding)
    return Window(*shape, *out_shape, *kernel_size, *stride, *padding)


def _cells(kernel_size: Sizes, like: Tensor) -> Tensor:
    """``(z, y, x)`` of every cell."""
    return constant(list(product(*map(range, kernel_size))), like, torch.int64)


def _search(coords: Tensor, out_coords: Tensor, w: Window) -> Tensor:
    """The table of inputs, by binary search among the positions in the padded volume."""
    padded = w.in_z + 2 * w.padding_z, w.in_y + 2 * w.padding_y, w.in_x + 2 * w.padding_x
    padding = constant([0, w.padding_z, w.padding_y, w.padding_x], coords)
    stride = constant([1, w.stride_z, w.stride_y, w.stride_x], coords)
    cells = torch.nn.functional.pad(_cells((w.kernel_z, w.kernel_y, w.kernel_x), coords), (1, 0))
    wanted = linear_keys(cells, padded)[:, None] + linear_keys(out_coords * stride, padded)
    if len(coords) == 0:
        return torch.full_like(wanted, -1, dtype=torch.int32)
    ordered, order = linear_keys(coords + padding, padded).sort()
    place = torch.searchsorted(ordered, wanted).clamp(max=len(coords) - 1)
    return torch.where(ordered[place] == wanted, order[place], -1).int()


def _sorted(coords: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor | None]:
    """The voxels by position, where the volume's rows begin among them, and the order if it was another."""
    _check_inside(coords, (window.batch, window.in_z, window.in_y, window.in_x))
    keys, order = linear_keys(coords, (window.in_z, window.in_y, window.in_x)), None
    if not bool((keys[1:] > keys[:-1]).all()):
        keys, order = keys.sort()
        coords = coords[order]
    num_rows = window.batch * window.in_z * window.in_y
    rows = _starts(torch.bincount(keys // window.in_x, minlength=num_rows))
    return coords.int().contiguous(), rows, order


def _starts(counts: Tensor) -> Tensor:
    """Where each group begins, and where the last one ends."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def _original(table: Tensor, order: Tensor) -> Tensor:
    """A table that names rows after sorting, naming those before."""
    return torch.where(table >= 0, order[table.clamp(min=0).long()], -1).int()


def _submanifold_neighbors(coords: Tensor, shape: Sizes, kernel_size: Sizes) -> Tensor:
    window = _submanifold_window(shape, kernel_size)
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
    window = _strided_window(shape, kernel_size, stride, padding)
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
)
register(
    "strided_neighbors(Tensor coords, int[4] shape, int[3] kernel_size, int[3] stride, int[3] padding)"
    " -> (Tensor, Tensor, Tensor)",
    _strided_neighbors,
    _fake_strided,
)
