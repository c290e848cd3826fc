"""Trilinear interpolation on a voxel grid: three sums, of which all reading and splatting consists.

With ``k`` over the eight voxels around a point, ``w_k`` their weights and ``<,>`` the product over channels:

- ``gather``, (B, P, C): ``sum_k w_k volume_k``
- ``scatter``, (B, C, Z, Y, X): ``volume_k += w_k values``
- ``slope``, (B, P, 3), per metre: ``sum_k dw_k/dpoint <values, volume_k>``

With ``directions`` ``u`` (B, P, 3) every ``w_k`` becomes its derivative along ``u``, ``dw_k/dpoint . u``:
that is what second derivatives need. A voxel outside the volume counts as zero; a point without finite
coordinates has no voxels.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

from renderpretrain.ops._library import Shape, Triple
from renderpretrain.ops._native import Grid, launch


def new_volume(values: Tensor, shape: Shape) -> Tensor:
    """Zeros ``(B, C, Z, Y, X)`` for values ``(B, P, C)``, in the kernels' channels-last memory."""
    batch, _, channels = values.shape
    return values.new_zeros(batch, *shape, channels).permute(0, 4, 1, 2, 3)


def gather(
    volume: Tensor, points: Tensor, scale: Triple, offset: Triple, directions: Tensor | None = None
) -> Tensor:
    """``sum_k w_k volume_k``, by the native kernel."""
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    out = points.new_empty(*points.shape[:2], volume.shape[1])
    grid = Grid(*volume.shape, points.shape[1], *scale, *offset)
    launch("grid_gather", volume, *_dense(points, directions), grid, out)
    return out


def scatter(
    values: Tensor,
    points: Tensor,
    shape: Shape,
    scale: Triple,
    offset: Triple,
    directions: Tensor | None = None,
) -> Tensor:
    """``volume_k += w_k values``, by the native kernel.

    On CUDA the order of the additions is not fixed unless ``torch.use_deterministic_algorithms`` asks for it.
    """
    if values.is_cuda and torch.are_deterministic_algorithms_enabled():
        return scatter_reference(values, points, [int(size) for size in shape], scale, offset, directions)
    out = new_volume(values, shape)
    grid = Grid(*out.shape, points.shape[1], *scale, *offset)
    launch("grid_scatter", values.contiguous(), *_dense(points, directions), grid, out)
    return out


def slope(
    values: Tensor,
    volume: Tensor,
    points: Tensor,
    scale: Triple,
    offset: Triple,
    directions: Tensor | None = None,
) -> Tensor:
    """``sum_k dw_k/dpoint <values, volume_k>``, by the native kernel."""
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    points, directions = _dense(points, directions)
    out = torch.empty_like(points)
    grid = Grid(*volume.shape, points.shape[1], *scale, *offset)
    launch("grid_slope", values.contiguous(), volume, points, directions, grid, out)
    return out


def _dense(points: Tensor, directions: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return points.contiguous(), None if directions is None else directions.contiguous()


def gather_reference(volume: Tensor, points: Tensor, scale: Triple, offset: Triple) -> Tensor:
    """``sum_k w_k volume_k`` in plain PyTorch, differentiable to any order."""
    rows = volume.flatten(2).mT
    total = points.new_zeros(*points.shape[:2], volume.shape[1])
    if rows.shape[1] == 0:
        return total
    for voxel, inside, weight in _corners(points, volume.shape[2:], scale, offset):
        row = rows.gather(1, voxel[..., None].expand_as(total))
        total = total + weight[..., None] * torch.where(inside[..., None], row, 0.0)
    return total


def scatter_reference(
    values: Tensor,
    points: Tensor,
    shape: Sequence[int],
    scale: Triple,
    offset: Triple,
    directions: Tensor | None = None,
) -> Tensor:
    """``volume_k += w_k values`` in plain PyTorch; without ``directions`` differentiable to any order."""
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
    points: Tensor, shape: Sequence[int], scale: Triple, offset: Triple, directions: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each of the eight corners: flat voxel (0 where outside), whether it is inside, and the weight."""
    size = points.new_tensor(shape[::-1])
    index = points * points.new_tensor(scale) + points.new_tensor(offset)
    near = ((index >= -1) & (index < size)).all(-1)
    index = torch.where(near[..., None], index, 0.0)
    floor = index.detach().floor()
    fraction = index - floor
    speed = None if directions is None else directions * points.new_tensor(scale)
    for corner in product((0, 1), repeat=3):
        step = points.new_tensor(corner)
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
