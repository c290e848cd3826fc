"""Recipes give all levels of what is taken home, each under its part's name and on its own grid."""

from dataclasses import replace

import pytest
import torch
from test_places import SMALL, build, room, street  # noqa: F401  fixtures
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders import GridLevel, ImageMaps, SparseTensor, VolumeEncoder
from renderpretrain.recipes import RECIPES, HasLevels
from renderpretrain.runs.settings import resolve

PONDER = [32, 32, 32]
LEVELS = {
    "unipad-lidar": {"point_encoder": [16, 32, 32, 32], "point_neck": [32, 32, 64, 32]},
    "unipad-camera": {"image_backbone": [32, 64, 96, 128], "image_neck": [32]},
    "unipad-fusion": {
        "point_encoder": [16, 32, 32, 32],
        "point_neck": [32, 32, 64, 32],
        "image_backbone": [32, 64, 96, 128],
        "image_neck": [32],
    },
    "ponder-outdoor": {"point_encoder": PONDER},
    "ponder-indoor": {"point_encoder": PONDER},
    "ns-mae": {
        "point_encoder": [16, 32, 32, 32],
        "image_backbone": [32, 64, 128, 256],
        "image_neck": [64, 64],
        "lifter": [32],
    },
    "uniscene": {"image_backbone": [24, 48, 96, 192], "image_neck": [32], "lifter": [4]},
}
"""Widths of the tiny presets, part by part."""

LEVELS |= {name.replace("unipad", "render-distill"): own for name, own in LEVELS.items() if "unipad" in name}

READ_TODAY = {
    "unipad-lidar": "point_neck/3",
    "render-distill-lidar": "point_neck/3",
    "ponder-outdoor": "point_encoder/0",
    "ponder-indoor": "point_encoder/0",
    "uniscene": "lifter/0",
}
"""The level that ``point_features`` reads, of recipes that read a grid of their own."""


def parts_of(levels):
    parts = {}
    for level in levels:
        part, number = level.name.split("/")
        parts.setdefault(part, []).append(level.channels)
        assert int(number) == len(parts[part]) - 1
    return parts


def hidden_of(name, recipe, batch):
    """What a step hides; something of it, also of ``uniscene``, whose images are masked only sometimes."""
    hidden = recipe.hide(batch)
    if name == "uniscene":
        hidden = replace(hidden, patches=torch.rand(hidden.patches.shape) < 0.5)
    return hidden


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_levels_of_every_recipe(name, street, room):  # noqa: F811
    batch, recipe = room if name == "ponder-indoor" else street, build(name)
    assert isinstance(recipe, HasLevels)
    levels = recipe.levels(batch)
    parts = parts_of(levels)
    assert parts == LEVELS[name]
    assert list(parts) == [part for part in recipe.encoders() if part in parts] == list(recipe.encoders())
    for level in levels:
        rows = level.rows()
        assert rows.shape[1] == level.channels and bool(rows.isfinite().all())
        if not isinstance(level, GridLevel):
            assert level.maps.shape[:2] == batch.views.images.shape[:2]
            continue
        # At the centres of the cells that there are, a level reads as what it holds there.
        centers = level.grid.centers().view(1, -1, 3)
        read, own = level.read(centers)[0], rows
        if isinstance(level.features, SparseTensor):
            z, y, x = level.features.coords.long()[:, 1:].unbind(1)
            read = read[(z * level.grid.shape[1] + y) * level.grid.shape[2] + x]
        scale = float(own.abs().max())
        assert_close(read, own.float(), rtol=0, atol=1e-4 * scale)  # an index is good to 1e-5 of a cell
    if name in READ_TODAY:
        level = next(level for level in levels if level.name == READ_TODAY[name])
        places = level.grid.centers().view(1, -1, 3)[:, ::7]
        if isinstance(level.features, SparseTensor):  # elsewhere ``point_features`` says nothing
            places = level.grid.to_world(level.features.coords[None, :, 1:].flip(2).float())
        assert_close(level.read(places), recipe.point_features(batch, places), rtol=0, atol=1e-4 * scale)
    if hasattr(recipe, "image_features"):
        maps = [level.maps for level in levels if level.name == "image_neck/0"]
        assert not maps or torch.equal(maps[0], recipe.image_features(batch))
    seen = recipe.levels(batch, hidden_of(name, recipe, batch))
    assert parts_of(seen) == LEVELS[name]
    assert not torch.equal(seen[-1].rows(), levels[-1].rows())


@pytest.mark.parametrize("name", ["unipad-fusion", "ns-mae", "uniscene", "ponder-outdoor"])
def test_every_level_leads_back_to_its_part(name, street):  # noqa: F811
    recipe = build(name)
    levels = {level.name: level for level in recipe.levels(street)}
    for part, network in recipe.encoders().items():
        mine = [level for key, level in levels.items() if key.startswith(part)]
        total = sum(level.rows().square().sum() for level in mine)
        grads = torch.autograd.grad(total, list(network.parameters()), allow_unused=True, retain_graph=True)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


@torch.no_grad()
@pytest.mark.parametrize("name", ["unipad-fusion", "ns-mae", "ponder-outdoor"])
def test_networks_of_ones_own_have_the_one_level_that_they_give(name, street):  # noqa: F811
    config = resolve(RECIPES[name].presets["tiny"], [SMALL[name]])
    step = 1 if name == "ponder-outdoor" else 2
    network = nn.Conv3d(len(config.points), 6, 3, stride=step, padding=1)
    own = {"encoder": VolumeEncoder(network, 6, stride=step, first=0)}
    if name != "ponder-outdoor":
        own["image_backbone"] = ImageMaps(nn.Conv2d(3, 8, 8, stride=8), channels=[8])
    if name == "ns-mae":
        own.pop("image_backbone")
    recipe = RECIPES[name].build(config, **own).eval()
    parts = parts_of(recipe.levels(street))
    assert parts["point_encoder"] == [6]
    if "image_backbone" in own:
        assert parts["image_backbone"] == [8]
    level = next(level for level in recipe.levels(street) if level.name == "point_encoder/0")
    assert level.features.shape[2:] == level.grid.shape
    if name != "ponder-outdoor":
        assert level.grid == recipe.lidar.out_grid
