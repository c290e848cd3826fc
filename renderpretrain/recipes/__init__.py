"""One published method = one readable file and one configuration.

A recipe is a module with ``forward(batch) -> {term: weighted loss}``, ``hide(batch)``, ``encode(batch,
hidden)``, ``render(volume, rays)``, ``targets(batch, num_rays)`` and ``encoders()``; :data:`RECIPES` says
which there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.recipes.unipad import UniPAD
from renderpretrain.recipes.unipad_config import INDOOR, PRESETS, UniPADConfig
from renderpretrain.recipes.uniscene import UniScene, with_labels
from renderpretrain.recipes.uniscene_config import UNISCENE_PRESETS, UniSceneConfig

__all__ = ["RECIPES", "RecipeEntry", "UniPAD", "UniPADConfig", "UniScene", "UniSceneConfig", "with_labels"]


def _as_it_is(config: BaseModel, dataset: SceneDataset) -> SceneDataset:
    """For recipes that learn from single scenes."""
    return dataset


@dataclass(frozen=True)
class RecipeEntry:
    """How a recipe is found and built.

    Attributes:
        name: What the user types.
        summary: One line.
        config: Its configuration's type.
        presets: Configurations by name.
        indoor: Settings that a room changes in them.
        build: Makes the module.
        prepare: Wraps a data set in what the recipe learns from beside the scenes themselves, given the
            configuration.
        frames_per_street: Consecutive scenes of a synthetic street.
    """

    name: str
    summary: str
    config: type[BaseModel]
    presets: Mapping[str, BaseModel]
    indoor: Mapping[str, Any]
    build: Callable[[Any], nn.Module]
    prepare: Callable[[Any, SceneDataset], SceneDataset] = _as_it_is
    frames_per_street: int = 1


SUMMARIES = {
    "unipad-lidar": "UniPAD-L: drop 80 % of the LiDAR's voxel blocks, render depth back (arXiv 2310.08370).",
    "unipad-camera": "UniPAD-C: hide 30 % of the image patches, render depth and colour (arXiv 2310.08370).",
    "unipad-fusion": "UniPAD-M: both sensors masked and fused in one run, depth and colour rendered back.",
}

RECIPES = {
    name: RecipeEntry(name, summary, UniPADConfig, PRESETS[name], INDOOR, UniPAD)
    for name, summary in SUMMARIES.items()
} | {
    "uniscene": RecipeEntry(
        "uniscene",
        "UniScene: say which voxels are occupied from images alone (arXiv 2305.18829).",
        UniSceneConfig,
        UNISCENE_PRESETS,
        {},
        UniScene,
        prepare=with_labels,
        frames_per_street=4,
    )
}
"""Every recipe by name."""
