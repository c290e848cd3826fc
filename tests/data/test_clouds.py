"""Clouds of rooms: what a view sees of them, and classes of pixels by them, against an analytic room."""

import json

import numpy as np
import pytest
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    inspect_folder,
    open_data,
    validate_scene_folder,
)
from renderpretrain.data.folder.clouds import classes_nearby
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from tests.data.readers.posed import depth_image, picture
from tests.data.readers.rooms import COLUMN, MATRIX, PILLAR, POSES, seen, surface

NAMES = {"1": "floor", "2": "ceiling", "3": "wall", "4": "column"}


def write_room(path, depths=True, **cloud):
    """A folder with four views of the room and its cloud; what is said of the cloud can be changed."""
    points, kinds = surface()
    colors = np.random.default_rng(0).integers(0, 255, (len(points), 3))
    np.concatenate([points, colors], 1).astype("<f4").tofile(path / "room.bin")
    (kinds + 1).astype(np.uint8).tofile(path / "room.u8")
    frames = []
    for k, pose in enumerate(POSES):
        picture(path / f"{k}.png", (60, 80), k)
        depth, _ = seen(pose)
        depth_image(path / f"{k}_depth.png", (1000 * depth).round())
        frames.append({"frame_id": k, "color": f"{k}.png", "width": 80, "height": 60, "cloud": "room"})
        frames[-1] |= {"camera_to_world": pose.tolist(), "scene": "room"}
        frames[-1] |= {"depth": f"{k}_depth.png"} if depths else {}
    entry = {"file": "room.bin", "columns": ["x", "y", "z", "r_0_255", "g_0_255", "b_0_255"]}
    entry |= {"semseg_file": "room.u8", **cloud}
    content = {"format": "posed_rgbd" if depths else "posed_rgb", "intrinsics": MATRIX.tolist()}
    content |= {"semseg_classes": NAMES, "clouds": {"room": entry}, "frames": frames}
    (path / "frames.json").write_text(json.dumps(content))
    return content


def hidden(points, pose):
    """Whether the pillar is between points and a camera."""
    with np.errstate(divide="ignore"):
        crossed = np.sort((PILLAR[:, None] - pose[:3, 3]) / (points - pose[:3, 3]), 0)
    enters, leaves = crossed[0].max(-1), crossed[1].min(-1)
    return (enters < leaves) & (enters > 0) & (enters < 1 - 1e-6)


def test_a_view_has_the_points_it_sees_and_none_behind_the_pillar(tmp_path):
    write_room(tmp_path)
    scene = SceneFolder(tmp_path, views_per_scene=1, max_points=10**6)[0]
    points, kinds = surface()
    pixels = (points - POSES[0][:3, 3]) @ POSES[0][:3, :3] @ MATRIX.T
    u, v = pixels[:, :2].T / pixels[:, 2] + 0.5
    inside = (pixels[:, 2] > 0) & (u >= 0) & (u < 80) & (v >= 0) & (v < 60)
    facing = inside & ~hidden(points, POSES[0])
    cells = [
        np.round(rows * 50).astype(int) @ [1, 1000, 10**6] for rows in (scene.points[:, :3].numpy(), points)
    ]
    found, wanted = np.unique(cells[0]), np.unique(cells[1][facing])
    # Of what is within 0.1 m of its pixel's depth some is hidden by edges, and pixels are centimetres wide.
    assert len(np.setxor1d(found, wanted)) < 0.03 * len(wanted)
    assert (np.array(scene.class_names)[scene.point_labels] == "column").mean() > 0.1
    assert (kinds[facing] == COLUMN).mean() > 0.1
    assert validate_scene_folder(tmp_path) == []


def test_pixels_have_the_classes_of_the_points_around(tmp_path):
    """By the planes' equations; wrong only where two surfaces meet within a cell of the cloud."""
    write_room(tmp_path)
    scene = SceneFolder(tmp_path)[0]
    for k, pose in enumerate(POSES):
        _, kinds = seen(pose)
        wrong = scene.pixel_labels[k].numpy() != kinds + 1
        assert wrong.mean() < 0.02
        # A wrong pixel has another surface within two pixels.
        padded = np.pad(kinds, 2, mode="edge")
        near = [padded[i : i + 60, j : j + 80] != kinds for i in range(5) for j in range(5)]
        assert not (wrong & ~np.any(near, 0)).any()


def test_the_nearest_cell_with_points_tells_the_class():
    points = np.array([[0, 0, 0], [0.001, 0, 0], [0.002, 0, 0], [0.5, 0, 0]])
    labels = np.array([3, 3, 1, -1])
    places = np.array([[0.003, 0, 0], [0.03, 0.01, 0], [0.5, 0, 0], [0.3, 0, 0], [-9, 0, 0], [9, 9, 9]])
    assert classes_nearby(points, labels, places).tolist() == [3, 3, -1, -1, -1, -1]
    assert classes_nearby(points[:0], labels[:0], places).tolist() == [-1] * 6


def test_photographs_alone_have_all_points_in_the_picture(tmp_path):
    write_room(tmp_path, depths=False)
    scene = SceneFolder(tmp_path, views_per_scene=1, max_points=10**6)[0]
    assert scene.z_depths is None and scene.pixel_labels is None and len(scene.point_labels) > 10000
    assert bool(scene.cameras[0].project(scene.points[:, :3])[2].all())


def test_faults_of_a_cloud_are_one_line_for_each_of_its_views(tmp_path):
    write_room(tmp_path, semseg_file="other.u8")
    facts = inspect_folder(tmp_path)
    assert [len(frame.faults) for frame in facts] == [1, 1, 1, 1] and all(frame.labels for frame in facts)
    assert "other.u8: cloud room: lidar.semseg_file: expected a readable file" in facts[0].faults[0]
    with pytest.raises(SceneFolderError, match=r"other.u8: cloud room: lidar.semseg_file"):
        SceneFolder(tmp_path)[0]
    content = write_room(tmp_path)
    content["frames"][2]["cloud"] = "elsewhere"
    (tmp_path / "frames.json").write_text(json.dumps(content))
    with pytest.raises(SceneFolderError, match=r"cloud of frame 2 \(2\) to be a name among clouds, got els"):
        SceneFolder(tmp_path)


@pytest.mark.parametrize("shift", [0.0, 3e6])
def test_shards_have_the_same_scenes(tmp_path, shift):
    room = tmp_path / "room"
    room.mkdir()
    content = write_room(room, file_to_lidar=(np.eye(4) + shift * np.eye(4, k=3)).tolist())
    for frame in content["frames"]:
        frame["camera_to_world"][0][3] += shift
    (room / "frames.json").write_text(json.dumps(content))
    source, out = f"folder:{room}", tmp_path / "shards"
    told = Preparation(out, source, packed=True, size=10**8)
    prepare_recording(open_data(source), told, lambda *_: None)
    one, other = open_data(f"folder:{room}")[0], open_data(f"shards:{tmp_path / 'shards'}")[0]
    assert one.points.abs().max() < 10
    for name in ("points", "colors", "point_labels", "pixel_labels", "z_depths", "images"):
        # Far from the origin what a view sees is rounded about its own middle, not the whole room's.
        atol = 1e-6 if shift and name == "points" else 0
        assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=atol)
