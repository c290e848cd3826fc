"""Every recipe takes encoders of the user's own in the place of its published ones, where they fit."""

import pytest
import torch
from torch import nn

from renderpretrain import VoxelGrid
from renderpretrain.encoders import ImageMaps, VolumeEncoder, check_image_encoder, check_point_encoder
from renderpretrain.recipes import RECIPES

GRID = VoxelGrid((0, 0, 0, 8, 8, 4), voxel_size=(0.5, 0.5, 0.5))


def volumes(channels, stride=(2, 2, 2), first=0):
    network = nn.Conv3d(channels, 6, 3, stride=stride, padding=1)
    return VolumeEncoder(network, 6, stride=stride, first=first)


class TwoMaps(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 8, stride=8), nn.Conv2d(6, 8, 2, stride=2)

    def forward(self, images):
        return [fine := self.fine(images), self.coarse(fine)]


def maps():
    return ImageMaps(TwoMaps(), channels=[6, 8])


@pytest.mark.parametrize(
    ("name", "stride", "roles"),
    [
        ("unipad-lidar", (2, 2, 2), {"encoder"}),
        ("unipad-camera", None, {"image_backbone"}),
        ("unipad-fusion", (2, 2, 2), {"encoder", "image_backbone"}),
        ("ponder-outdoor", (1, 1, 1), {"encoder"}),
        ("ponder-indoor", (1, 1, 1), {"encoder"}),
        ("ns-mae", (2, 2, 2), {"encoder", "image_backbone"}),
        ("uniscene", None, {"image_backbone"}),
    ],
)
def test_a_network_of_ones_own_is_what_is_trained_and_taken_home(name, stride, roles):
    entry = RECIPES[name]
    config = entry.presets["tiny"]
    parts = {}
    if "encoder" in roles:
        parts["encoder"] = volumes(len(config.points), stride)
    if "image_backbone" in roles:
        parts["image_backbone"] = maps()
    recipe = entry.build(config, **parts)
    trained = {id(parameter) for parameter in recipe.parameters()}
    home = {id(p) for module in recipe.encoders().values() for p in module.parameters()}
    for module in parts.values():
        assert {id(parameter) for parameter in module.parameters()} <= trained & home
        assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        (
            "unipad-lidar",
            {"encoder": nn.Conv3d(5, 6, 3)},
            "expected a module with out_channels and output_gr",
        ),
        (
            "unipad-lidar",
            {"encoder": volumes(5, (1, 1, 1))},
            r"of \(11, 128, 128\) cells, .* a stride of 2 x 2 x 2 .*, got \(22, 256, 256\) of one that says",
        ),
        ("unipad-lidar", {"image_backbone": maps()}, "image_backbone: expected an encoder of points"),
        (
            "unipad-camera",
            {"encoder": volumes(5)},
            "encoder: expected an image_backbone, for the recipe has no",
        ),
        (
            "unipad-camera",
            {"image_backbone": nn.Conv2d(3, 6, 8)},
            "image_backbone: expected a module with cha",
        ),
        (
            "ponder-outdoor",
            {"encoder": nn.Sequential()},
            "expected a module with out_channels, got Sequential",
        ),
        (
            "uniscene",
            {"image_backbone": nn.Conv2d(3, 6, 8)},
            "image_backbone: expected a module with channels",
        ),
        ("unipad-lidar", {"encoder": volumes(4)}, r"encoder: VolumeEncoder fails on 5 columns of 6. voxels"),
        ("ponder-outdoor", {"encoder": volumes(5)}, "encoder: VolumeEncoder fails on 4 columns of 6. voxels"),
        ("ponder-indoor", {"encoder": volumes(5)}, "encoder: VolumeEncoder fails on 4 columns of 64 voxels"),
        ("ns-mae", {"encoder": volumes(4)}, "encoder: VolumeEncoder fails on 5 columns of 6. voxels"),
        (
            "ns-mae",
            {"image_backbone": ImageMaps(nn.Conv2d(3, 6, 8, stride=8), [6])},
            "image_backbone: expected at least two maps, fine to coarse, for NS-MAE's neck to join, got one",
        ),
        (
            "unipad-camera",
            {"image_backbone": ImageMaps(nn.Conv2d(1, 6, 8, stride=8), [6])},
            r"image_backbone: ImageMaps fails on an image \(1, 3, 128, 224\)",
        ),
        (
            "uniscene",
            {"image_backbone": ImageMaps(nn.Conv2d(3, 6, 8, stride=8), [8])},
            r"image_backbone: ImageMaps fails on an image \(1, 3, 96, 160\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(name, parts, message):
    with pytest.raises(ValueError, match=message):
        RECIPES[name].build(RECIPES[name].presets["tiny"], **parts)


class Wrong(VolumeEncoder):
    """Says half of the stride that it has."""

    def forward(self, x):
        return self.network(x.dense())


def test_a_few_voxels_say_whether_an_encoder_of_points_keeps_its_word():
    encoder = nn.Sequential(nn.BatchNorm3d(5), nn.Conv3d(5, 6, 3, stride=2, padding=1))
    whole = VolumeEncoder(encoder, 6, stride=2, first=0)
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in whole.state_dict().items()}
    check_point_encoder(whole, 5, GRID)
    assert torch.equal(before, torch.get_rng_state()) and whole.training
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())
    wrong = Wrong(nn.Conv3d(5, 6, 3, stride=4, padding=1), 6, stride=2, first=0)
    message = r"volume \(1, 6, 4, 8, 8\) of voxels \(8, 16, 16\).*stride 2 x 2 x 2\), got \(1, 6, 2, 4, 4\) "
    with pytest.raises(ValueError, match=message + r"\(stride 4 x 4 x 4\)"):
        check_point_encoder(wrong, 5, GRID)
    with pytest.raises(ValueError, match=r"VolumeEncoder fails on 4 columns of 64 voxels in \(8, 16, 16\)"):
        check_point_encoder(volumes(5), 4, GRID)


class Placed(nn.Module):
    """Learns something of every place of the whole grid."""

    def __init__(self, shape):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(1, 6, *shape))
        self.layer = nn.Conv3d(5, 6, 1)

    def forward(self, voxels):
        return self.layer(voxels) + self.places


def test_a_network_for_one_grid_alone_is_tried_on_it():
    grid = VoxelGrid((0, 0, 0, 20, 20, 2), voxel_size=(0.5, 0.5, 0.5))  # wider than the part that is tried
    check_point_encoder(VolumeEncoder(Placed(grid.shape), 6), 5, grid)
    with pytest.raises(ValueError, match=r"fails on 5 columns of \d+ voxels in \(4, 40, 40\)"):
        check_point_encoder(VolumeEncoder(Placed((4, 40, 39)), 6), 5, grid)


def test_a_network_without_numbers_is_refused():
    encoder, images = volumes(5), maps()
    with torch.no_grad():
        encoder.network.bias.fill_(float("nan"))
        images.network.coarse.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="encoder: expected finite numbers, got NaN"):
        check_point_encoder(encoder, 5, GRID)
    with pytest.raises(ValueError, match="image_backbone: expected finite numbers, got NaN"):
        check_image_encoder(images, (64, 96))


def test_one_image_says_whether_an_encoder_of_images_keeps_its_word():
    check_image_encoder(maps(), (64, 96))
    wrong = maps()
    wrong.forward = lambda images, hidden: [*wrong.network(images), images]
    message = r"with C of \(6, 8\), got \(1, 6, 8, 12\), .* \(strides 8 x 8, 16 x 16, 1 x 1\)"
    with pytest.raises(ValueError, match=message):
        check_image_encoder(wrong, (64, 96))
    with pytest.raises(ValueError, match=r"fails on an image \(1, 3, 4, 4\)"):
        check_image_encoder(maps(), (4, 4))
