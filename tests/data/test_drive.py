"""Where the sensor went, and what neighbouring sweeps show of the poses."""

import json

import numpy as np
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SyntheticRoom
from renderpretrain.data.drive import driven_track, sweeps_around

POLE = 5.0
"""Metres ahead of the first place."""


def drive(path, *, poses=True, inverted=False, stamps=True):
    """Three frames a metre apart that see a pole and level ground around themselves."""
    frames = []
    for k in range(3):
        pole = np.stack([np.full(20, POLE - k), np.zeros(20), np.linspace(0, 2, 20), np.zeros(20)], -1)
        ground = np.stack([np.linspace(-9, -1, 30), np.full(30, 3.0), np.zeros(30), np.zeros(30)], -1)
        np.concatenate([pole, ground]).astype(np.float32).tofile(path / f"{k}.bin")
        pose = np.eye(4)
        pose[0, 3] = -k if inverted else k
        lidar = {"file": f"{k}.bin", "columns": ["x", "y", "z", "intensity"], "sensor_origin": [0, 0, 0]}
        lidar |= {"ego_to_global": pose.tolist()} if poses else {}
        frames.append({"frame_id": k, "lidar": lidar} | ({"timestamp_s": 0.5 * k} if stamps else {}))
    (path / "frames.json").write_text(json.dumps({"format": "lidar_sequence", "frames": frames}))
    return SceneFolder(path)


def test_right_poses_put_neighbouring_sweeps_on_each_other(tmp_path):
    folder = drive(tmp_path)
    found = dict(sweeps_around(folder[1], folder, 1))
    assert list(found) == ["-0.5 s", "this moment", "+0.5 s"]
    for points in found.values():  # of the pole, not of the ground
        assert len(points) == 20 and bool((points[:, 0] - (POLE - 1)).abs().max() < 1e-5)
    track = driven_track(folder[1], folder, 1)
    assert_close(track, torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]))


def test_inverted_poses_do_not(tmp_path):
    folder = drive(tmp_path, inverted=True, stamps=False)
    found = {name: float(points[0, 0]) for name, points in sweeps_around(folder[1], folder, 1)}
    assert found == {"-1 frames": POLE + 1, "this moment": POLE - 1, "+1 frames": POLE - 3}


def test_without_poses_or_in_a_room_there_are_no_neighbours(tmp_path):
    folder, room = drive(tmp_path, poses=False), SyntheticRoom(1, image_size=(12, 16), with_truth=False)
    assert list(sweeps_around(folder[1], folder, 1)) == [] and list(sweeps_around(room[0], room, 0)) == []
