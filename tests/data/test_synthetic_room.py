import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SyntheticRoom
from renderpretrain.data.synthetic.room_layout import CLASS_NAMES, FLOOR, WALL


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


def test_floors_are_level_walls_upright_and_what_is_under_the_floor_is_floor(scene):
    truth, cameras = scene.truth, scene.cameras
    up = truth.normals[:, 2]
    floor = truth.semantics == FLOOR
    assert (up[floor] > -1e-6).all() and (up[floor] > 0.99).float().mean() > 0.5  # the rest are steps
    assert (up[truth.semantics == WALL].abs() < 1e-6).float().mean() > 0.9  # all but top edges
    height, width = cameras.image_size
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = cameras.rays(
        torch.stack([u, v], -1).reshape(1, -1, 2).expand(len(cameras.camera_to_world), -1, -1)
    )
    points = rays.origins + truth.depth.flatten(1)[..., None] * rays.directions
    below = points[floor.flatten(1) & (up.flatten(1) > 0.99)] - torch.tensor([0.0, 0.0, 0.15])
    z, y, x = truth.grid.cells(below[truth.grid.contains(below)]).unbind(-1)
    assert len(z) > 100
    assert (truth.occupancy[z, y, x] == FLOOR).float().mean() > 0.9  # a rug is thinner than a voxel


def test_rooms_are_turned_and_their_floors_lie_at_other_heights():
    headings, floors, found = [], [], torch.zeros(len(CLASS_NAMES), dtype=torch.long)
    for room in SyntheticRoom(8, image_size=(48, 64), with_truth=False):
        wall = room.normals[room.point_labels == WALL]
        # Walls stand at right angles: four times their heading is one and the same angle.
        headings.append(4 * torch.atan2(wall[:, 1], wall[:, 0]).median())
        floors.append(room.points[room.point_labels == FLOOR, 2].min())
        found += torch.bincount(room.point_labels, minlength=len(CLASS_NAMES))
    assert torch.stack(headings).cos().std() > 0.3 and torch.stack(floors).std() > 0.1
    assert found[0] == 0 and (found[1:] > 0.003 * found.sum()).all()
