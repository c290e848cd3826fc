"""A scanner that turns while its vehicle drives a bend: its walls are bent, and flat once deskewed."""

import json
import math

import numpy as np
import pytest
import torch

from renderpretrain.data import SceneFolder, SceneFolderError
from renderpretrain.data.folder.deskewing import motions, screw
from renderpretrain.data.open import open_data

SPEED, YAW_RATE, START = 15.0, 0.6, 1.7e9
MAP = np.array([431_000.0, 5_412_000.0, 120.0])
MOUNT = np.array([[0.0, -1, 0, 0.4], [1, 0, 0, -0.2], [0, 0, 1, 1.9], [0, 0, 0, 1]])


def ego(t):
    """Where the vehicle is at a time: on a circle, from the closed formula."""
    angle = YAW_RATE * t
    pose = np.eye(4)
    pose[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    radius = SPEED / YAW_RATE
    pose[:3, 3] = MAP + np.array([radius * math.sin(angle), radius * (1 - math.cos(angle)), 0])
    return pose


def write(path, column="t_minus_timestamp_s", absolute=False, first=-0.05):
    """Three sweeps of a tenth of a second of a wall 40 m ahead, one point after another."""
    random, frames = np.random.default_rng(0), []
    for k in range(3):
        moment = 0.1 * k
        times = np.linspace(first, first + 0.1, 500)
        rows = []
        for t in times:
            place = MAP + np.array([40.0, random.uniform(-20, 20), random.uniform(0, 5)])
            sensor = ego(moment + t) @ MOUNT
            xyz = np.linalg.solve(sensor, np.append(place, 1.0))[:3]
            rows.append([*xyz, 0.5, START + moment + t if absolute else t])
        np.array(rows).tofile(path / f"{k}.bin")
        lidar = {"file": f"{k}.bin", "dtype": "float64", "columns": ["x", "y", "z", "intensity", column]}
        lidar |= {"lidar_to_ego": MOUNT.tolist(), "ego_to_global": ego(moment).tolist()}
        frames.append({"frame_id": k, "timestamp_s": START + moment, "lidar": lidar})
    (path / "frames.json").write_text(json.dumps({"format": "lidar_sequence", "frames": frames}))
    return path


def off_the_wall(scene):
    """Metres to the wall, of every point, from the first ego position."""
    pose = scene.world_to_global.double()
    points = scene.points[:, :3].double() @ pose[:3, :3].T + pose[:3, 3]
    return (points[:, 0] - 40.0).abs()


@pytest.mark.parametrize("first", [-0.1, -0.05, 0.0], ids=["before", "around", "after"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_wall_is_flat_to_a_millimetre_when_deskewed_and_not_before(tmp_path, absolute, first):
    write(tmp_path, "timestamp" if absolute else "t_minus_timestamp_s", absolute, first)
    for index in range(3):
        scene = open_data(f"folder:{tmp_path}?deskew=1")[index]
        assert off_the_wall(scene).max() < 1e-3
        assert off_the_wall(SceneFolder(tmp_path)[index]).max() > 0.5
    # Sweeps that are merged are flat on each other.
    merged = SceneFolder(tmp_path, sweeps=3, deskew=True)[2]
    assert len(merged.points) == 1500 and off_the_wall(merged).max() < 1e-3


def test_screws_are_even_motions():
    """Half of a motion twice is the motion, and a tenth of it ten times, one without a turn included."""
    for angle, way in ((0.7, [1.0, -2, 0.5]), (1e-9, [3.0, 0, 0]), (0.0, [0.0, 0, 0])):
        motion = np.eye(4)
        motion[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        motion[:3, 3] = way
        twist = screw(motion)
        for parts in (1, 2, 10):
            part = np.eye(4)
            turns, ways = motions(twist, np.array([1 / parts]))
            part[:3, :3], part[:3, 3] = turns[0], ways[0]
            np.testing.assert_allclose(np.linalg.matrix_power(part, parts), motion, atol=1e-12)


def test_what_cannot_be_deskewed_is_said_in_a_line(tmp_path):
    write(tmp_path)
    content = json.loads((tmp_path / "frames.json").read_text())
    changes = [
        ({"columns": ["x", "y", "z", "intensity", "_"]}, "lidar.columns: expected a time of every point"),
        ({"ego_to_global": None}, "lidar.ego_to_global: expected a value because deskew=1, got none"),
    ]
    for change, words in changes:
        broken = json.loads(json.dumps(content))
        broken["frames"][1]["lidar"] |= change
        (tmp_path / "frames.json").write_text(json.dumps(broken))
        with pytest.raises(SceneFolderError, match=r"frame 1 \(1\): " + words.replace(".", r"\.")):
            SceneFolder(tmp_path, deskew=True)
        SceneFolder(tmp_path)
    write(tmp_path, "timestamp", absolute=True)
    content = json.loads((tmp_path / "frames.json").read_text())
    for frame in content["frames"]:
        frame["timestamp_s"] += 60
    (tmp_path / "frames.json").write_text(json.dumps(content))
    with pytest.raises(
        SceneFolderError, match=r"0.bin: frame 0 \(0\): lidar.columns: expected times of points"
    ):
        SceneFolder(tmp_path, deskew=True)[0]


def test_nothing_changes_where_nothing_is_asked(tmp_path):
    write(tmp_path)
    stored = np.fromfile(tmp_path / "1.bin").reshape(-1, 5)
    scene = SceneFolder(tmp_path)[1]
    assert torch.equal(scene.points[:, :3], torch.from_numpy(stored[:, :3].astype(np.float32)))
