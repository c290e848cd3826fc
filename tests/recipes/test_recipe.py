"""The protocols of recipes: who meets which, and what is said of a module that does not."""

import pytest
from torch import nn
from variants import VARIANTS, build

from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes import recipe as protocols
from renderpretrain.recipes.recipe import (
    HasBEVFeatures,
    HasEncoders,
    HasGrid,
    HasImageFeatures,
    HasPointFeatures,
    HasScores,
    HasSettings,
    HasSurface,
    Recipe,
    RefinesCameras,
    RendersRays,
    RunSettings,
    SaysClasses,
    encoders_of,
    lacking,
    missing_from,
    settings_of,
)

ALL = {protocols.EncodesScenes, protocols.DrawsRays, RendersRays, Recipe, HasGrid, HasEncoders}
ALL |= {HasSettings, HasSurface, HasPointFeatures, protocols.HasLevels}
IMAGES = {HasImageFeatures, protocols.HasImageLevels}
MAY = {
    "unipad": IMAGES | {RefinesCameras},
    "render-distill": IMAGES | {RefinesCameras},
    "ponder-outdoor": {SaysClasses},
    "ponder-indoor": {SaysClasses, RefinesCameras},
    "ns-mae": IMAGES | {RefinesCameras, HasScores, HasBEVFeatures},
    "uniscene": IMAGES | {HasScores, HasBEVFeatures},
}
"""What recipes have that not all of them have, by the beginning of their names."""

PROTOCOLS = {value for value in vars(protocols).values() if getattr(value, "_is_protocol", False)}
PROTOCOLS -= {RunSettings, protocols.SurfaceField, protocols.Protocol}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recipe_meets_exactly_its_protocols(variant):
    recipe = build(variant)
    has = {protocol for protocol in PROTOCOLS if isinstance(recipe, protocol)}
    assert has == ALL | next(more for name, more in MAY.items() if variant.startswith(name))
    assert all((missing_from(recipe, protocol) == []) == (protocol in has) for protocol in PROTOCOLS)
    assert settings_of(recipe) is recipe.config and isinstance(recipe.config, RunSettings)
    assert encoders_of(recipe).keys() == recipe.encoders().keys() != set()
    assert isinstance(recipe.surface_field(), protocols.SurfaceField)


class Half(nn.Module):
    """Half a recipe."""

    config = "a text"

    def __init__(self):
        super().__init__()
        self.grid = VoxelGrid((0.0, 0.0, 0.0, 1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
        self.encode = nn.Linear(1, 1)

    def targets(self, batch, num_rays=None):
        raise AssertionError


def test_what_half_a_recipe_lacks_is_said():
    """A submodule is none of its members, on no version of Python."""
    assert missing_from(Half(), Recipe) == ["encode", "encoders", "hide", "render"]
    said = str(lacking(Half(), RendersRays, "a point cloud"))
    assert said == "recipe: a point cloud needs encode, render, which Half does not have"
    assert not isinstance(Half(), Recipe)
    assert settings_of(Half()) is None and encoders_of(Half()) == {}
