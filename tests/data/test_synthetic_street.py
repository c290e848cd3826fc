from dataclasses import fields, replace
from random import Random

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SyntheticStreet, collate
from renderpretrain.data.synthetic.street_layout import build_street
from renderpretrain.data.synthetic.things import BUILDING, CAR, CLASS_NAMES, ROAD_, TERRAIN, VEGETATION
from renderpretrain.geometry import VoxelGrid, rotate, transform
from renderpretrain.geometry.sensors import POINT_COLUMNS

SMALL = {"image_size": (48, 80), "points_per_beam": 200}


@pytest.fixture(scope="module")
def scene():
    return SyntheticStreet(2, sweeps=3, **SMALL)[0]


def pixel_rays(scene):
    height, width = scene.cameras.image_size
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return scene.cameras.rays(
        torch.stack([u, v], -1).reshape(1, -1, 2).expand(len(scene.camera_names), -1, -1)
    )


def test_the_same_index_gives_the_same_scene_and_another_seed_another(scene):
    again = SyntheticStreet(9, sweeps=3, **SMALL)[0]
    assert torch.equal(scene.points, again.points) and torch.equal(scene.images, again.images)
    assert torch.equal(scene.truth.occupancy, again.truth.occupancy)
    other = SyntheticStreet(2, seed=1, sweeps=3, **SMALL)[0]
    assert not torch.equal(scene.images, other.images)


def test_a_scene_does_not_depend_on_the_global_generator(scene):
    torch.manual_seed(123)
    assert torch.equal(SyntheticStreet(2, sweeps=3, **SMALL)[0].points, scene.points)


def test_points_have_five_finite_columns_in_range(scene):
    assert scene.points.shape[1] == 5 and scene.points.isfinite().all()
    assert scene.points[:, 3].min() >= 0 and scene.points[:, 3].max() <= 1
    assert scene.points[:, 4].unique().tolist() == pytest.approx([0.0, 0.05, 0.1])
    assert len(scene.point_labels) == len(scene.points)


def test_the_depth_of_a_pixel_is_where_lidar_points_that_project_to_it_lie(scene):
    key = scene.points[:, 4] == 0
    points, labels = scene.points[key, :3], scene.point_labels[key]
    good = total = same = 0
    for n in range(6):
        pixels, _, inside = scene.cameras[n].project(points)
        u, v = pixels[inside].long().unbind(-1)
        distance = (points[inside] - scene.cameras.centers[n]).norm(dim=-1)
        error = (scene.truth.depth[n, v, u] - distance).abs()
        # Half a pixel of 0.9 degrees on a road seen from 1.5 m: a tenth of the distance covers the slant.
        good += int((error < 0.06 + 0.1 * distance).sum())
        same += int((scene.truth.semantics[n, v, u] == labels[inside]).sum())
        total += int(inside.sum())
    assert total > 1000
    assert (
        good / total > 0.9
    )  # the rest lies behind one of many edges that the camera sees and the LiDAR does not
    assert same / total > 0.85


def above_ground(scene, points):
    """Height of points of the first street over its ground, metres, and the places below them."""
    ground = build_street(Random("street/0/0"), 0.0).ground
    x, y, z = transform(scene.world_to_global, points).unbind(-1)
    return z - ground.height(torch.stack([x, y], -1)), ground, torch.stack([x, y], -1)


def test_the_ground_seen_by_a_camera_is_that_of_the_street(scene):
    rays = pixel_rays(scene)
    depth, semantics = scene.truth.depth.flatten(1), scene.truth.semantics.flatten(1)
    seen = (semantics >= ROAD_) & (semantics <= TERRAIN)
    assert seen.sum() > 1000
    points = (rays.origins + depth[..., None] * rays.directions)[seen]
    above, ground, places = above_ground(scene, points)
    # Float32 at 300 m, and 1e-4 m along a ray onto a kerb's face.
    assert above.abs().max() < 2e-3 and above.abs().median() < 1e-4
    # Beside a line between two surfaces the rounding of a place may choose the other one.
    assert (ground.surfaces(places) + ROAD_ == semantics[seen]).float().mean() > 0.999


def test_normals_are_unit_towards_the_camera_and_those_of_the_ground_on_the_road(scene):
    rays, truth = pixel_rays(scene), scene.truth
    normals = truth.normals.flatten(2).mT
    hit = truth.hit.flatten(1)
    assert_close(normals[hit].norm(dim=-1), torch.ones(int(hit.sum())))
    # A ray that grazes a crest of the ground may see the smoothed normal of the far side.
    assert ((normals * rays.directions).sum(-1)[hit] < 1e-4).float().mean() > 0.999
    road = truth.semantics.flatten(1) == ROAD_
    points = (rays.origins + truth.depth.flatten(1)[..., None] * rays.directions)[road]
    _, ground, places = above_ground(scene, points)
    steps = torch.tensor([[1e-2, 0], [0, 1e-2]], dtype=torch.float64)
    table = replace(ground, table=ground.table.double())
    slopes = [
        (table.height(places.double() + step) - table.height(places.double() - step)) / 2e-2 for step in steps
    ]
    expected = torch.nn.functional.normalize(
        torch.stack([-slopes[0], -slopes[1], torch.ones_like(slopes[0])], -1), dim=-1
    )
    error = (rotate(scene.world_to_global, normals[road]) - expected).norm(dim=-1)
    assert error.quantile(0.999) < 2e-3  # float32 heights of metres over 2 cm


def test_static_points_of_older_sweeps_lie_on_the_same_surfaces(scene):
    road = scene.point_labels == ROAD_
    for lag in scene.points[:, 4].unique():
        points = scene.points[road & (scene.points[:, 4] == lag), :3]
        assert len(points) > 300
        # 2 cm of noise along a ray that falls at 35 degrees at most.
        assert above_ground(scene, points)[0].abs().max() < 5 * 0.02 * 0.6 + 1e-3


def test_points_of_moving_cars_follow_their_velocity_into_the_box():
    scenes = SyntheticStreet(6, sweeps=4, with_truth=False, **SMALL)
    checked = 0
    for scene in scenes:
        boxes = scene.boxes
        points, lags = scene.points[scene.point_labels == CAR, :3], scene.points[scene.point_labels == CAR, 4]
        for k in torch.nonzero(boxes.velocities.norm(dim=-1) > 3)[:, 0]:
            now = points + lags[:, None] * boxes.velocities[k] - boxes.centers[k]
            c, s = boxes.yaws[k].cos(), boxes.yaws[k].sin()
            local = torch.stack([c * now[:, 0] + s * now[:, 1], c * now[:, 1] - s * now[:, 0], now[:, 2]], -1)
            near = local.norm(dim=-1) < 3
            inside = (local.abs() <= boxes.sizes[k] / 2 + 0.1).all(-1)  # 5 sigma of the range noise
            late = near & (lags > 0)
            checked += int((late & inside).sum())
            if late.sum() > 20:
                assert (inside | ~late).float().mean() > 0.9
    assert checked > 50


def test_boxes_hold_the_points_that_are_labelled_car():
    scene = SyntheticStreet(1, **SMALL)[0]
    cars = scene.points[scene.point_labels == CAR, :3]
    boxes = scene.boxes
    offsets = cars[:, None] - boxes.centers
    c, s = boxes.yaws.cos(), boxes.yaws.sin()
    local = torch.stack(
        [c * offsets[..., 0] + s * offsets[..., 1], c * offsets[..., 1] - s * offsets[..., 0]], -1
    )
    inside = (local.abs() <= boxes.sizes[:, :2] / 2 + 0.1).all(-1) & (
        offsets[..., 2].abs() <= boxes.sizes[:, 2] / 2 + 0.1
    )
    assert len(cars) > 100
    assert inside.any(-1).all()


def test_occupied_voxels_hold_the_points_of_solid_things():
    grid = VoxelGrid((-16.0, -16.0, -4.0, 16.0, 16.0, 3.0), (0.25, 0.25, 0.25))
    scene = SyntheticStreet(1, grid=grid, **SMALL)[0]
    solid = (
        (scene.point_labels == BUILDING) | (scene.point_labels == VEGETATION) | (scene.point_labels == CAR)
    )
    inner = VoxelGrid((-15.0, -15.0, -3.75, 15.0, 15.0, 2.75), (0.25, 0.25, 0.25))
    solid &= inner.contains(scene.points[:, :3])
    z, y, x = grid.cells(scene.points[solid, :3]).unbind(-1)
    around = torch.zeros(int(solid.sum()), dtype=torch.bool)
    for dz, dy, dx in torch.cartesian_prod(*[torch.arange(-1, 2)] * 3).tolist():
        around |= scene.truth.occupancy[z + dz, y + dy, x + dx] == scene.point_labels[solid]
    assert solid.sum() > 100
    assert around.float().mean() > 0.95  # walls thinner than a voxel may hold no centre
    assert (scene.truth.occupancy[0] > 0).float().mean() > 0.9  # under the ground
    assert (scene.truth.occupancy[-1] == 0).float().mean() > 0.3


def test_frames_of_one_street_agree_in_the_global_frame():
    street = SyntheticStreet(2, frames_per_street=2, **SMALL)
    first, second = street[0], street[1]
    assert second.timestamp - first.timestamp == 0.5
    parked = [(s.boxes.velocities == 0).all(-1) for s in (first, second)]
    a = transform(first.world_to_global, first.boxes.centers[parked[0]])
    b = transform(second.world_to_global, second.boxes.centers[parked[1]])
    nearest = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").min(-1).values
    assert (nearest < 1e-3).float().mean() > 0.7  # the rest left the 80 m around the recorder
    moving = rotate(first.world_to_global, first.boxes.velocities)
    assert moving.norm(dim=-1).max() > 3


def test_the_ring_sees_all_around(scene):
    angle = torch.arange(0, 360, 2) * torch.pi / 180
    around = torch.stack([20 * angle.sin(), 20 * angle.cos(), torch.full_like(angle, -0.3)], -1)
    seen = torch.stack([scene.cameras[n].project(around)[2] for n in range(6)]).any(0)
    assert seen.all()


def test_scenes_collate_into_a_batch():
    batch = collate([SyntheticStreet(2, with_truth=False, **SMALL)[i] for i in range(2)])
    assert batch.views.images.shape == (2, 6, 3, 48, 80) and batch.views.valid.all()
    assert len(batch.points.xyz) == 2 and batch.points.known == POINT_COLUMNS
    assert batch.boxes.valid.any(1).all()


def test_another_grid_gives_its_occupancy():
    grid = VoxelGrid((-8.0, -8.0, -3.0, 8.0, 8.0, 1.0), (0.5, 0.5, 0.5))
    truth = SyntheticStreet(1, grid=grid, **SMALL)[0].truth
    assert truth.occupancy.shape == (8, 32, 32) and truth.grid == grid
    assert {f.name for f in fields(truth)} >= {"depth", "normals", "semantics"}


def test_an_index_outside_the_set_is_an_error():
    with pytest.raises(IndexError, match=r"expected an index in \[0, 2\), got 2"):
        SyntheticStreet(2)[2]
    with pytest.raises(ValueError, match="sweeps: expected at least 1, got 0"):
        SyntheticStreet(2, sweeps=0)


def test_every_class_is_met_and_no_two_rigs_are_mounted_alike():
    scenes = SyntheticStreet(12, seed=4, with_truth=False, points_per_beam=200)
    found = [scenes.without_images(k) for k in range(12)]
    counts = torch.bincount(torch.cat([s.point_labels for s in found]), minlength=len(CLASS_NAMES))
    assert counts[0] == 0 and (counts[1:] > 0.004 * counts.sum()).all()
    poses = torch.stack([s.world_to_global for s in found])
    up = poses[:, 2, :3]  # of the street, in the LiDAR's axes
    assert (up[:, 2] > 0.97).all() and (up[:, :2].norm(dim=-1) > 0.01).float().mean() > 0.7
    heading = torch.atan2(poses[:, 1, 0], poses[:, 0, 0])
    assert heading.cos().std() > 0.4 and heading.sin().std() > 0.4
