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

from renderpretrain.recipes.ponder_config import OUTDOOR_IN_A_ROOM, OUTDOOR_PRESETS, PonderOutdoorConfig
from renderpretrain.recipes.ponder_indoor import PonderIndoor
from renderpretrain.recipes.ponder_indoor_config import INDOOR_PRESETS, PonderIndoorConfig
from renderpretrain.recipes.ponder_outdoor import PonderOutdoor
from renderpretrain.recipes.unipad import UniPAD
from renderpretrain.recipes.unipad_config import INDOOR, PRESETS, UniPADConfig

__all__ = [
    "RECIPES",
    "PonderIndoor",
    "PonderIndoorConfig",
    "PonderOutdoor",
    "PonderOutdoorConfig",
    "RecipeEntry",
    "UniPAD",
    "UniPADConfig",
]


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
        data: The built-in scenes it is tried on, unless told otherwise.
    """

    name: str
    summary: str
    config: type[BaseModel]
    presets: Mapping[str, BaseModel]
    indoor: Mapping[str, Any]
    build: Callable[[Any], nn.Module]
    data: str = "synthetic"


SUMMARIES = {
    "unipad-lidar": "UniPAD-L: drop 80 % of the LiDAR's voxel blocks, render depth back (arXiv 2310.08370).",
    "unipad-camera": "UniPAD-C: hide 30 % of the image patches, render depth and colour (arXiv 2310.08370).",
    "unipad-fusion": "UniPAD-M: both sensors masked and fused in one run, depth and colour rendered back.",
}

RECIPES = {
    name: RecipeEntry(name, summary, UniPADConfig, PRESETS[name], INDOOR, UniPAD)
    for name, summary in SUMMARIES.items()
}
RECIPES |= {
    "ponder-outdoor": RecipeEntry(
        "ponder-outdoor",
        "PonderV2, LiDAR: 80 % of the blocks become a token, render depth and more (arXiv 2310.08586).",
        PonderOutdoorConfig,
        OUTDOOR_PRESETS,
        OUTDOOR_IN_A_ROOM,
        PonderOutdoor,
    ),
    "ponder-indoor": RecipeEntry(
        "ponder-indoor",
        "PonderV2, RGB-D: keep 20 % of a room's points, render depth and colour (arXiv 2310.08586).",
        PonderIndoorConfig,
        INDOOR_PRESETS,
        {},
        PonderIndoor,
        data="synthetic-room",
    ),
}
"""Every recipe by name."""
