"""One published method = one readable file and one configuration.

A recipe is a module that meets :class:`Recipe`; :data:`RECIPES` says which there are, and
:mod:`renderpretrain.recipes.recipe` what they may have beside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from torch import nn

from renderpretrain.data import Needs, SceneDataset
from renderpretrain.recipes import ns_mae, ponder_indoor, ponder_outdoor, render_distill, unipad, uniscene
from renderpretrain.recipes.branches import ImageBranch, PointBranch
from renderpretrain.recipes.columns import check_data
from renderpretrain.recipes.ns_mae import NSMAE, NSMAEConfig
from renderpretrain.recipes.photographs import of_photographs
from renderpretrain.recipes.ponder_indoor import PonderIndoor, PonderIndoorConfig
from renderpretrain.recipes.ponder_outdoor import PonderOutdoor, PonderOutdoorConfig
from renderpretrain.recipes.recipe import (
    CountsSteps,
    DrawsRays,
    EncodesScenes,
    HasBEVFeatures,
    HasEncoders,
    HasGrid,
    HasImageFeatures,
    HasImageLevels,
    HasLevels,
    HasPointFeatures,
    HasScores,
    HasSettings,
    HasSurface,
    Hidden,
    MaskedVoxels,
    Recipe,
    RefinesCameras,
    RendersRays,
    RendersViews,
    SaysClasses,
)
from renderpretrain.recipes.render_distill import RenderDistillConfig
from renderpretrain.recipes.settings import OptimizationConfig, Sources, renamed
from renderpretrain.recipes.terms import check_sweeps, followed
from renderpretrain.recipes.unipad import UniPAD, UniPADConfig
from renderpretrain.recipes.uniscene import UniScene, UniSceneConfig, with_labels

__all__ = [
    "NSMAE",
    "RECIPES",
    "CountsSteps",
    "DrawsRays",
    "EncodesScenes",
    "HasBEVFeatures",
    "HasEncoders",
    "HasGrid",
    "HasImageFeatures",
    "HasImageLevels",
    "HasLevels",
    "HasPointFeatures",
    "HasScores",
    "HasSettings",
    "HasSurface",
    "Hidden",
    "ImageBranch",
    "MaskedVoxels",
    "NSMAEConfig",
    "OptimizationConfig",
    "PointBranch",
    "PonderIndoor",
    "PonderIndoorConfig",
    "PonderOutdoor",
    "PonderOutdoorConfig",
    "Recipe",
    "RecipeEntry",
    "RefinesCameras",
    "RenderDistillConfig",
    "RendersRays",
    "RendersViews",
    "SaysClasses",
    "UniPAD",
    "UniPADConfig",
    "UniScene",
    "UniSceneConfig",
    "with_labels",
]


def _with_columns(config: Any, dataset: SceneDataset, holdout: int) -> SceneDataset:
    """For recipes that learn from single scenes; raises unless these have the columns that are read."""
    if getattr(config, "modality", "lidar") != "camera":
        check_data(config.points, dataset)
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
        sources: Where the numbers of the published presets come from.
        needs: What it cannot do without, given the configuration.
        data: The built-in scenes it is tried on, unless told otherwise.
        prepare: Wraps a data set in what the recipe learns from beside the scenes themselves, given the
            configuration and how many of the last scenes are held out.
        frames_per_street: Consecutive scenes of a synthetic street.
        former: Names that its settings had, and have in what was saved then: today's by the former.
        photographs: Settings that posed photographs alone change, from the box that they show and how far
            from a camera it ends; ``None`` if it cannot learn from them as it is.
        reference: The preset whose numbers have sources, with which others are compared.
    """

    name: str
    summary: str
    config: type[BaseModel]
    presets: Mapping[str, BaseModel]
    indoor: Mapping[str, Any]
    build: Callable[[Any], nn.Module]
    sources: Sources
    needs: Callable[[Any], Needs]
    data: str = "synthetic"
    prepare: Callable[[Any, SceneDataset, int], SceneDataset] = _with_columns
    frames_per_street: int = 1
    former: Mapping[str, str] = field(default_factory=dict)
    photographs: Callable[[tuple[float, ...], float], Mapping[str, Any]] | None = None
    reference: str = "paper"

    def renamed(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Settings that a run or an exported file saved, under the names they have today."""
        return renamed(tree, self.former)


def _unipad_scenes(config: UniPADConfig, dataset: SceneDataset, holdout: int) -> SceneDataset:
    """For UniPAD, some of whose terms look at the next scene, and one at beams without a return."""
    check_sweeps(config.terms, dataset)
    return followed(config.terms, _with_columns(config, dataset, holdout), holdout)


def _unipad(name: str, summary: str) -> RecipeEntry:
    """One of UniPAD's three."""
    return RecipeEntry(
        name,
        summary,
        UniPADConfig,
        unipad.PRESETS[name],
        unipad.INDOOR,
        unipad.build,
        unipad.SOURCES[name],
        unipad.needs,
        prepare=_unipad_scenes,
        former=unipad.RENAMED,
        photographs=of_photographs if name == "unipad-camera" else None,
    )


def _render_distill(modality: str, sees: str) -> RecipeEntry:
    """One of the three of our own."""
    name = f"render-distill-{modality}"
    return RecipeEntry(
        name,
        f"Our own, {sees}: render what is hidden, predict and render what a slow copy says of it.",
        RenderDistillConfig,
        render_distill.PRESETS[name],
        render_distill.INDOOR,
        render_distill.build,
        render_distill.SOURCES[name],
        render_distill.needs,
        prepare=_unipad_scenes,
        former=unipad.RENAMED,
        photographs=of_photographs if modality == "camera" else None,
        reference="base",
    )


ENTRIES = (
    _unipad(
        "unipad-lidar",
        "UniPAD-L: drop blocks of the LiDAR's voxels, render depth back (arXiv 2310.08370).",
    ),
    _unipad(
        "unipad-camera",
        "UniPAD-C: hide patches of the images, render depth and colour (arXiv 2310.08370).",
    ),
    _unipad(
        "unipad-fusion",
        "UniPAD-M: both sensors masked and fused in one run, depth and colour rendered back.",
    ),
    RecipeEntry(
        "ponder-outdoor",
        "PonderV2, LiDAR: blocks of voxels become a token, render depth and more (arXiv 2310.08586).",
        PonderOutdoorConfig,
        ponder_outdoor.PRESETS,
        ponder_outdoor.IN_A_ROOM,
        ponder_outdoor.build,
        ponder_outdoor.SOURCES,
        ponder_outdoor.needs,
        former=ponder_outdoor.RENAMED,
    ),
    RecipeEntry(
        "ponder-indoor",
        "PonderV2, RGB-D: leave out points of a room, render depth and colour (arXiv 2310.08586).",
        PonderIndoorConfig,
        ponder_indoor.PRESETS,
        {},
        ponder_indoor.build,
        ponder_indoor.SOURCES,
        ponder_indoor.needs,
        data="synthetic-room",
        former=ponder_indoor.RENAMED,
    ),
    RecipeEntry(
        "ns-mae",
        "NS-MAE: hide patches of the images and voxels, render pictures, depth and a view from above.",
        NSMAEConfig,
        ns_mae.PRESETS,
        ns_mae.INDOOR,
        ns_mae.build,
        ns_mae.SOURCES,
        ns_mae.needs,
        former=ns_mae.RENAMED,
    ),
    RecipeEntry(
        "uniscene",
        "UniScene: say which voxels are occupied from images alone (arXiv 2305.18829).",
        UniSceneConfig,
        uniscene.PRESETS,
        {},
        uniscene.build,
        uniscene.SOURCES,
        uniscene.needs,
        prepare=with_labels,
        frames_per_street=4,
        former=uniscene.RENAMED,
    ),
    _render_distill("lidar", "LiDAR"),
    _render_distill("camera", "cameras"),
    _render_distill("fusion", "both sensors"),
)

RECIPES = {entry.name: entry for entry in ENTRIES}
"""Every recipe by name."""

if TYPE_CHECKING:  # that every one of them is a recipe is proven, not only tried
    _: tuple[type[Recipe], ...] = (UniPAD, PonderOutdoor, PonderIndoor, NSMAE, UniScene)
