"""Reading encoders at places of the world: what a probe, or a head of your own, is put on.

These are the encoders' own outputs and nothing behind them: no lifter that is thrown away, no field.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_on_grid
from renderpretrain.encoders import GridLevel, GridLevels, PointEncoder, SparseTensor, Voxels, grid_levels
from renderpretrain.encoders.levels import read_seen
from renderpretrain.geometry import Views, VoxelGrid
from renderpretrain.recipes.recipe import Told

MIDDLE_DISTANCE = 10.0
"""Metres at which the logarithm of a distance is 0."""


def encode_voxels(encoder: nn.Module, voxels: Voxels, *more: Any, told: Told = None) -> Float[Tensor, "M C"]:
    """An encoder's feature of every voxel: its own, or its volume read at the voxel's centre, trilinearly.

    Args:
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder` or a
            :class:`~renderpretrain.encoders.PointEncoder`.
        voxels: What it reads.
        more: What else it is given.
        told: A list that is given all its levels on the way.

    Raises:
        ValueError: If it gives anything else, or no level of its own is on the voxels' grid.
    """
    if told is None:
        made = encoder(voxels.to_sparse(), *more)
    else:
        levels = grid_levels("point_encoder", encoder, voxels.to_sparse(), voxels.grid, *more)
        made = _output_of(encoder, voxels.grid, levels)
        told.extend(levels)
    if isinstance(made, SparseTensor):
        return made.features
    if not isinstance(encoder, PointEncoder):
        raise ValueError(
            f"encoder: expected a SparseTensor, or a volume and output_grid(grid), got {type(made).__name__} "
            f"of {type(encoder).__name__}"
        )
    out, grid = encoder.output_grid(voxels.grid), voxels.grid
    check_on_grid("the encoder's volume", made, out.shape)
    size, lower = ops.constant(grid.voxel_size, made), ops.constant(grid.lower, made)
    centers = (voxels.coords[:, 1:].flip(1) + 0.5) * size + lower
    # Rows are in the order of samples.
    counts = torch.bincount(voxels.coords[:, 0].long(), minlength=len(made)).tolist()
    read = [out.read(made[b : b + 1], mine[None])[0] for b, mine in enumerate(centers.split(counts))]
    return torch.cat(read)


def _output_of(
    encoder: nn.Module, grid: VoxelGrid, levels: Sequence[GridLevel]
) -> SparseTensor | Float[Tensor, "B C Z Y X"]:
    """What a call gives, of the levels: see :class:`~renderpretrain.encoders.GridLevels`."""
    if not isinstance(encoder, GridLevels):
        return levels[0].features
    if isinstance(encoder, PointEncoder):
        last = levels[-1].features
        return last.dense() if isinstance(last, SparseTensor) else last
    if levels[0].grid != grid:
        raise ValueError(
            f"encoder: expected the first of the levels of {type(encoder).__name__}, which gives features of "
            f"the voxels, on their grid of {grid.shape}, got one of {levels[0].grid.shape}"
        )
    return levels[0].features


def read_voxels(
    features: Float[Tensor, "M C"], voxels: Voxels, positions: Float[Tensor, "B P 3"]
) -> Float[Tensor, "B P C"]:
    """The feature of the voxel each position lies in; 0 where there is no voxel. Differentiable in features.

    Args:
        features: Of the voxels, in their order.
        voxels: Where they are.
        positions: World, metres.
    """
    grid, rows = voxels.grid, torch.arange(len(positions), device=positions.device)
    cells = torch.cat([rows[:, None, None].expand(*positions.shape[:2], 1), grid.cells(positions)], -1)
    known, asked = _keys(voxels.coords, grid), _keys(cells, grid)
    if not len(known):
        return features.new_zeros(*asked.shape, features.shape[1])
    row = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
    there = (known[row] == asked) & grid.contains(positions)
    return torch.where(there[..., None], features[row], 0.0)


def read_maps(
    maps: Float[Tensor, "B N C h w"], positions: Float[Tensor, "B P 3"], views: Views
) -> Float[Tensor, "B P 3*C"]:
    """Image features at the pixels of world positions, times ``1, l, l^2``: the mean over the seeing cameras.

    An image says the same of all places along a ray. So that something linear can tell them apart, the
    features come three times, with the powers of ``l``, the logarithm of the distance along the optical axis
    over 10 m: a linear head is a parabola in ``l`` whose coefficients are linear in the features. 0 where no
    camera sees the position. Differentiable in maps.

    Args:
        maps: Features that span the images.
        positions: World, metres.
        views: The images, which say what their cameras saw.
    """
    features, seen, z_depth = read_seen(maps, positions, views)
    log = torch.where(seen, z_depth / MIDDLE_DISTANCE, 1.0).log()[..., None]
    powers = torch.cat([features, features * log, features * log.square()], -1)
    total = torch.where(seen[..., None], powers, 0.0).sum(1)
    return total / seen.sum(1).clamp(min=1)[..., None]


def _keys(coords: Int[Tensor, "*batch 4"], grid: VoxelGrid) -> Int[Tensor, "*batch"]:
    """One number per voxel ``(b, z, y, x)``, in their order."""
    b, z, y, x = coords.long().unbind(-1)
    return ((b * grid.shape[0] + z) * grid.shape[1] + y) * grid.shape[2] + x
