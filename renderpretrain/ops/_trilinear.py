"""Trilinear interpolation on a voxel grid: three sums, of which all reading and splatting consists.

With ``k`` over the eight voxels around a point, ``w_k`` their weights and ``<,>`` the product over channels:

- values, (B, P, C): ``sum_k w_k volume_k``
- volume, (B, C, Z, Y, X): ``volume_k += w_k values``
- slopes, (B, P, 3), per metre: ``sum_k dw_k/dpoint <values, volume_k>``

With ``directions`` ``u`` (B, P, 3) every ``w_k`` becomes its derivative along ``u``, ``dw_k/dpoint . u``:
that is what second derivatives need. A voxel outside the volume counts as zero; a point without finite
coordinates has no voxels.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from renderpretrain.ops._library import Shape, Triple
from renderpretrain.ops._native import TYPE_CODES, launch, new_memory
from renderpretrain.ops._signatures import Grid
from renderpretrain.ops.constant import constant

Numbers = Sequence[Any]
"""Three sizes or numbers; in a graph with changing shapes, where references are traced, symbols."""


def new_volume(values: Tensor, shape: Shape) -> Tensor:
    """Memory for ``(B, C, Z, Y, X)`` from values ``(B, P, C)``, in the kernels' channels-last order."""
    batch, _, channels = values.shape
    return new_memory(values, batch, *shape, channels).permute(0, 4, 1, 2, 3)


def read(volume: Tensor, points: Tensor, scale: Triple, offset: Triple) -> Tensor:
    """The values, by the native kernel; the volume may be of half precision."""
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    out = new_memory(points, *points.shape[:2], volume.shape[1])
    grid = Grid(*volume.shape, points.shape[1], *scale, *offset)
    launch("grid_sample", points, TYPE_CODES[volume.dtype], volume, grid, out)
    return out


class Wanted(NamedTuple):
    """Which of the three sums to compute."""

    values: bool = False
    volume: bool = False
    slopes: bool = False


def adjoint(  # noqa: PLR0913 - two tensors, where they meet, and what is asked of them
    values: Tensor,
    volume: Tensor | None,
    points: Tensor,
    shape: Shape,
    scale: Triple,
    offset: Triple,
    wanted: Wanted,
    directions: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, volume and slopes, in one pass of the native kernel; what is not wanted is an empty tensor.

    Args:
        values: To be added into the volume and multiplied for the slopes.
        volume: To be read; ``None`` where only a volume is wanted. It may be of half precision.
        points: Where.
        shape: ``(Z, Y, X)`` of both volumes.
        scale: Voxels per metre.
        offset: Index of the world's origin.
        wanted: On CUDA the order of additions to a volume is not fixed unless
            ``torch.use_deterministic_algorithms`` asks for it.
        directions: See above.
    """
    if volume is not None:
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
    none = values.new_empty(0)
    read_values = new_memory(values, *values.shape) if wanted.values else none
    slopes = torch.empty_like(points) if wanted.slopes else none
    added = none
    slow = wanted.volume and values.is_cuda and torch.are_deterministic_algorithms_enabled()
    if slow:
        added = scatter_reference(values, points, [int(n) for n in shape], scale, offset, directions)
    elif wanted.volume:
        added = new_volume(values, shape).zero_()
    launch(
        "grid_sample_backward",
        points,
        directions,
        values,
        TYPE_CODES[values.dtype if volume is None else volume.dtype],
        volume,
        Grid(points.shape[0], values.shape[2], *shape, points.shape[1], *scale, *offset),
        read_values if wanted.values else None,
        added if wanted.volume and not slow else None,
        slopes if wanted.slopes else None,
    )
    return read_values, added, slopes


def gather_reference(volume: Tensor, points: Tensor, scale: Numbers, offset: Numbers) -> Tensor:
    """The values in plain PyTorch, differentiable to any order."""
    rows = volume.flatten(2).mT
    total = points.new_zeros(*points.shape[:2], volume.shape[1])
    if rows.shape[1] == 0:  # zeros that still lead back to what they do not depend on
        nothing = torch.where(torch.zeros_like(points, dtype=torch.bool), points, 0.0)
        return total + nothing.sum(-1, keepdim=True) + volume.sum()
    for voxel, inside, weight in _corners(points, volume.shape[2:], scale, offset):
        row = rows.gather(1, voxel[..., None].expand_as(total))
        total = total + weight[..., None] * torch.where(inside[..., None], row, 0.0)
    return total


def scatter_reference(
    values: Tensor,
    points: Tensor,
    shape: Numbers,
    scale: Numbers,
    offset: Numbers,
    directions: Tensor | None = None,
) -> Tensor:
    """The volume in plain PyTorch; without ``directions`` differentiable to any order."""
    batch, _, channels = values.shape
    num_voxels = math.prod(shape)
    rows = values.new_zeros(batch * num_voxels, channels)
    first = torch.arange(batch, device=values.device)[:, None] * num_voxels
    for voxel, inside, weight in _corners(points, shape, scale, offset, directions):
        rows_here = weight[..., None] * torch.where(inside[..., None], values, 0.0)
        if num_voxels:
            rows = rows.index_add(0, (first + voxel).flatten(), rows_here.flatten(0, 1))
    return rows.reshape(batch, *shape, channels).permute(0, 4, 1, 2, 3)


def _corners(
    points: Tensor, shape: Numbers, scale: Numbers, offset: Numbers, directions: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The eight corners around points: flat voxel (0 where outside), whether it is inside, and the weight."""
    size = constant(shape[::-1], points)
    index = points * constant(scale, points) + constant(offset, points)
    near = ((index >= -1) & (index < size)).all(-1)
    index = torch.where(near[..., None], index, 0.0)
    floor = index.detach().floor()
    fraction = index - floor
    speed = None if directions is None else directions * constant(scale, points)
    for corner in product((0, 1), repeat=3):
        step = constant(corner, points)
        voxel = floor + step
        inside = near & ((voxel >= 0) & (voxel < size)).all(-1)
        x, y, z = torch.where(inside[..., None], voxel, 0.0).long().unbind(-1)
        share = torch.where(step > 0, fraction, 1 - fraction)
        weight = _product(share) if speed is None else _derivative(share, speed * (2 * step - 1))
        yield (z * shape[1] + y) * shape[2] + x, inside, weight


def _product(share: Tensor) -> Tensor:
    x, y, z = share.unbind(-1)
    return x * y * z


def _derivative(share: Tensor, speed: Tensor) -> Tensor:
    """Rate of change of the product of three shares that move at these speeds."""
    x, y, z = share.unbind(-1)
    return (speed * torch.stack([y * z, x * z, x * y], -1)).sum(-1)
