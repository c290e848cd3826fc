"""Hand-made numbers against a slow statement of each, and what a probe's head makes of all levels."""

import math
from dataclasses import replace
from itertools import combinations_with_replacement

import pytest
import torch
from probe_stand_in import scene
from torch import nn
from torch.testing import assert_close

from renderpretrain.data import Scene, SyntheticStreet, collate
from renderpretrain.encoders import GridLevel, ImageLevel
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes import ProbeSamples, depth, handmade_numbers, occupancy, semseg
from renderpretrain.probes.detection import bev_grid, detection
from renderpretrain.probes.features import map_features, place_features
from renderpretrain.probes.handmade import ground_numbers, pixel_numbers
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
    samples = ProbeSamples(places, torch.arange(40)).beside(ProbeSamples(nothing, torch.arange(40)))
    assert_close(samples[3:5].features, torch.cat([places, nothing], 1)[3:5])


def test_a_cell_of_the_ground_knows_its_points_and_no_others():
    grid = VoxelGrid((-2.0, -1.0, -3.0, 2.0, 1.0, 1.0), (1.0, 1.0, 4.0))
    points = torch.zeros(6, 5)
    points[:3, :4] = torch.tensor([[-1.5, 0.5, -0.5, 0.2], [-1.1, 0.9, 1.5, 0.4], [-1.9, 0.1, -1.0, 0.3]])
    points[3, :4] = torch.tensor([1.5, -0.5, 9.0, 1.0])  # over the map at any height
    points[4] = torch.tensor([1.5, -0.5, 7.0, 1.0, 0.1])  # of an older sweep
    points[5, 0] = 2.0  # beside the map
    numbers = ground_numbers(Scene("few", points, torch.zeros(3)), grid)
    assert numbers.shape == (1, 6, 2, 4)
    heights = torch.tensor([-0.5, 1.5, -1.0])
    of_three = [1.5, -1.0, heights.std(correction=0).item(), math.log(4), 0.3, 0.4]
    expected = torch.zeros(6, 2, 4)
    expected[:, 1, 0] = torch.tensor(of_three)
    expected[:, 0, 3] = torch.tensor([9.0, 9.0, 0.0, math.log(2), 1.0, 1.0])
    assert_close(numbers[0], expected)
    nothing = ground_numbers(Scene("empty", points[:0], torch.zeros(3)), grid)
    assert not nothing.any()


def test_a_pixel_knows_its_place_its_ray_and_its_colour(street):
    size = (4, 8)  # of pictures of 32 x 64
    numbers = pixel_numbers(street.views, size)
    views, base = street.views, 9
    count = views.images.shape[1]
    assert numbers.shape == (1, count, base + base * (base + 1) // 2, *size)
    for n, row, column in ((0, 0, 0), (count - 1, 3, 5)):
        camera, patch = views.cameras[0, n], views.images[0, n, :, 8 * row : 8 * row + 8]
        ray = camera.rays(torch.tensor([[8.0 * column + 4, 8.0 * row + 4]]))
        place = torch.tensor([(column + 0.5) / 4 - 1, (row + 0.5) / 2 - 1])
        colour = patch[:, :, 8 * column : 8 * column + 8].mean((1, 2))
        told = torch.cat([place, ray.directions[0], camera.centers[2:], colour])
        products = torch.stack([a * b for a, b in combinations_with_replacement(told, 2)])
        assert_close(numbers[0, n, :, row, column], torch.cat([told, products]))


def test_hand_made_numbers_of_a_task_are_those_of_the_places_that_it_reads(street):
    one = SyntheticStreet(1, image_size=(32, 64), points_per_beam=100, with_truth=False)[0]
    recipe = RECIPES["unipad-camera"].build(resolve(RECIPES["unipad-camera"].presets["tiny"], [NEAR])).eval()
    tasks = [semseg(one.class_names), occupancy(), depth()]
    tasks.append(detection({"train": [one]}, bev_grid(recipe.grid)))
    for task, width in zip(tasks, (30, 23, 54, 6), strict=True):
        with torch.no_grad():
            own, by_hand = task.read(recipe, one, 50), task.by_hand().read(recipe, one, 50)
        assert_close(own.answers, by_hand.answers)
        assert by_hand.features.shape[1] == width and by_hand.features.isfinite().all()
        both = own.beside(by_hand).features
        assert_close(both, torch.cat([own.features, by_hand.features], 1))
    with pytest.raises(ValueError, match="task: semseg has no hand-made numbers"):
        replace(tasks[0], handmade=None).by_hand()


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


def test_only_what_is_taken_home_comes_from_a_run():
    """Corrections of cameras, decoders and renderers stay fresh."""
    config = resolve(RECIPES["unipad-camera"].presets["tiny"], [NEAR, {"calibration": {"refine": True}}])
    run, fresh = (RECIPES["unipad-camera"].build(config) for _ in range(2))
    with torch.no_grad():
        for value in run.state_dict().values():
            value.copy_(value + 1)
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    load_encoders(fresh, run.state_dict())
    parts = [value.data_ptr() for part in fresh.encoders().values() for value in part.state_dict().values()]
    own = {key for key, value in fresh.state_dict().items() if value.data_ptr() in parts}
    assert own and len(own) < len(before)
    for key, value in fresh.state_dict().items():
        assert_close(value, run.state_dict()[key] if key in own else before[key], rtol=0, atol=0)
