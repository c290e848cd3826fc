"""What is in doubt about the data of a run is said before its first step, and kept with it."""

import json

import numpy as np
import pytest
from stand_in import StandIn, optimization

from renderpretrain.data import (
    FollowedScenes,
    MixedScenes,
    SceneFolder,
    SceneWindows,
    SyntheticStreet,
    write_scene_folder,
)
from renderpretrain.geometry import VoxelGrid
from renderpretrain.training import RunOptions, fit
from renderpretrain.training.doubts import geometry_doubts, held_out_doubt


@pytest.fixture(scope="module")
def inverted(tmp_path_factory):
    """A moment on a street whose cameras' poses are inverted."""
    path = tmp_path_factory.mktemp("inverted") / "street"
    moments = SyntheticStreet(2, image_size=(96, 160), frames_per_street=2, with_truth=False)
    write_scene_folder(path, [moments[0], moments[1]], one_recording=True)
    content = json.loads((path / "frames.json").read_text())
    for frame in content["frames"]:
        for camera in frame["cameras"].values():
            camera["lidar_to_camera"] = np.linalg.inv(camera["lidar_to_camera"]).tolist()
    (path / "frames.json").write_text(json.dumps(content))
    return path


def train(out, folder, **options):
    options = {"device": "cpu", **options}
    return fit(StandIn(), folder, optimization(steps=1), out=out, options=RunOptions(**options))


def test_geometry_that_contradicts_itself_is_said_and_the_run_goes_on(inverted, tmp_path, capsys):
    folder = SceneFolder(inverted, image_size=(24, 40))
    assert train(tmp_path / "run", folder).step == 1
    told = capsys.readouterr().out
    assert f"warning: {inverted}: cameras: expected poses inverted: " in told
    assert f"`renderpretrain data check 'folder:{inverted}?fit=pad'` says more" in told
    environment = tmp_path / "run" / "environment.json"
    doubts = json.loads(environment.read_text())["doubts"]
    assert len(doubts) == 2 and "expected poses inverted" in doubts[0]
    # A run that goes on says it no more, and does not forget it.
    train(tmp_path / "run", folder, resume=True)
    assert "poses inverted" not in capsys.readouterr().out
    assert json.loads(environment.read_text())["doubts"] == doubts


def test_geometry_is_looked_at_in_every_recording_of_a_mixture(inverted):
    mixed = MixedScenes([SyntheticStreet(1), SceneFolder(inverted, image_size=(24, 40))])
    lines = geometry_doubts(mixed, f"synthetic+folder:{inverted}")
    assert len(lines) == 2 and f"data check synthetic+folder:{inverted}`" in lines[1]


def test_scenes_that_are_made_are_not_looked_at():
    class Street(SyntheticStreet):
        def __getitem__(self, index):
            raise AssertionError("a scene was made")

    assert geometry_doubts(Street(2), "synthetic") == ()


def recording(path, steps, *, stamps=True, poses=True):
    """Frames that far from each other, metres, two tenths of a second apart."""
    frames, x = [], 0.0
    for k, step in enumerate([0.0, *steps]):
        x += step
        np.linspace(1, 9, 40, dtype=np.float32).tofile(path / f"{k}.bin")
        lidar = {"file": f"{k}.bin", "columns": ["x", "y", "z", "intensity"]}
        pose = np.eye(4)
        pose[0, 3] = x
        lidar |= {"ego_to_global": pose.tolist()} if poses else {}
        frames.append({"frame_id": k, "lidar": lidar} | ({"timestamp_s": 0.2 * k} if stamps else {}))
    (path / "frames.json").write_text(json.dumps({"format": "lidar_sequence", "frames": frames}))
    return SceneFolder(path)


def test_held_out_frames_beside_training_frames_are_told(tmp_path):
    folder = recording(tmp_path, [0.02] * 9)
    said = "held-out frames lie 0.02 m (0.2 s) from training frames: scores say little about other places"
    assert held_out_doubt(folder, 1) == said and held_out_doubt(folder, 0) == ""
    assert "0.04 m (0.4 s)" in held_out_doubt(folder, 3)  # the middle one of three
    grid = VoxelGrid((-8.0, -8, -4, 8, 8, 4), (1.0, 1, 1))
    wrapped = FollowedScenes(folder), SceneWindows(folder, grid), MixedScenes([folder], holdout=1)
    assert [held_out_doubt(dataset, 1) for dataset in wrapped] == [said] * 3


def test_held_out_frames_of_other_places_are_not(tmp_path):
    assert held_out_doubt(recording(tmp_path, [0.02] * 8 + [30.0]), 1) == ""


def test_time_tells_where_places_are_not_known(tmp_path):
    assert "lie 0.2 s from" in held_out_doubt(recording(tmp_path, [9.0] * 4, poses=False), 1)
    assert held_out_doubt(recording(tmp_path, [9.0] * 4, poses=False, stamps=False), 1) == ""
