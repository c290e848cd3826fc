"""Colours and normals of points, where a recording has them."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import (
    Scene,
    SceneFolder,
    SceneFolderError,
    SyntheticRoom,
    collate,
    write_scene_folder,
)
from renderpretrain.data.folder.views import depth_normals
from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS
from renderpretrain.recipes.columns import check_data

EVERYTHING = (*POINT_COLUMNS, *COLOR_COLUMNS, *NORMAL_COLUMNS)
UNMOVED = np.eye(4).tolist()
QUARTER_TURN = [[0.0, -1.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def recording(folder, columns, rows, poses=(UNMOVED,)):
    """A LiDAR's folder whose frames all have the same rows."""
    folder.mkdir()
    np.asarray(rows, dtype=np.float32).tofile(folder / "0.bin")
    frames = [
        {
            "frame_id": i,
            "timestamp_s": 0.1 * i,
            "lidar": {"file": "0.bin", "columns": columns, "ego_to_global": pose, "sensor_origin": [0, 0, 0]},
        }
        for i, pose in enumerate(poses)
    ]
    (folder / "frames.json").write_text(json.dumps({"format": "lidar_sequence", "frames": frames}))
    return folder


def test_colours_and_normals_of_a_sweep_are_read_scaled_and_turned(tmp_path):
    """The first frame's LiDAR stands a quarter turn to the second's, whose scene has both sweeps."""
    columns = ["x", "y", "z", "nx", "ny", "nz", "r_0_255", "g_0_255", "b_0_255"]
    rows = [[1, 2, 3, 2, 0, 0, 255, 51, 0], [4, 5, 6, 0, 0, 0, 0, 0, 255]]
    folder = recording(tmp_path / "a", columns, rows, (QUARTER_TURN, UNMOVED))
    scene = SceneFolder(folder, sweeps=2)[1]
    assert scene.columns == EVERYTHING
    assert_close(scene.colors, torch.tensor([[1, 0.2, 0], [0, 0, 1.0]]).repeat(2, 1))
    assert_close(scene.normals[:2], torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    assert_close(scene.normals[2:], torch.tensor([[0, 1.0, 0], [0, 0, 0]]))
    assert_close(scene.points[2, :3] - scene.points[3, :3], torch.tensor([3.0, -3.0, -3.0]))
    write_scene_folder(tmp_path / "b", [scene])
    again = SceneFolder(tmp_path / "b")[0]
    assert_close(again.colors, scene.colors[:2])
    assert_close(again.normals, scene.normals[:2])


def test_a_choice_of_points_keeps_rows_together(tmp_path):
    values = np.linspace(0, 1, 50)[:, None]
    rows = np.concatenate([values.repeat(6, 1), np.zeros((50, 2)), np.ones((50, 1))], 1)
    folder = recording(tmp_path / "a", [*"xyzrgb", "nx", "ny", "nz"], rows)
    scene = SceneFolder(folder, max_points=20)[0]
    assert scene.points.shape == (20, 5) and scene.normals.shape == (20, 3)
    assert_close(scene.colors, scene.points[:, :3])


def test_colours_beyond_their_range_are_refused_and_what_is_no_number_is_0(tmp_path):
    folder = recording(tmp_path / "a", list("xyzrgb"), [[0, 0, 0, 0.5, 200, 1]])
    with pytest.raises(
        SceneFolderError,
        match=r"0.bin: frame 0 \(0\): lidar.columns: g: expected colours from 0 to 1, got 0.5 to 200; "
        "a name such as g_0_255 says another range",
    ):
        SceneFolder(folder)[0]
    unknown = recording(tmp_path / "c", [*"xyzrgb", *NORMAL_COLUMNS], [[0, 0, 0, 1, np.nan, 1, 0, np.nan, 1]])
    scene = SceneFolder(unknown)[0]
    assert scene.colors.tolist() == [[1, 0, 1]] and scene.normals.tolist() == [[0, 0, 0]]
    assert SceneFolder(recording(tmp_path / "b", list("xyzrg"), [[0, 0, 0, 0, 0]]))[0].colors is None


def test_what_each_frame_knows_is_told_without_reading_it(tmp_path):
    folder = recording(tmp_path / "a", list("xyzrgb"), [[0] * 6], (UNMOVED, UNMOVED))
    index = json.loads((folder / "frames.json").read_text())
    index["frames"][1]["lidar"] |= {"columns": ["x", "y", "z", *NORMAL_COLUMNS], "file": "absent.bin"}
    (folder / "frames.json").write_text(json.dumps(index))
    (first, known), (second, others) = SceneFolder(folder).columns()
    assert first == f"{folder}/frames.json: frame 0 (0)" and second.endswith("frame 1 (1)")
    assert known == (*POINT_COLUMNS, *COLOR_COLUMNS) and others == (*POINT_COLUMNS, *NORMAL_COLUMNS)
    with pytest.raises(ValueError, match=r"points: .*frames.json: frame 1 \(1\) has no r, g, b, it has x, y"):
        check_data(("x", "y", "z", "r", "g", "b"), SceneFolder(folder))


def test_a_mixed_batch_pads_what_a_scene_lacks():
    room, bare = SyntheticRoom(1, num_points=30)[0], Scene("bare", torch.rand(40, 5), torch.zeros(3))
    plain = Scene("plain", room.points, room.lidar_origin, colors=room.colors, normals=room.normals)
    batch = collate([plain, bare])
    assert batch.columns == (EVERYTHING, POINT_COLUMNS)
    colors, normals = batch.points.colors, batch.points.normals
    assert_close(colors[0, :30], room.colors)
    assert not colors[0, 30:].any() and not colors[1].any() and not normals[1].any()
    assert collate([bare]).points.colors is None
    with pytest.raises(
        ValueError, match=r"collate: normals: expected \(40, 3\) of scene 'odd', got \(30, 3\)"
    ):
        collate([Scene("odd", bare.points, bare.lidar_origin, normals=room.normals)])


def test_a_room_has_colours_of_its_pixels_and_normals_of_unit_length(tmp_path):
    rooms = SyntheticRoom(1, num_views=2, num_points=500)
    room = rooms[0]
    assert room.columns == EVERYTHING
    assert_close(room.colors @ torch.tensor([0.299, 0.587, 0.114]), room.points[:, 3])
    assert_close(room.normals.norm(dim=-1), torch.ones(500))
    write_scene_folder(tmp_path / "room", rooms)
    read = SceneFolder(tmp_path / "room")[0]
    assert read.columns == EVERYTHING
    assert_close(read.colors @ torch.tensor([0.299, 0.587, 0.114]), read.points[:, 3])


def test_normals_of_a_depth_image_are_those_of_its_surfaces():
    """Within 25 degrees for three quarters of them: the sensor's noise is 2 mm at a metre, 8 mm at two."""
    room = SyntheticRoom(1)[0]
    pixels = torch.nonzero(room.z_depths[0] > 0)
    normals = depth_normals(room.cameras[0], room.z_depths[0], pixels)
    known = normals.norm(dim=-1) > 0
    exact = room.truth.normals[0][:, pixels[:, 0], pixels[:, 1]].T
    cosines = (normals * exact).sum(-1)[known]
    assert known.float().mean() > 0.7
    assert (cosines > 0.9).float().mean() > 0.75
    assert_close(normals[known].norm(dim=-1), torch.ones(int(known.sum())))
    assert not depth_normals(room.cameras[0], torch.zeros(4, 4), torch.tensor([[0, 0], [2, 2]])).any()
