"""What a probe reads: the encoders that are taken home, at places of the world, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SyntheticRoom, SyntheticStreet, collate
from renderpretrain.encoders import voxelize
from renderpretrain.geometry import Cameras, Views, VoxelGrid
from renderpretrain.recipes import RECIPES, HasBEVFeatures
from renderpretrain.recipes.places import read_maps, read_voxels
from renderpretrain.runs.settings import resolve

NEAR = [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]
UNIPAD = {"point_cloud_range": NEAR, "image_size": [32, 64]}
SMALL = {
    "unipad-lidar": UNIPAD,
    "unipad-camera": UNIPAD,
    "unipad-fusion": UNIPAD,
    "render-distill-lidar": UNIPAD,
    "render-distill-camera": UNIPAD,
    "render-distill-fusion": UNIPAD,
    "ponder-outdoor": UNIPAD,
    "ponder-indoor": {"image_size": [32, 64]},
    "ns-mae": UNIPAD,
    "uniscene": {
        "point_cloud_range": [-12.8, -12.8, -3.0, 12.8, 12.8, 5.0],
        "voxel_size": [0.8, 0.8, 1.0],
        "channels": 32,
        "image_size": [32, 64],
        "attention": {"num_layers": 1, "num_heads": 2, "hidden_channels": 32, "history": 0},
    },
}
"""A dozen metres and small pictures."""

WITH_IMAGES = tuple(name for name in RECIPES if name.endswith(("-camera", "-fusion", "ns-mae", "uniscene")))


def build(name):
    torch.manual_seed(0)
    return RECIPES[name].build(resolve(RECIPES[name].presets["tiny"], [SMALL[name]])).eval()


@pytest.fixture(scope="module")
def street():
    return collate([SyntheticStreet(1, image_size=(32, 64), points_per_beam=200, with_truth=False)[0]])


@pytest.fixture(scope="module")
def room():
    return collate([SyntheticRoom(1, image_size=(32, 64), num_points=2000, with_truth=False)[0]])


def features(recipe, batch, name):
    found = {"points": recipe.point_features(batch, batch.points.xyz)}
    if name in WITH_IMAGES:
        found["images"] = recipe.image_features(batch)
    if isinstance(recipe, HasBEVFeatures):
        found["ground"] = recipe.bev_features(batch)
        assert found["ground"].shape[-2:] == recipe.grid.shape[1:]
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_features_follow_from_the_encoders_and_from_nothing_else(name, street, room):
    batch, recipe = room if name == "ponder-indoor" else street, build(name)
    before = features(recipe, batch, name)
    assert before["points"].shape[:2] == batch.points.xyz.shape[:2]
    assert all(bool(value.isfinite().all()) and value.abs().sum() > 0 for value in before.values())
    taken = {id(p) for part in recipe.encoders().values() for p in part.parameters()}
    for parameter in recipe.parameters():
        if id(parameter) not in taken:
            parameter.normal_()
    for what, value in features(recipe, batch, name).items():
        assert_close(value, before[what], rtol=0, atol=0)
    for parameter in recipe.parameters():
        if id(parameter) in taken:
            parameter *= 1.5
    for what, value in features(recipe, batch, name).items():
        assert not torch.allclose(value, before[what])


def test_a_recipe_without_images_says_so(street):
    with pytest.raises(ValueError, match="unipad-lidar has no image encoder"):
        build("unipad-lidar").image_features(street)


@torch.no_grad()
def test_a_volume_is_read_at_the_centre_of_its_voxels(street):
    recipe = build("unipad-lidar")
    centers = recipe.grid.centers().view(1, -1, 3)
    volume = recipe.lidar(street, None)
    assert_close(recipe.point_features(street, centers).mT.view(volume.shape), volume)


def test_a_voxel_is_found_where_its_points_are():
    grid = VoxelGrid((0.0, 0.0, 0.0, 4.0, 3.0, 2.0), (1.0, 1.0, 1.0))
    points = torch.rand(2, 15, 4) * torch.tensor([5.0, 4.0, 3.0, 1.0]) - 0.5
    valid = torch.ones(2, 15, dtype=torch.bool)
    valid[1, 9:] = False
    voxels = voxelize(points, valid, grid)
    rows = torch.rand(len(voxels.coords), 3)
    asked = torch.rand(2, 60, 3) * torch.tensor([5.0, 4.0, 3.0]) - 0.5
    read = read_voxels(rows, voxels, asked)
    places = {tuple(c): row for c, row in zip(voxels.coords.tolist(), rows, strict=True)}
    for b in range(2):
        for position, value in zip(asked[b], read[b], strict=True):
            x, y, z = torch.floor(position).int().tolist()
            assert_close(value, places.get((b, z, y, x), torch.zeros(3)))
    nothing = voxelize(points, valid & False, grid)
    assert_close(read_voxels(rows[:0], nothing, asked), torch.zeros(2, 60, 3))


def test_maps_are_read_where_cameras_see_a_place():
    """A map that holds the pixel's own coordinates gives them back; two cameras give their mean."""
    intrinsics = torch.tensor([[20.0, 0.0, 16.0], [0.0, 20.0, 8.0], [0.0, 0.0, 1.0]])
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[1, 0, 3] = 1.0  # a metre to the right
    cameras = Cameras(intrinsics.expand(1, 3, 3, 3), poses[None], (16, 32))
    v, u = torch.meshgrid(torch.arange(4) * 4 + 2.0, torch.arange(8) * 4 + 2.0, indexing="ij")
    maps = torch.stack([u, v]).expand(1, 3, 2, 4, 8)
    views = Views(torch.zeros(1, 3, 3, 16, 32), cameras, torch.tensor([[True, True, False]]))
    positions = torch.tensor([[[0.5, 0.2, 5.0], [6.5, 0.0, 8.0], [0.0, 0.0, -3.0]]])
    read = read_maps(maps, positions, views)
    # u = 16 + 20 x / z: 18 and 14 of the two cameras; v = 8 + 20 * 0.2 / 5
    log = torch.tensor(5.0 / 10).log()
    expected = torch.tensor([16.0, 8.8])
    assert_close(read[0, 0], torch.cat([expected, expected * log, expected * log.square()]))
    assert_close(read[0, 1, :2], torch.tensor([29.75, 8.0]))  # the first camera looks past it
    assert_close(read[0, 2], torch.zeros(6))
    # Where the first camera's image is padding, only the second is read.
    seen = torch.ones(1, 3, 16, 32, dtype=torch.bool)
    seen[0, 0, :, 16:] = False
    read = read_maps(maps, positions, replace(views, image_valid=seen))
    assert_close(read[0, 0, :2], torch.tensor([14.0, 8.8]))
