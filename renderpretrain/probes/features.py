"""What a probe reads of encoders: all their levels side by side, or the last volume alone."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.encoders import GridLevel, ImageLevel, Level
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.recipe import (
    HasImageFeatures,
    HasImageLevels,
    HasLevels,
    HasPointFeatures,
    RefinesCameras,
    lacking,
)

Levels = Literal["all", "last"]
"""``all``: every level, as published linear probes have it; ``last``: what is rendered or read today."""


def place_features(
    recipe: nn.Module, batch: Batch, positions: Float[Tensor, "B P 3"], levels: Levels, task: str
) -> Float[Tensor, "B P C"]:
    """What the encoders that are taken home say of places, nothing hidden. Differentiable in them.

    All levels: those on grids trilinearly, those on images as means over the cameras that see a place; the
    finest map of the last network on images with powers of the distance, see
    :func:`~renderpretrain.recipes.places.read_maps`. A recipe without levels has its ``point_features``.

    Args:
        recipe: In whatever mode.
        batch: Scenes.
        positions: World, metres.
        levels: Which.
        task: Who asks, for the error message.

    Raises:
        ValueError: If the recipe has neither.
    """
    if levels == "last" or not isinstance(recipe, HasLevels):
        if not isinstance(recipe, HasPointFeatures):
            raise lacking(recipe, HasPointFeatures, f"the task {task}")
        return recipe.point_features(batch, positions)
    views = (recipe.refined(batch) if isinstance(recipe, RefinesCameras) else batch).views
    found = recipe.levels(batch)
    finest = _finest(found)
    read = []
    for level in found:
        if isinstance(level, GridLevel):
            read.append(level.read(positions))
        elif views is not None:
            maps = read_maps(level.maps, positions, views) if level is finest else None
            read.append(level.read(positions, views) if maps is None else maps)
    return torch.cat(read, -1)


def map_features(recipe: nn.Module, batch: Batch, levels: Levels, task: str) -> Float[Tensor, "B N C h w"]:
    """What the image encoders say of every cell of the map that is read today. Differentiable in them.

    All levels: finer maps are averaged in the cells, coarser ones enlarged bilinearly.

    Args:
        recipe: In whatever mode.
        batch: Scenes.
        levels: Which.
        task: Who asks, for the error message.

    Raises:
        ValueError: If the recipe has no image features.
    """
    if levels == "last" or not isinstance(recipe, HasLevels):
        if not isinstance(recipe, HasImageFeatures):
            raise lacking(recipe, HasImageFeatures, f"the task {task}")
        return recipe.image_features(batch)
    if isinstance(recipe, HasImageFeatures) and batch.views is None:
        return recipe.image_features(batch)  # which says what it lacks
    found = recipe.image_levels(batch) if isinstance(recipe, HasImageLevels) else recipe.levels(batch)
    finest = _finest(found)
    if finest is None:
        if isinstance(recipe, HasImageFeatures):
            return recipe.image_features(batch)
        raise lacking(recipe, HasImageFeatures, f"the task {task}")
    size = (finest.maps.shape[3], finest.maps.shape[4])
    maps = [_resized(level.maps, size) for level in found if isinstance(level, ImageLevel)]
    return torch.cat(maps, 2)


def _finest(levels: Sequence[Level]) -> ImageLevel | None:
    """The finest map of the last network on images; ``None`` without any."""
    images = [level for level in levels if isinstance(level, ImageLevel)]
    if not images:
        return None
    part = images[-1].name.rpartition("/")[0]
    last = [level for level in images if level.name.rpartition("/")[0] == part]
    return max(last, key=lambda level: level.maps.shape[3] * level.maps.shape[4])


def _resized(maps: Float[Tensor, "B N C _ _"], size: tuple[int, int]) -> Float[Tensor, "B N C h w"]:
    """Maps of another resolution, edge to edge."""
    flat = maps.flatten(0, 1).float()
    if flat.shape[2] > size[0]:
        flat = nn.functional.adaptive_avg_pool2d(flat, size)
    elif tuple(flat.shape[2:]) != size:
        flat = nn.functional.interpolate(flat, size=size, mode="bilinear")
    return flat.unflatten(0, maps.shape[:2])
