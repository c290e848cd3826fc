"""Voxels by position, read one row along x after another, and what a strided kernel makes of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from renderpretrain.ops._native import INT32_LIMIT, launch, new_memory
from renderpretrain.ops._signatures import Window
from renderpretrain.ops.known_voxels import known_order, remember_voxels
from renderpretrain.ops.neighbor_search import Sizes, Volume, check_inside, linear_keys

MAX_KERNEL_ROWS, MOST_ROWS = 64, 1 << 26
"""``RP_MAX_KERNEL_ROWS``, and rows of a volume along x: what is larger is searched by the references."""


class SortedVoxels(NamedTuple):
    """Voxels by position.

    Attributes:
        coords: ``(b, z, y, x)`` in 32 bits; there may be room for more behind the last one.
        rows: Where each of the volume's rows along x begins among them, and where the last one ends.
    """

    coords: Tensor
    rows: Tensor


class Reached(NamedTuple):
    """The outputs that a strided kernel makes of voxels, before they are listed.

    Attributes:
        voxels: The inputs.
        first: The first output along x that reads an input.
        last: The last one.
        window: Where the kernel goes.
        rows: Where each row of outputs begins, and where the last one ends.
    """

    voxels: SortedVoxels
    first: Tensor
    last: Tensor
    window: Window
    rows: Tensor


def fits_kernel(shape: Sizes, kernel_size: Sizes, padding: Sizes) -> bool:
    """Whether numbers of 32 bits hold a voxel, and memory an entry for every row of the volume."""
    b, z, y, x = shape
    rows = b * (z + 2 * padding[0]) * (y + 2 * padding[1])
    reach = x + 2 * padding[2] + 2 * kernel_size[2]
    return rows <= MOST_ROWS and reach < INT32_LIMIT and kernel_size[0] * kernel_size[1] <= MAX_KERNEL_ROWS


def sorted_voxels(coords: Tensor, window: Window) -> tuple[SortedVoxels, Tensor | None]:
    """The voxels by position, and the order that they were brought into if they were in another."""
    shape = (window.batch, window.in_z, window.in_y, window.in_x)
    keys, ordered = linear_keys(coords, shape[1:]), known_order(coords, shape)
    if ordered is None:
        ordered = _looked_at(coords, keys, shape)
    if ordered:
        return SortedVoxels(coords.int().contiguous(), _rows_of(keys, window)), None
    keys, order = keys.sort()
    return SortedVoxels(coords[order].int().contiguous(), _rows_of(keys, window)), order


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


def before_sorting(table: Tensor, order: Tensor) -> Tensor:
    """A table that names rows after sorting, naming those before."""
    return torch.where(table >= 0, order[table.clamp(min=0).long()], -1).int()


def reached_outputs(voxels: SortedVoxels, window: Window) -> Reached:
    """What a strided kernel makes of voxels; their number stays on the device."""
    reached = voxels.coords[:, 3] + window.padding_x
    first = (reached - window.kernel_x + window.stride_x).div(window.stride_x, rounding_mode="floor")
    first = first.clamp(min=0)
    last = reached.div(window.stride_x, rounding_mode="floor").clamp(max=window.out_x - 1)
    counts = voxels.rows.new_empty(window.batch * window.out_z * window.out_y)
    launch("sparse_count_outputs", *voxels, first, last, window, counts)
    return Reached(voxels, first, last, window, _starts(counts))


def counted(found: Reached) -> int:
    """How many outputs there are; waits for the device."""
    num_out = int(found.rows[-1])
    if num_out >= INT32_LIMIT:
        raise ValueError(f"coords: expected voxels that reach fewer than 2^31 outputs, got {num_out}")
    return num_out


def listed(found: Reached, room: int) -> SortedVoxels:
    """The outputs, in memory for ``room`` of them, which is at least as many as there are."""
    voxels, first, last, window, rows = found
    coords = new_memory(voxels.coords, room, 4)
    launch("sparse_list_outputs", *voxels, first, last, window, rows, coords)
    return SortedVoxels(coords, rows)


def paired(
    voxels: SortedVoxels, made: SortedVoxels, window: Window, order: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The input under each cell of each output, and the converse, as the inputs were before ``order``."""
    num_in, num_out = len(voxels.coords), len(made.coords)
    num_cells = window.kernel_z * window.kernel_y * window.kernel_x
    inputs, outputs = (made.coords.new_full((num_cells, num), -1) for num in (num_out, num_in))
    launch("sparse_pairs", *voxels, *made, window, num_in, num_out, inputs, outputs)
    if order is not None:
        inputs, by_position = before_sorting(inputs, order), outputs
        outputs = torch.empty_like(outputs)
        outputs[:, order] = by_position
    return inputs, outputs
