"""Hand-made numbers against a slow statement of each, and what a probe's head makes of all levels."""

import math
from itertools import combinations_with_replacement

import pytest
import torch
from probe_stand_in import scene
from torch import nn
from torch.testing import assert_close

from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.encoders import GridLevel, ImageLevel
from renderpretrain.probes import ProbeSamples, handmade_numbers
from renderpretrain.probes.features import map_features, place_features
from renderpretrain.probes.head import Head
from renderpretrain.probes.loading import load_encoders
from renderpretrain.recipes import RECIPES
from renderpretrain.recipes.places import read_maps
from renderpretrain.runs.settings import resolve

NEAR = {"point_cloud_range": [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8], "image_size": [32, 64]}


def slowly(one, position, intensity):
    """Every number by itself."""
    x, y, z = position
    ox, oy, oz = one.lidar_origin.tolist()
    plane = math.hypot(x - ox, y - oy)
    numbers = [x, y, z, plane, math.hypot(plane, z - oz)] + ([] if intensity is None else [intensity])
    products = [a * b for a, b in combinations_with_replacement(numbers, 2)]
    column = (math.floor(x / 0.8), math.floor(y / 0.8))
    heights = [
        p[2]
        for p, key in zip(one.points.tolist(), one.of_key_sweep.tolist(), strict=True)
        if key and (math.floor(p[0] / 0.8), math.floor(p[1] / 0.8)) == column
    ]
    mean = sum(heights) / max(len(heights), 1)
    spread = [max(heights) - min(heights)] if heights else [0.0]
    deviation = math.sqrt(sum((h - mean) ** 2 for h in heights) / max(len(heights), 1))
    return [*numbers, *products, *spread, deviation, math.log1p(len(heights))]


def test_handmade_numbers_are_those_of_a_slow_loop():
    one = scene(0, count=600)
    one.points[::5, 4] = 0.1  # of an older sweep
    one.lidar_origin[2] = 1.5
    of_points = handmade_numbers(one, one.points[:60, :3], one.points[:60, 3])
    rows = one.points[:60].tolist()
    assert_close(of_points, torch.tensor([slowly(one, row[:3], row[3]) for row in rows]))
    assert of_points.shape[1] == 6 + 21 + 3
    places = torch.rand(40, 3) * 12 - 6  # some in columns without a point
    assert_close(handmade_numbers(one, places), torch.tensor([slowly(one, p, None) for p in places.tolist()]))
    nothing = handmade_numbers(one.__class__("empty", one.points[:0], one.lidar_origin), places)
    assert nothing[:, -3:].abs().sum() == 0 and nothing.isfinite().all()
    samples = ProbeSamples(places, torch.arange(40), handmade=nothing)
    assert_close(samples[3:5].handmade, nothing[3:5])


def test_a_head_is_a_batch_norm_in_evaluation_and_a_linear_layer():
    """ScaLR's probe: a batch norm whose statistics are those of the training places, then a linear layer."""
    features = torch.randn(5000, 4) * torch.tensor([0.1, 1.0, 30.0, 5.0]) + torch.tensor(
        [1.0, 0.0, 9.0, -50.0]
    )
    head = Head(features, 3, seed=0)
    norm = nn.BatchNorm1d(4, momentum=None)
    norm(features)  # takes its statistics
    with torch.no_grad():  # whatever factors and offsets it has are another linear layer
        norm.weight.copy_(torch.tensor([2.0, 0.5, -1.0, 3.0]))
        norm.bias.copy_(torch.randn(4))
        linear = nn.Linear(4, 3)
        linear.weight.copy_(head.linear.weight / norm.weight)
        linear.bias.copy_(head.linear.bias - linear.weight @ norm.bias)
    published = nn.Sequential(norm, linear).eval()
    others = features[::100] + 0.05 * torch.randn(50, 4)
    # Of a norm's variances 1e-5 is added, and they are divided by n - 1: 5e-4 of the narrowest feature.
    assert_close(published(others), head(others), rtol=2e-3, atol=2e-3)


@pytest.fixture(scope="module")
def street():
    return collate([SyntheticStreet(1, image_size=(32, 64), points_per_beam=100, with_truth=False)[0]])


@torch.no_grad()
@pytest.mark.parametrize("name", ["unipad-fusion", "unipad-camera"])
def test_all_levels_are_read_side_by_side(name, street):
    recipe = RECIPES[name].build(resolve(RECIPES[name].presets["tiny"], [NEAR])).eval()
    positions = street.points.xyz[:, :200]
    read = place_features(recipe, street, positions, "all", "semseg")
    levels = recipe.levels(street)
    parts = []
    for level in levels:
        if isinstance(level, GridLevel):
            parts.append(level.read(positions))
        elif level.name == "image_neck/0":
            parts.append(read_maps(level.maps, positions, street.views))
        else:
            parts.append(level.read(positions, street.views))
    assert_close(read, torch.cat(parts, -1))
    last = place_features(recipe, street, positions, "last", "semseg")
    assert_close(last, recipe.point_features(street, positions))
    maps, neck = map_features(recipe, street, "all", "depth"), recipe.image_features(street)
    images = [level for level in levels if isinstance(level, ImageLevel)]
    assert maps.shape[2] == sum(level.channels for level in images)
    assert maps.shape[3:] == neck.shape[3:]
    assert_close(maps[:, :, -neck.shape[2] :], neck)
    assert_close(map_features(recipe, street, "last", "depth"), neck)
    recipe.camera.lifter = recipe.lidar = None  # nothing but the images is needed for their features
    assert torch.equal(map_features(recipe, street, "all", "depth"), maps)
    finest = images[0].maps
    ratio = finest.shape[3] // neck.shape[3]
    means = nn.functional.avg_pool2d(finest.flatten(0, 1), ratio).unflatten(0, finest.shape[:2])
    assert_close(maps[:, :, : images[0].channels], means)


def test_a_run_s_own_weights_fit_whole():
    recipe = RECIPES["unipad-lidar"].build(resolve(RECIPES["unipad-lidar"].presets["tiny"], [NEAR]))
    share, count = load_encoders(recipe, recipe.state_dict())
    trained = sum(p.numel() for part in recipe.encoders().values() for p in part.parameters())
    assert share == 1.0 and count > trained
