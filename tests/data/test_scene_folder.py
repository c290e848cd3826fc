import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SyntheticRoom,
    SyntheticStreet,
    validate_scene_folder,
    write_scene_folder,
)
from renderpretrain.geometry import invert_pose

STREET = {"image_size": (48, 80), "points_per_beam": 200}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Three moments of one synthetic street, and the folder they were written to."""
    scenes = [SyntheticStreet(3, frames_per_street=3, **STREET)[i] for i in range(3)]
    path = tmp_path_factory.mktemp("street")
    write_scene_folder(path, scenes, one_recording=True)
    return path, scenes


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    scenes = [SyntheticRoom(2, image_size=(48, 64))[i] for i in range(2)]
    path = tmp_path_factory.mktemp("rooms")
    write_scene_folder(path, scenes)
    return path, scenes


def test_a_street_comes_back_from_disk(recording):
    path, scenes = recording
    folder = SceneFolder(path)
    assert len(folder) == 3 and folder.image_size == (48, 80)
    for read, written in zip((folder[i] for i in range(3)), scenes, strict=True):
        assert_close(read.points, written.points)
        assert_close(read.images, written.images, atol=0.5 / 255 + 1e-6, rtol=0)  # eight bits
        assert_close(read.cameras.intrinsics, written.cameras.intrinsics, atol=1e-4, rtol=0)
        assert_close(read.cameras.camera_to_world, written.cameras.camera_to_world, atol=1e-6, rtol=0)
        assert_close(read.lidar_origin, written.lidar_origin)
        assert torch.equal(read.point_labels, written.point_labels)
        assert read.camera_names == written.camera_names and read.timestamp == written.timestamp
        for column in ("centers", "sizes", "yaws"):
            assert_close(getattr(read.boxes, column), getattr(written.boxes, column))
        # The format holds velocities along x and y.
        assert_close(read.boxes.velocities[:, :2], written.boxes.velocities[:, :2])
        assert [folder.class_names[k] for k in read.boxes.labels] == ["car"] * len(read.boxes.labels)


def test_ego_motion_comes_back_up_to_the_choice_of_the_global_origin(recording):
    path, scenes = recording
    a, b = (SceneFolder(path)[i].world_to_global for i in (0, 2))
    expected = invert_pose(scenes[0].world_to_global) @ scenes[2].world_to_global
    assert_close(invert_pose(a) @ b, expected, atol=1e-5, rtol=0)  # float32 at ten metres
    assert_close(a[:3, 3], torch.zeros(3))


def test_classes_come_back_named_or_not_and_none_stays_none(recording, tmp_path):
    scene = dataclasses.replace(recording[1][0], class_names=(), truth=None)
    labels = scene.point_labels.clone()
    labels[:5] = -1
    write_scene_folder(tmp_path / "a", [dataclasses.replace(scene, point_labels=labels)])
    read = SceneFolder(tmp_path / "a")[0]
    assert torch.equal(read.point_labels, labels) and read.class_names[1] == "class_1"
    labels[0] = 255
    with pytest.raises(ValueError, match="expected point_labels up to 254, got 255"):
        write_scene_folder(tmp_path / "b", [dataclasses.replace(scene, point_labels=labels)])


def test_older_sweeps_land_on_the_static_world_with_their_time_lag(recording):
    path, scenes = recording
    merged = SceneFolder(path, sweeps=3)[2]
    assert len(merged.points) == sum(len(s.points) for s in scenes) == len(merged.point_labels)
    assert_close(merged.points[:, 4].unique(), torch.tensor([0.0, 0.5, 1.0]))
    building = (merged.point_labels == 4) & (merged.points[:, :2].norm(dim=-1) < 15)
    new = merged.points[building & (merged.points[:, 4] == 0), :3]
    old = merged.points[building & (merged.points[:, 4] == 1), :3]
    # Both sample the same walls every 30 cm or so; a pose the wrong way round would put them metres apart.
    assert torch.cdist(old, new).min(-1).values.median() < 0.25
    assert len(SceneFolder(path, sweeps=3)[0].points) == len(scenes[0].points)


def test_unrelated_scenes_are_never_merged(tmp_path):
    scenes = [SyntheticStreet(2, **STREET)[i] for i in range(2)]
    write_scene_folder(tmp_path, scenes)
    assert len(SceneFolder(tmp_path, sweeps=2)[1].points) == len(scenes[1].points)


def test_rooms_come_back_from_disk(rooms):
    path, scenes = rooms
    folder = SceneFolder(path)
    assert len(folder) == 2
    for read, written in zip((folder[i] for i in range(2)), scenes, strict=True):
        assert_close(read.z_depths, written.z_depths, atol=1.1e-4, rtol=0)  # steps of 0.2 mm
        assert torch.equal(read.z_depth_valid, written.z_depth_valid)
        assert_close(read.cameras.camera_to_world, written.cameras.camera_to_world, atol=1e-6, rtol=0)
        assert_close(read.lidar_origin, written.lidar_origin, atol=1e-6, rtol=0)
        near, nearest = torch.cdist(read.points[:, :3].double(), written.points[:, :3].double()).min(-1)
        assert near.median() < 0.05  # 8192 of 12000 pixels were kept on either side
        assert read.points.shape[1] == 5 and (read.points[:, 4] == 0).all()
        assert torch.equal(read.pixel_labels, written.pixel_labels) and read.class_names == folder.class_names
        assert folder.class_names == written.class_names
        # A point's class is that of its pixel, wherever floors step and ceilings slope.
        same = near < 3e-4  # the pixel was kept on both sides; depths are rounded to 0.2 mm
        assert same.float().mean() > 0.5
        assert torch.equal(read.point_labels[same], written.point_labels[nearest[same]])
        floor, ceiling = (read.point_labels == read.class_names.index(n) for n in ("floor", "ceiling"))
        assert floor.sum() > 1000 and ceiling.sum() > 100
        assert read.points[floor, 2].median() + 1 < read.points[ceiling, 2].median()
    small = SceneFolder(path, image_size=(16, 16), fit="stretch")[0].pixel_labels
    assert torch.equal(small, scenes[0].pixel_labels[:, 1::3, 2::4])


def test_what_is_written_has_no_problems(recording, rooms):
    assert validate_scene_folder(recording[0]) == [] and validate_scene_folder(rooms[0]) == []


def test_the_example_of_the_documentation_is_read(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "scene_folder.md"
    (tmp_path / "frames.json").write_text(re.search(r"```json\n(.*?)```", page.read_text(), re.DOTALL)[1])
    (frame,) = SceneFolder(tmp_path).index.frames
    assert frame.cameras["front"].width == 960 and frame.lidar.file == "scans/0000.npy"


def test_views_of_two_rooms_never_share_a_scene(rooms):
    folder = SceneFolder(rooms[0], views_per_scene=3)
    assert [len(folder[i].camera_names) for i in range(len(folder))] == [3, 1, 3, 1]


def test_every_so_many_th_view_goes_to_scenes_at_the_end(rooms):
    """Of two rooms with four views each, the third and the sixth."""
    path, _ = rooms
    folder = SceneFolder(path, views_per_scene=2, held_out_every=3)
    every = [name for i in range(len(SceneFolder(path))) for name in SceneFolder(path)[i].camera_names]
    grouped = [folder[i].camera_names for i in range(len(folder))]
    named = dict(enumerate(every))
    assert grouped == [tuple(named[v] for v in group) for group in ((0, 1), (3,), (4, 6), (7,), (2,), (5,))]
    with pytest.raises(ValueError, match="held_out_every: expected at least 2, got 1"):
        SceneFolder(path, held_out_every=1)


def test_images_shrink_to_their_means_and_cameras_follow(recording):
    path, scenes = recording
    small = SceneFolder(path, image_size=(24, 40))[0]
    means = torch.nn.functional.avg_pool2d(scenes[0].images, 2)
    assert_close(small.images, means, atol=1.6 / 255, rtol=0)  # three roundings: disk, rows, columns
    points = scenes[0].points[:, :3]
    for n in range(6):
        full, _, inside = scenes[0].cameras[n].project(points)
        half, _, _ = small.cameras[n].project(points)
        assert_close(half[inside], full[inside] / 2, atol=1e-3, rtol=0)


def test_depth_shrinks_without_mixing_surfaces(rooms):
    path, scenes = rooms
    small = SceneFolder(path, image_size=(16, 16), fit="stretch")[0].z_depths
    assert_close(
        small, scenes[0].z_depths[:, 1::3, 2::4], atol=1.1e-4, rtol=0
    )  # pixels under the new centres


def test_fewer_points_are_chosen_by_the_scene_alone(recording):
    path, _ = recording
    a, b = SceneFolder(path, max_points=500), SceneFolder(path, max_points=500)
    b[1]
    assert a[0].points.shape == (500, 5) and torch.equal(a[0].points, b[0].points)
    assert len(a[0].point_labels) == 500


def test_the_user_may_say_where_the_rays_start(recording):
    scene = SceneFolder(recording[0], sensor_origin=(0.0, 0.5, 1.8))[0]
    assert_close(scene.lidar_origin, torch.tensor([0.0, 0.5, 1.8]))


def test_a_folder_survives_being_sent_to_a_worker(recording):
    folder = SceneFolder(recording[0])
    folder[0]
    assert torch.equal(pickle.loads(pickle.dumps(folder))[0].points, folder[0].points)


def test_a_lidar_without_cameras_and_pictures_without_depth_are_folders_too(recording, rooms, tmp_path):
    bare = dataclasses.replace(recording[1][0], images=None, cameras=None, camera_names=())
    write_scene_folder(tmp_path / "lidar", [bare])
    folder = SceneFolder(tmp_path / "lidar")
    assert folder.index.format == "lidar_sequence" and folder[0].cameras is None
    posed = dataclasses.replace(
        rooms[1][0], z_depths=None, z_depth_valid=None, points=torch.zeros(0, 5), point_labels=None
    )
    write_scene_folder(tmp_path / "rgb", [posed])
    scene = SceneFolder(tmp_path / "rgb")[0]
    assert scene.points.shape == (0, 5) and scene.z_depths is None and scene.images.shape == (4, 3, 48, 64)
    with pytest.raises(ValueError, match="expected one kind, got multicam_lidar and then posed_rgbd"):
        write_scene_folder(tmp_path / "mixed", [recording[1][0], rooms[1][0]])
    with pytest.raises(ValueError, match="expected at least one, got none"):
        write_scene_folder(tmp_path / "none", [])


REAL = {
    "pandaset_002_sequence": (28, 6, True),
    "nuscenes_keyframe": (1, 6, True),
    "kitti_000001": (1, 1, True),
    "argoverse2_7fab2350": (2, 0, True),
    "rgbd_room": (10, 4, False),
    "sunrgbd_000001": (1, 1, False),
    "fox": (7, 4, False),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_recordings_load(realdata, name):
    scenes, cameras, boxes = REAL[name]
    folder = SceneFolder(realdata / name, image_size=(90, 160))
    scene = folder[0]
    assert len(folder) == scenes and len(scene.camera_names) == cameras
    assert (scene.boxes is not None) == boxes
    assert scene.points.isfinite().all() and scene.points.shape[1] == 5
    assert (scene.points[:, 3] <= 1).all()
    if name != "fox":
        assert len(scene.points) > 10000


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["pandaset_002_sequence", "nuscenes_keyframe", "kitti_000001"])
def test_points_project_where_the_published_matrices_put_them(realdata, name):
    folder = SceneFolder(realdata / name)
    scene, frame = folder[0], folder.index.frames[0]
    points = scene.points[:, :3].double().numpy()
    for n, camera in enumerate(frame.cameras.values()):
        extrinsics, intrinsics = np.array(camera.lidar_to_camera), np.array(camera.intrinsics)
        seen = points @ extrinsics[:3, :3].T + extrinsics[:3, 3]
        pixels, z_depth, inside = scene.cameras[n].project(scene.points[:, :3])
        inside = inside.numpy()
        assert inside.sum() > 1000
        image = seen[inside] @ intrinsics.T
        published = image[:, :2] / image[:, 2:] + 0.5  # integer centres on disk, centres at +0.5 here
        np.testing.assert_allclose(pixels.numpy()[inside], published, atol=1e-3)
        np.testing.assert_allclose(z_depth.numpy()[inside], seen[inside, 2], atol=1e-4)


@pytest.mark.realdata
def test_points_fall_into_the_boxes_that_count_them(realdata):
    folder = SceneFolder(realdata / "kitti_000001", image_size=(90, 160))
    scene = folder[0]
    assert [folder.class_names[k] for k in scene.boxes.labels] == ["Truck", "Car", "Cyclist"]
    offsets = scene.points[:, None, :3] - scene.boxes.centers
    c, s = scene.boxes.yaws.cos(), scene.boxes.yaws.sin()
    local = torch.stack(
        [
            c * offsets[..., 0] + s * offsets[..., 1],
            c * offsets[..., 1] - s * offsets[..., 0],
            offsets[..., 2],
        ],
        -1,
    )
    inside = (local.abs() <= scene.boxes.sizes / 2).all(-1).sum(0)
    assert (inside > 5).all()  # KITTI labels what the LiDAR hits


@pytest.mark.realdata
def test_argoverse_sweeps_meet_in_the_frame_of_the_second(realdata):
    folder = SceneFolder(realdata / "argoverse2_7fab2350", sweeps=2)
    scene = folder[1]
    lags = scene.points[:, 4]
    assert_close(lags.unique(), torch.tensor([0.0, 0.1]), atol=1e-3, rtol=0)
    near = (scene.points[:, :3].norm(dim=-1) < 20) & (scene.points[:, 2] > 0.5)
    old, new = scene.points[near & (lags > 0.05), :3][::20], scene.points[near & (lags == 0), :3]
    assert torch.cdist(old, new).min(-1).values.median() < 0.1


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["kitti_000001", "nuscenes_keyframe", "argoverse2_7fab2350", "sunrgbd_000001"]
)
def test_real_recordings_have_no_problems(realdata, name):
    assert validate_scene_folder(realdata / name) == []


@pytest.mark.realdata
def test_depth_of_neighbouring_views_agrees(realdata):
    scene = SceneFolder(realdata / "rgbd_room")[0]
    pixels, z_depth, inside = scene.cameras[1].project(scene.points[: len(scene.points) // 4, :3])
    u, v = pixels[inside].long().unbind(-1)
    other = scene.z_depths[1, v, u]
    both = other > 0
    assert both.sum() > 1000
    assert (other - z_depth[inside])[both].abs().median() < 0.02  # a Kinect at two metres
