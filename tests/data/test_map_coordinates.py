"""Recordings in map coordinates, millions of metres from their origin, lose nothing to float32."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scene_folders import AHEAD, INTRINSICS, load, save
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SyntheticRoom, validate_scene_folder, write_scene_folder

MAP = np.array([4_512_345.25, 5_401_234.5, 312.75])
"""An origin in the middle of a map; exact in float64 and, to 0.5 m, in float32."""


def moved(pose, shift):
    """A pose whose origin is shifted."""
    pose = np.array(pose, dtype=np.float64)
    pose[:3, 3] += shift
    return pose.tolist()


def test_a_room_in_map_coordinates_is_the_room(tmp_path):
    write_scene_folder(tmp_path, [SyntheticRoom(1, image_size=(24, 32))[0]])
    near = load(tmp_path)[0]
    content = json.loads((tmp_path / "frames.json").read_text())
    for frame in content["frames"]:
        frame["camera_to_world"] = moved(frame["camera_to_world"], MAP)
    save(tmp_path, content)
    far = load(tmp_path)[0]
    assert validate_scene_folder(tmp_path) == []
    shift = near.cameras.centers[0] - far.cameras.centers[0]
    assert shift.abs().max() < 20 and far.points[:, :3].abs().max() < 20
    # A tenth of a millimetre: what float32 keeps of some metres, through one rotation.
    for a, b in ((near.points[:, :3], far.points[:, :3]), (near.cameras.centers, far.cameras.centers)):
        assert_close(a - shift, b, atol=1e-4, rtol=0)
    assert_close(near.lidar_origin - shift, far.lidar_origin, atol=1e-4, rtol=0)
    assert torch.equal(near.z_depths, far.z_depths) and torch.equal(near.points[:, 3:], far.points[:, 3:])


def turned(angle):
    """A turn about z, rounded as calibrations are."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).round(7)


def drive(path, shift, *, told, dtype, turn=0.0):
    """Two sweeps of one street whose LiDAR frame is the map, five metres apart."""
    path.mkdir()
    r = np.random.default_rng(0)
    street = r.uniform([-40, -40, -2], [40, 40, 3], (500, 3))
    frames = []
    for k in range(2):
        sensor = np.array([5.0 * k, 0, 0.5])
        rows = np.concatenate([street + shift, r.uniform(0, 1, (500, 1))], -1)
        rows.astype(dtype).tofile(path / f"{k}.bin")
        pose, ego = np.array(AHEAD), np.eye(4)
        pose[:3, :3], ego[:3, :3] = pose[:3, :3] @ turned(turn), turned(k * turn)
        ego[:3, 3] = shift - ego[:3, :3] @ shift
        pose[:3, 3] = -pose[:3, :3] @ (sensor + shift)
        lidar = {
            "file": f"{k}.bin",
            "dtype": dtype,
            "columns": ["x", "y", "z", "intensity"],
            "ego_to_global": ego.tolist(),
        }
        if told:
            lidar["sensor_origin"] = (sensor + shift).tolist()
        box = {
            "label": "car",
            "center": (shift + np.array([1, 2, 3])).tolist(),
            "size_lwh": [4, 2, 1.5],
            "yaw": 0.1,
        }
        camera = {"file": "c.png", "width": 16, "height": 12, "intrinsics": INTRINSICS}
        camera["lidar_to_camera"] = pose.tolist()
        frames.append({"frame_id": k, "timestamp_s": 0.1 * k, "lidar": lidar, "boxes_lidar_frame": [box]})
        frames[-1]["cameras"] = {"front": camera}
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "c.png")
    save(path, {"format": "multicam_lidar", "frames": frames})
    return path


@pytest.mark.parametrize("told", [True, False])
def test_sweeps_in_map_coordinates_keep_their_millimetres(tmp_path, told):
    """The world's origin is where the rays start or, where nobody says, about the middle of the sweep."""
    near = SceneFolder(drive(tmp_path / "near", np.zeros(3), told=told, dtype="float64"), sweeps=2)
    far = SceneFolder(drive(tmp_path / "far", MAP, told=told, dtype="float64"), sweeps=2)
    assert validate_scene_folder(tmp_path / "far") == []
    moves = []
    for a, b in zip((near[k] for k in range(2)), (far[k] for k in range(2)), strict=True):
        move = b.points[0, :3] - a.points[0, :3]
        assert move.abs().max() < 60 and b.points[:, :3].abs().max() < 100
        # What float32 keeps of a hundred metres.
        assert_close(b.points[:, :3] - move, a.points[:, :3], atol=3e-5, rtol=0)
        assert_close(b.cameras.centers - move, a.cameras.centers, atol=3e-5, rtol=0)
        assert_close(b.boxes.centers - move, a.boxes.centers, atol=3e-5, rtol=0)
        if told:
            assert_close(b.lidar_origin, torch.zeros(3)) and assert_close(
                b.lidar_origin - move, a.lidar_origin
            )
        moves.append(b.world_to_global[:3, 3] + move - a.world_to_global[:3, 3])
        assert b.world_to_global.abs().max() < 100
    # Both worlds lie in one global frame: it moved once.
    assert_close(moves[0], moves[1], atol=3e-5, rtol=0)
    assert_close(far.without_images(1).points, far[1].points)


def test_rotations_that_are_rounded_turn_about_the_sweep(tmp_path):
    """About the map's origin a millionth of a turn would move the camera, and merged sweeps, by metres."""
    near = SceneFolder(drive(tmp_path / "near", np.zeros(3), told=True, dtype="float64", turn=0.3), sweeps=2)
    far = SceneFolder(drive(tmp_path / "far", MAP, told=True, dtype="float64", turn=0.3), sweeps=2)
    for k in range(2):
        a, b = near[k], far[k]
        move = b.points[0, :3] - a.points[0, :3]
        assert_close(b.cameras.centers - move, a.cameras.centers, atol=3e-5, rtol=0)
        assert_close(b.points[:, :3] - move, a.points[:, :3], atol=3e-5, rtol=0)


def test_a_sweep_around_its_sensor_stays_where_it_is(tmp_path):
    folder = drive(tmp_path / "near", np.array([900.0, -1200.0, 0]), told=True, dtype="float32")
    scene = SceneFolder(folder)[1]
    assert_close(scene.lidar_origin, torch.tensor([905.0, -1200.0, 0.5]))
    rows = torch.from_numpy(np.fromfile(folder / "1.bin", np.float32).reshape(-1, 4))
    assert torch.equal(scene.points[:, :4], rows)


def test_float32_in_map_coordinates_is_said_to_be_coarse(tmp_path):
    folder = drive(tmp_path / "far", MAP, told=True, dtype="float32")
    (problem,) = {line.partition("lidar.dtype")[2] for line in validate_scene_folder(folder)}
    assert (
        problem == ": expected float64 so far from the origin, got float32, which keeps steps of 0.5 m there"
    )
