"""What encoders say on a map, beside loops."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.data import Scene, SyntheticStreet
from renderpretrain.encoders import SparseTensor
from renderpretrain.encoders.levels import GridLevel, ImageLevel
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes.detection.bev import SLABS, bev_features, bev_grid
from renderpretrain.probes.task import one_batch

BOX = (-12.8, -12.8, -2.0, 12.8, 12.8, 2.0)
GRID = bev_grid(VoxelGrid(BOX, (0.8, 0.8, 1.0)))
SCENE = Scene("one", torch.zeros(0, 5), torch.zeros(3))


class Recipe(nn.Module):
    """Says what it is told to say."""

    def __init__(self, *levels):
        super().__init__()
        self.said = list(levels)

    def levels(self, batch, hidden=None):
        return self.said


def on_map(*levels, scene=SCENE):
    return bev_features(Recipe(*levels), one_batch(scene), GRID)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sides", "cells"),
    [
        ((102.4, 102.4), (128, 128)),
        ((6.4, 6.4), (64, 64)),
        ((70.4, 80.0), (88, 100)),
        ((500.0, 250.0), (256, 128)),
        ((108.0, 108.0), (135, 135)),
    ],
)
def test_cells_are_of_eighty_centimetres_unless_there_were_too_few_or_too_many(sides, cells):
    grid = VoxelGrid((0.0, 0.0, -1.0, *sides, 3.0), (sides[0], sides[1], 0.5))
    own = bev_grid(grid)
    assert own.shape == (1, cells[1], cells[0]) and own.point_cloud_range == grid.point_cloud_range
    assert bev_grid(own, 4).shape == (4, cells[1], cells[0])


def test_a_volumes_slices_are_channels():
    volume = noise(1, 3, 5, 64, 64)
    found = on_map(GridLevel("point_neck/0", volume, VoxelGrid(BOX, (0.4, 0.4, 0.8))))
    assert_close(found, volume.flatten(1, 2), rtol=0, atol=0)


def test_finer_columns_are_averaged_and_coarser_ones_read_between_centers():
    fine = noise(1, 2, 1, 128, 128)
    found = on_map(GridLevel("point_neck/0", fine, VoxelGrid(BOX, (0.2, 0.2, 4.0))))
    assert_close(found[0, :, 5, 7], fine[0, :, 0, 10:12, 14:16].mean((1, 2)))
    coarse = noise(1, 2, 1, 16, 16)
    found = on_map(GridLevel("point_neck/0", coarse, VoxelGrid(BOX, (1.6, 1.6, 4.0))))
    # In columns of 1.6 m the centre of cell 9 is 0.125 before that of column 2, that of 11 0.375 after it.
    column = 0.125 * coarse[0, :, 0, :, 1] + 0.875 * coarse[0, :, 0, :, 2]
    assert_close(found[0, :, 11, 9], 0.625 * column[:, 2] + 0.375 * column[:, 3])


def test_voxels_are_averaged_in_slabs_like_loops():
    grid, draw = VoxelGrid(BOX, (0.2, 0.2, 0.25)), torch.Generator().manual_seed(1)
    cells = torch.randint(0, 8, (400, 3), generator=draw) + torch.tensor([0, 40, 60])
    coords = torch.cat([torch.zeros(400, 1, dtype=torch.long), cells], 1).unique(dim=0)
    features = noise(len(coords), 3).requires_grad_()
    sparse = SparseTensor(features, coords.int(), grid.shape, 1)
    found = on_map(GridLevel("point_encoder/0", sparse, grid)).view(3, SLABS, 64, 64)
    expected = {}
    for (_, z, y, x), row in zip(coords.tolist(), features.detach(), strict=True):
        expected.setdefault((z // 2, y // 2, x // 2), []).append(row)
    for (z, y, x), rows in expected.items():
        assert_close(found[:, z, y, x].detach(), torch.stack(rows).mean(0))
    assert int((found.detach() != 0).any(0).sum()) == len(expected)
    found.sum().backward()
    assert (features.grad > 0).all()


def test_images_are_looked_up_at_the_centers_of_slabs():
    one = SyntheticStreet(1, image_size=(32, 48))[0]
    batch = one_batch(one)
    maps = noise(1, batch.views.images.shape[1], 2, 4, 6)
    level = ImageLevel("image_neck/0", maps)
    coarser = ImageLevel("image_neck/1", maps[..., :2, :3])
    backbone = ImageLevel("image_backbone/0", noise(1, maps.shape[1], 5, 8, 12))
    found = on_map(backbone, level, coarser, scene=one).view(2, SLABS, 64, 64)
    place = bev_grid(GRID, SLABS).centers()[2, 50, 31]
    assert_close(found[:, 2, 50, 31], level.read(place.view(1, 1, 3), batch.views)[0, 0])
    assert (found != 0).any(0).float().mean() > 0.3
    with pytest.raises(ValueError, match="image_neck/0: expected a scene with images, got none"):
        on_map(level)


def test_what_points_say_and_what_is_lifted_are_put_together():
    neck = GridLevel("point_neck/0", noise(1, 2, 1, 64, 64), VoxelGrid(BOX, (0.4, 0.4, 4.0)))
    encoder = GridLevel("point_encoder/0", noise(1, 9, 1, 64, 64), neck.grid)
    lifted = GridLevel("lifter/0", noise(1, 3, 1, 64, 64), neck.grid)
    image = ImageLevel("image_neck/0", noise(1, 1, 7, 4, 6))
    found = on_map(encoder, neck, image, lifted)
    assert_close(found, torch.cat([neck.features, lifted.features], 1)[:, :, 0], rtol=0, atol=0)


class OwnMap(nn.Module):
    """A recipe that has a map and no levels."""

    def __init__(self):
        super().__init__()
        self.grid = VoxelGrid(BOX, (0.8, 0.8, 1.0))

    def bev_features(self, batch):
        return noise(batch.size, 2, 64, 64)


def test_a_recipes_own_map_will_do_and_what_has_none_is_named():
    assert_close(bev_features(OwnMap(), one_batch(SCENE), GRID), noise(1, 2, 64, 64))
    with pytest.raises(ValueError, match="the task detection needs levels, which Linear does not have"):
        bev_features(nn.Linear(1, 1), one_batch(SCENE), GRID)
    with pytest.raises(ValueError, match="levels: expected at least one of Recipe, got none"):
        on_map()
