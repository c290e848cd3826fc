"""What is shown of a recipe that has learned nothing: where it lies, and what there is to choose."""

import pytest
import torch

from renderpretrain.data import SyntheticStreet
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.features import FeaturePalette, encoder_features
from renderpretrain.viewer import trained_contents


@pytest.fixture(scope="module")
def looked_at():
    """A small recipe, a street, what its encoders say of it, and what is shown of both."""
    entry = RECIPES["unipad-fusion"]
    config = entry.presets["tiny"].model_copy(update={"image_size": (32, 64)})
    scene = SyntheticStreet(1, image_size=(32, 64), num_beams=8, with_truth=False)[0]
    torch.manual_seed(0)
    recipe = entry.build(config).eval()
    features = encoder_features(recipe, scene)
    colored = {"features after": (features, FeaturePalette.of(features))}
    contents = trained_contents(recipe, scene, colored, torch.zeros(0, 3), title="t", rays=600)
    return recipe, scene, features, contents


def test_visible_and_hidden_voxels_are_those_of_the_points(looked_at):
    recipe, scene, _, contents = looked_at
    layers = {layer.name: layer for layer in contents.layers}
    (visible,), (hidden,) = layers["visible voxels"].things, layers["hidden voxels"].things
    shown = torch.cat([visible.centers, hidden.centers])
    grid = recipe.lidar.grid
    points = scene.points[:, :3]
    inside = points[grid.contains(points)]
    assert len(shown) == len(grid.cells(inside).unique(dim=0))
    assert torch.equal(grid.cells(shown).unique(dim=0), grid.cells(inside).unique(dim=0))
    away = (torch.cdist(inside, shown).min(1).values / grid.voxel_size[0]).max()
    assert away < 3**0.5 / 2 + 1e-3  # half a voxel's diagonal: a centre, not a corner
    assert 0.3 < len(hidden.centers) / len(shown) < 0.7  # the preset hides half of the blocks


def test_points_and_cameras_can_have_the_colours_of_features(looked_at):
    _, scene, features, contents = looked_at
    layers = {layer.name: layer for layer in contents.layers}
    (cloud,) = layers["points"].things
    assert cloud.colors["features after"].shape == (len(scene.points), 3)
    assert len(cloud.colors["features after"].unique(dim=0)) > 50
    assert features["images"].shape[0] == len(layers["cameras"].things) == 6
    pictures = layers["cameras"].things[0].pictures
    assert list(pictures)[:2] == ["picture", "masked picture"]
    assert {"rendered depth", "rendered colour", "features after"} <= set(pictures)
    assert pictures["features after"].shape == pictures["picture"].shape == (32, 64, 3)
    assert (pictures["masked picture"] != pictures["picture"]).any()


def test_what_is_not_there_is_said(looked_at):
    """A layer or a sentence for everything: nothing is left out in silence."""
    *_, contents = looked_at
    told = [*(layer.name for layer in contents.layers), *contents.remarks]
    for name in ("rendered depth", "occupancy, measured", "occupancy, from the field", "surface"):
        assert sum(words.startswith(name) for words in told) == 1, (name, told)


@pytest.mark.untyped
def test_what_is_no_recipe_is_refused(looked_at):
    _, scene, _, _ = looked_at
    with pytest.raises(ValueError, match=r"recipe: the viewer needs .*, which Linear does not have"):
        trained_contents(torch.nn.Linear(1, 1), scene, {}, torch.zeros(0, 3), title="t")
