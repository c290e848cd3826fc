import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SyntheticRoom
from renderpretrain.data.synthetic.room_layout import FLOOR, WALL


@pytest.fixture(scope="module")
def scene():
    return SyntheticRoom(3, image_size=(48, 64))[1]


def test_the_same_index_gives_the_same_room(scene):
    again = SyntheticRoom(2, image_size=(48, 64))[1]
    assert torch.equal(scene.points, again.points) and torch.equal(scene.images, again.images)
    assert not torch.equal(SyntheticRoom(2, seed=5, image_size=(48, 64))[1].images, scene.images)


def test_every_ray_ends_in_the_room(scene):
    assert scene.truth.hit.all()
    assert scene.truth.depth.max() < 10


def test_the_depth_image_is_the_ray_depth_along_the_optical_axis_but_for_the_noise(scene):
    height, width = scene.cameras.image_size
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    focal = scene.cameras.intrinsics[0, 0, 0]
    stretch = (1 + ((u - width / 2) / focal) ** 2 + ((v - height / 2) / focal) ** 2).sqrt()
    exact = scene.truth.depth / stretch
    error = (scene.z_depths - exact)[scene.z_depth_valid] / exact[scene.z_depth_valid] ** 2
    assert scene.z_depth_valid.float().mean() > 0.9
    assert (scene.z_depths[~scene.z_depth_valid] == 0).all()
    assert_close(error.std(), torch.tensor(2e-3), atol=2e-4, rtol=0)  # 11000 pixels: one percent of spread
    assert error.abs().max() < 6 * 2e-3


def test_points_lie_on_the_surfaces_of_the_truth(scene):
    found = 0
    for n in range(4):
        pixels, z_depth, inside = scene.cameras[n].project(scene.points[:, :3])
        u, v = pixels[inside].long().unbind(-1)
        found += int(((scene.z_depths[n, v, u] - z_depth[inside]).abs() < 1e-3).sum())
    assert found >= len(scene.points)  # each point comes from a pixel of at least one view
    assert scene.points.shape == (8192, 5) and scene.points.isfinite().all()
    assert (scene.points[:, 4] == 0).all()
    assert scene.points[:, 3].min() >= 0 and scene.points[:, 3].max() <= 1


def test_classes_are_those_of_the_truth_and_a_point_has_that_of_its_pixel(scene):
    assert torch.equal(scene.pixel_labels.long(), scene.truth.semantics)
    assert scene.class_names == scene.truth.class_names
    agree = torch.zeros(len(scene.points), dtype=torch.bool)
    for n in range(4):
        pixels, z_depth, inside = scene.cameras[n].project(scene.points[:, :3])
        u, v = torch.where(inside[:, None], pixels, 0.0).long().unbind(-1)
        near = inside & ((scene.z_depths[n, v, u] - z_depth).abs() < 1e-3)
        agree |= near & (scene.pixel_labels[n, v, u] == scene.point_labels)
    assert agree.all()


def test_a_night_is_another_data_set():
    day = SyntheticRoom(1, image_size=(48, 64))[0]
    night = SyntheticRoom(1, image_size=(48, 64), night=True)[0]
    assert night.images.max() <= 0.4 and day.images.max() > 0.6
    assert night.class_names == ("free", "floor", "wall", "ceiling", "furniture", "thing")
    assert torch.equal(night.pixel_labels.long(), night.truth.semantics)
    assert set(night.truth.occupancy.unique().tolist()) == set(range(6))
    assert night.truth.semantics.max() == 5 and day.truth.semantics.max() == 10
    assert night.truth.depth.shape == day.truth.depth.shape
    assert not torch.equal(night.truth.depth, day.truth.depth)


def test_the_lidar_origin_is_the_mean_of_the_camera_centres(scene):
    assert_close(scene.lidar_origin, scene.cameras.camera_to_world[:, :3, 3].mean(0))


def test_cameras_stand_upright_in_free_space():
    for scene in SyntheticRoom(4, image_size=(24, 32)):
        grid, occupancy = scene.truth.grid, scene.truth.occupancy
        z, y, x = grid.cells(scene.cameras.centers).unbind(-1)
        assert (occupancy[z, y, x] == 0).all()
        right, down, forward = scene.cameras.camera_to_world[:, :3, :3].unbind(-1)
        assert_close(right[:, 2], torch.zeros(4), atol=1e-6, rtol=0)
        assert (down[:, 2] < -0.5).all()
        assert_close(torch.linalg.cross(right, down), forward, atol=1e-6, rtol=0)
        assert scene.truth.depth.min() > 0.05


def test_the_floor_is_at_height_zero_and_walls_are_upright(scene):
    truth = scene.truth
    up = truth.normals[:, 2]
    assert (up[truth.semantics == FLOOR] >= -1e-6).all()
    assert (up[truth.semantics == WALL].abs() < 1e-6).float().mean() > 0.99  # all but the door's top edge
    below = truth.grid.centers()[..., 2] < 0
    middle = truth.grid.centers()[..., :2].norm(dim=-1) < 2
    assert (truth.occupancy[below & middle] == FLOOR).all()
