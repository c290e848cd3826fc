"""A LiDAR that is faster than the frames: frames name the sweeps between them, which are merged."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    inspect_folder,
    validate_scene_folder,
    write_scene_folder,
)

WALL = np.stack(np.meshgrid(np.linspace(-3, 3, 7), [8.0], np.linspace(0, 2, 5)), -1).reshape(-1, 3)
"""Points of a wall in the global frame."""

NEAR = np.array([[0.5, -0.5, -1], [-0.9, 0.2, -1]])
"""Points of the own vehicle in the LiDAR frame."""


def pose_at(seconds):
    """The ego vehicle turns and drives."""
    turn, pose = 0.3 * seconds, np.eye(4)
    pose[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    pose[:3, 3] = 2 * seconds, 0.5 * seconds**2, 0
    return pose


def write(path, stamp):
    """The sweep of a moment: the wall, then the own vehicle; says where the file is and what the pose was."""
    pose = pose_at(stamp)
    points = np.concatenate([(WALL - pose[:3, 3]) @ pose[:3, :3], NEAR])
    np.c_[points, np.full(len(points), 0.5)].astype(np.float32).tofile(path / f"{stamp:.1f}.bin")
    return {"file": f"{stamp:.1f}.bin", "ego_to_global": pose.tolist()}


@pytest.fixture
def drive(tmp_path):
    """Frames at 0 s and 1 s, both labelled; the second names the first's sweep among its own, in disorder."""
    frames = []
    for stamp, between in ((0.0, ()), (1.0, (0.4, 0.0, 0.8))):
        lidar = {**write(tmp_path, stamp), "columns": ["x", "y", "z", "intensity"]}
        lidar |= {"own_vehicle": [-1, -1, 1, 1], "semseg_file": f"{stamp}.u8", "sensor_origin": [0, 0, 0]}
        np.ones(len(WALL) + len(NEAR), np.uint8).tofile(tmp_path / f"{stamp}.u8")
        sweeps = [{**write(tmp_path, moment), "timestamp_s": moment} for moment in between]
        frames.append({"frame_id": f"{stamp}", "timestamp_s": stamp, "lidar": lidar, "sweeps": sweeps})
    content = {"format": "lidar_sequence", "frames": frames, "semseg_classes": {"1": "wall"}}
    (tmp_path / "frames.json").write_text(json.dumps(content))
    return tmp_path, content


@pytest.mark.parametrize(("sweeps", "lags"), [(1, [0]), (3, [0, 0.2, 0.6]), (9, [0, 0.2, 0.6, 1.0])])
def test_sweeps_between_frames_are_merged_and_each_once(drive, sweeps, lags):
    scene = SceneFolder(drive[0], sweeps=sweeps)[1]
    assert_close(scene.points[:, 4].unique(), torch.tensor(lags, dtype=torch.float32))
    own = scene.of_key_sweep
    assert int(own.sum()) == len(WALL) + len(NEAR)
    # The own vehicle is in the frame's own sweep alone, and only that is labelled.
    assert len(scene.points) == len(lags) * len(WALL) + len(NEAR)
    assert torch.equal(scene.point_labels, torch.where(own, 1, -1))
    pose = pose_at(1.0)
    wall = scene.points[scene.points[:, :2].norm(dim=-1) > 2][:, :3].double().numpy()
    # float32 at ten metres keeps a micrometre.
    np.testing.assert_allclose(wall @ pose[:3, :3].T + pose[:3, 3], np.tile(WALL, (len(lags), 1)), atol=1e-5)


def test_a_frame_alone_in_its_scene_has_the_sweeps_that_it_names(drive):
    alone = SceneFolder(drive[0], sweeps=9, skip=[0])[0]
    assert_close(alone.points[:, 4].unique(), torch.tensor([0, 0.2, 0.6, 1.0]))
    assert [frame.lone for frame in inspect_folder(drive[0])] == [False, False]


def test_a_frame_in_map_coordinates_knows_its_own_vehicle_too(drive):
    path, content = drive
    shift = np.array([4e6, 5e6, 0])
    for frame in content["frames"]:
        own = frame["lidar"]
        own |= {"dtype": "float64", "own_vehicle": [4e6 - 1, 5e6 - 1, 4e6 + 1, 5e6 + 1]}
        for entry in (own, *frame["sweeps"]):
            rows = np.fromfile(path / entry["file"], np.float32).reshape(-1, 4).astype(np.float64)
            rows[:, :3] += shift
            rows.tofile(path / f"far_{entry['file']}")
            entry["file"] = f"far_{entry['file']}"
            pose = np.array(entry["ego_to_global"])
            pose[:3, 3] -= pose[:3, :3] @ shift
            entry["ego_to_global"] = pose.tolist()
        own["sensor_origin"] = shift.tolist()
    near = SceneFolder(path, sweeps=3)[1]
    (path / "frames.json").write_text(json.dumps(content))
    far = SceneFolder(path, sweeps=3)[1]
    assert_close(far.points, near.points, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"timestamp_s": 1.5}, r"frame 1 \(1.0\): expected sweeps.1 to have a time before 1 s, got 1.5 s"),
        ({"timestamp_s": None}, r"frame 1 \(1.0\): expected sweeps.1 to have a time before 1 s, got none"),
        ({"ego_to_global": [[np.inf] * 4] * 4}, r"frame 1 \(1.0\): sweeps.1.ego_to_global: expected a 4x4"),
        ({"file": "../0.4.bin"}, r"frame 1 \(1.0\): sweeps.1.file: expected a path within the folder"),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_one_line(drive, change, line):
    path, content = drive
    content["frames"][1]["sweeps"][1] |= change
    (path / "frames.json").write_text(json.dumps(content))
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(path)
    assert [len(frame.faults) for frame in inspect_folder(path)] == [0, 1]


def test_a_frame_that_names_sweeps_has_a_place_and_a_time(drive):
    path, content = drive
    del content["frames"][1]["lidar"]["ego_to_global"]
    content["frames"][1]["lidar"]["own_vehicle"] = [1, -1, -1, 1]
    (path / "frames.json").write_text(json.dumps(content))
    problems = validate_scene_folder(path)
    assert "lidar.own_vehicle: expected x_min, y_min, x_max, y_max in metres, the smaller ones" in problems[0]
    content["frames"][1]["lidar"]["own_vehicle"] = [-1, -1, 1, 1]
    (path / "frames.json").write_text(json.dumps(content))
    with pytest.raises(SceneFolderError, match=r"expected a time stamp and lidar.ego_to_global beside"):
        SceneFolder(path)


def test_missing_and_truncated_sweeps_are_found_where_they_are_merged(drive):
    path, _ = drive
    assert validate_scene_folder(path) == []
    assert [frame.faults for frame in inspect_folder(path, sweeps=4)] == [[], []]
    (path / "0.4.bin").unlink()
    (path / "0.8.bin").write_bytes((path / "0.8.bin").read_bytes()[:-1])
    told = r"0.8.bin: frame 1 (1.0): sweeps.2: lidar.file: expected a multiple of 16 bytes"
    gone = r"0.4.bin: frame 1 (1.0): sweeps.0: lidar.file: expected a readable file, got: nothing"
    for problems in (validate_scene_folder(path), inspect_folder(path, sweeps=4)[1].faults):
        assert len(problems) == 2 and told in problems[0] and gone in problems[1]
    # Nobody misses what is not merged.
    assert [frame.faults for frame in inspect_folder(path)] == [[], []]
    assert len(SceneFolder(path)[1].points) == len(WALL) + len(NEAR)
    with pytest.raises(SceneFolderError, match=r"sweeps.2: lidar.file: expected a multiple of 16 bytes"):
        SceneFolder(path, sweeps=2)[1]


def test_merged_scenes_are_written_by_their_own_sweeps_and_it_is_said(drive, tmp_path, caplog):
    path = tmp_path / "written"
    merged = SceneFolder(drive[0], sweeps=3)
    write_scene_folder(path, (merged[k] for k in range(len(merged))))
    (line,) = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert line.endswith("expected scenes of one sweep, got several merged in 1: each one's own is written")
    written = SceneFolder(path)
    assert [len(written[k].points) for k in range(2)] == 2 * [len(WALL) + len(NEAR)]
