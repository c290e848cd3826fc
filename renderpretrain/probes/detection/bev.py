"""What encoders say of the ground: everything that a recipe is taken home for, on one map seen from above."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.encoders import SparseTensor
from renderpretrain.encoders.levels import ImageLevel, Level
from renderpretrain.geometry import Views, VoxelGrid
from renderpretrain.recipes.recipe import HasBEVFeatures, HasLevels, RefinesCameras, lacking

CELL = 0.8
"""Metres of a cell of the map, as CenterPoint's finest published ones have (8 voxels of 0.1 m)."""

FEWEST, MOST = 64, 256
"""Cells along a side: smaller worlds have finer cells, larger ones coarser."""

SLABS = 8
"""Heights at which voxels are averaged and pixels are looked up, each with channels of its own."""


def bev_grid(grid: VoxelGrid, slabs: int = 1) -> VoxelGrid:
    """The map of a grid's ground: cells of about 0.8 m, or finer where a side would have fewer than 64.

    Args:
        grid: Of a recipe.
        slabs: How many cells lie above each other.
    """
    sides = [high - low for low, high in zip(grid.lower, grid.upper, strict=True)]
    cell = max(min(CELL, min(sides[:2]) / FEWEST), max(sides[:2]) / MOST)
    x, y = (side / max(round(side / cell), 1) for side in sides[:2])
    return VoxelGrid(grid.point_cloud_range, (x, y, sides[2] / slabs))


def bev_features(recipe: nn.Module, batch: Batch, grid: VoxelGrid) -> Float[Tensor, "B C Y X"]:
    """What the parts that are taken home say in the end, of points and of images, on a map.

    A volume's slices are channels; where its columns are not those of the map, they are averaged or read
    between centres. Voxels are averaged in slabs. Where no lifter is taken home, images are looked up at the
    pixels of the slabs' centres, the mean over the cameras that see them: nothing is learned on the way, so
    that what was pre-trained has no lifter that fresh weights do not have. Differentiable in the encoders.

    Args:
        recipe: Has ``levels``, or a map of its own (``bev_features``).
        batch: Scenes.
        grid: The map, see :func:`bev_grid`; one cell high.

    Raises:
        ValueError: If the recipe has neither.
    """
    if isinstance(recipe, HasLevels):
        views = recipe.refined(batch).views if isinstance(recipe, RefinesCameras) else batch.views
        maps = [_level_map(level, grid, views) for level in _taken(recipe.levels(batch))]
        if not maps:
            raise ValueError(f"levels: expected at least one of {type(recipe).__name__}, got none")
        return torch.cat(maps, 1)
    if isinstance(recipe, HasBEVFeatures):
        own = recipe.bev_features(batch).float()
        return _resampled(own, _flat(recipe.grid, (own.shape[2], own.shape[3])), grid)
    raise lacking(recipe, HasLevels, "the task detection")


def _taken(levels: list[Level]) -> list[Level]:
    """The last level of points and that of a lifter; without a lifter, the last part's finest map of images.

    A lifter's level comes after those of the images that it lifts.
    """
    images = [k for k, level in enumerate(levels) if isinstance(level, ImageLevel)]
    ends = (levels[: images[0]], levels[images[-1] + 1 :]) if images else (levels, [])
    grids = [grids[-1] for grids in ends if grids]
    if not images or ends[1]:
        return grids
    part = levels[images[-1]].name.rpartition("/")[0]
    maps = [x for x in levels if isinstance(x, ImageLevel) and x.name.rpartition("/")[0] == part]
    return [*grids, max(maps, key=lambda level: level.maps.shape[-1])]


def _level_map(level: Level, grid: VoxelGrid, views: Views | None) -> Float[Tensor, "B C Y X"]:
    """A level on the map."""
    if isinstance(level, ImageLevel):
        return _looked_up(level, grid, views)
    if isinstance(level.features, SparseTensor):
        return _averaged(level.features, level.grid, bev_grid(grid, SLABS))
    rows, columns = level.features.shape[3:]
    return _resampled(level.features.float().flatten(1, 2), _flat(level.grid, (rows, columns)), grid)


def _looked_up(level: ImageLevel, grid: VoxelGrid, views: Views | None) -> Float[Tensor, "B C Y X"]:
    """What images show at the centres of slabs."""
    if views is None:
        raise ValueError(f"{level.name}: expected a scene with images, got none")
    slabs = bev_grid(grid, SLABS)
    places = slabs.centers(level.maps.device).view(1, -1, 3).expand(len(level.maps), -1, 3)
    return level.read(places, views).movedim(2, 1).unflatten(2, slabs.shape).flatten(1, 2)


def _averaged(x: SparseTensor, own: VoxelGrid, slabs: VoxelGrid) -> Float[Tensor, "B C Y X"]:
    """The mean of the voxels whose centres lie in each cell of the slabs; 0 where there are none."""
    centers = own.to_world(x.coords[:, 1:].flip(1).float())
    index = slabs.voxel_index(centers[None], torch.ones_like(centers[None, :, 0], dtype=torch.bool))[0]
    cells = torch.where(index < 0, x.batch_size * slabs.num_voxels, index + x.coords[:, 0] * slabs.num_voxels)
    total = x.features.new_zeros(
        x.batch_size * slabs.num_voxels + 1, x.features.shape[1], dtype=torch.float32
    )
    count = torch.bincount(cells, minlength=len(total)).clamp(min=1)
    mean = total.index_add(0, cells, x.features.float())[:-1] / count[:-1, None]
    return mean.unflatten(0, (x.batch_size, *slabs.shape)).movedim(-1, 1).flatten(1, 2)


def _flat(grid: VoxelGrid, shape: tuple[int, int]) -> VoxelGrid:
    """A grid's box cut into ``(Y, X)`` columns."""
    sides = [high - low for low, high in zip(grid.lower, grid.upper, strict=True)]
    return VoxelGrid(grid.point_cloud_range, (sides[0] / shape[1], sides[1] / shape[0], sides[2]))


def _resampled(maps: Float[Tensor, "B C _ _"], own: VoxelGrid, grid: VoxelGrid) -> Float[Tensor, "B C Y X"]:
    """A map of one grid on another: averages of whole cells where it is finer, then read between centres."""
    sizes = zip(grid.voxel_size[:2], own.voxel_size[:2], own.shape[:0:-1], strict=True)
    x, y = (_cells_together(cell / size, count) for cell, size, count in sizes)
    if (x, y) != (1, 1):
        maps, own = nn.functional.avg_pool2d(maps, (y, x)), own.coarsened((x, y, 1))
    columns = (own.shape, own.lower[:2], own.upper[:2])
    if columns == (grid.shape, grid.lower[:2], grid.upper[:2]):
        return maps
    places = grid.centers(maps.device).view(1, -1, 3).expand(len(maps), -1, 3).clone()
    places[..., 2] = (own.lower[2] + own.upper[2]) / 2
    return own.read(maps[:, :, None], places).movedim(2, 1).unflatten(2, grid.shape[1:])


def _cells_together(ratio: float, count: int) -> int:
    """How many cells of a side of ``count`` are averaged: as many as fit into one, if the side divides."""
    together = math.floor(ratio + 1e-6)
    return together if together > 1 and count % together == 0 else 1
