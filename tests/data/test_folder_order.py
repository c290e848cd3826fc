"""What belongs together in a recording is told by names and time stamps, not by places in a list."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from renderpretrain.data import SceneFolder, SceneWindows, collate, open_data
from renderpretrain.data.folder.validation import check_scene_folder
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig

SHADES = {"front": 50, "left": 100, "right": 150}
"""Every camera's pictures have a grey of their own."""

AHEAD = [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]


def recording(path, stamps, *, cameras=("front", "left", "right"), scenes=None):
    """Frames 10 m apart, in the order of their stamps; frame ``k``'s ten points lie at ``y = 2 + k``."""
    frames = []
    for k, stamp in enumerate(stamps):
        points = np.full((10, 4), 2.0 + k, np.float32)
        points[:, 0] = np.linspace(-4, 4, 10)
        points.tofile(path / f"{k}.bin")
        pose = np.eye(4)
        pose[0, 3] = 10.0 * stamp
        frame = {
            "frame_id": f"f{k}",
            "timestamp_s": stamp,
            "lidar": {"file": f"{k}.bin", "columns": ["x", "y", "z", "intensity"]},
            "cameras": {},
        }
        frame["lidar"] |= {"ego_to_global": pose.tolist(), "sensor_origin": [0, 0, 0]}
        if scenes:
            frame["scene"] = scenes[k]
        for n, name in enumerate(cameras):
            turned = np.array(AHEAD)
            turned[0, 3] = n
            frame["cameras"][name] = {
                "file": f"{name}.png",
                "width": 16,
                "height": 12,
                "intrinsics": [[16.0, 0, 7.5], [0, 16.0, 5.5], [0, 0, 1]],
                "lidar_to_camera": turned.tolist(),
            }
        frames.append(frame)
    for name in cameras:
        Image.fromarray(np.full((12, 16, 3), SHADES[name], np.uint8)).save(path / f"{name}.png")
    content = {"format": "multicam_lidar" if cameras else "lidar_sequence", "frames": frames}
    save(path, content)
    return content


def save(path, content):
    (path / "frames.json").write_text(json.dumps(content))


def reverse_cameras(frame):
    frame["cameras"] = dict(reversed(frame["cameras"].items()))


@pytest.mark.parametrize("lacks", [0, 1, 3])
def test_a_camera_keeps_its_place_whatever_a_frame_lists(tmp_path, lacks):
    """One frame dropped a picture, another was written in another order."""
    content = recording(tmp_path, [0.0, 0.1, 0.2, 0.3])
    del content["frames"][lacks]["cameras"]["front"]
    reverse_cameras(content["frames"][2])
    save(tmp_path, content)
    folder = SceneFolder(tmp_path)
    front = folder.camera_names.index("front")
    calibration = Calibration(CalibrationConfig(refine=True, num_cameras=3))
    with torch.no_grad():
        calibration.refinement.deviations[front, 0] = 1.0
    for k in range(4):
        scene = folder[k]
        assert scene.camera_names == folder.camera_names and set(scene.camera_names) == set(SHADES)
        batch = collate([scene])
        for n, name in enumerate(scene.camera_names):
            there = not (k == lacks and name == "front")
            assert bool(batch.views.valid[0, n]) == there
            assert scene.images[n].unique().tolist() == pytest.approx([SHADES[name] / 255 if there else 0])
            if there:
                assert scene.cameras.centers[n, 1] == list(SHADES).index(name)
        after, before = (b.views.cameras.camera_to_world for b in (calibration(batch), batch))
        moved = (after - before)[0]
        assert (moved.abs().amax((-1, -2)) > 1e-6).tolist() == [n == front for n in range(3)]


def test_cameras_are_chosen_and_ordered_by_name(tmp_path):
    recording(tmp_path, [0.0])
    scene = open_data(f"folder:{tmp_path}?cameras=right,front")[0]
    assert scene.camera_names == ("right", "front")
    assert (scene.images[:, 0, 0, 0] * 255).round().tolist() == [150, 50]
    for wrong in ("right,back", "right,right", ""):
        with pytest.raises(ValueError, match="cameras: expected "):
            open_data(f"folder:{tmp_path}?cameras={wrong}")


def test_a_frame_without_any_camera_has_all_of_them_invalid(tmp_path):
    content = recording(tmp_path, [0.0, 0.1])
    content["frames"][1]["cameras"] = {}
    save(tmp_path, content)
    folder = SceneFolder(tmp_path)
    assert collate([folder[1], folder[0]]).views.valid.tolist() == [[False] * 3, [True] * 3]


def ys(scene, chosen):
    """Which frames points are from, counted from 0: by their y."""
    return sorted((scene.points[chosen, 1].unique() - 2).round().int().tolist())


def test_sweeps_are_merged_in_order_of_time_and_never_from_the_future(tmp_path):
    stamps = [0.2, 0.0, 0.3, 0.1]
    recording(tmp_path, stamps, cameras=())
    folder = SceneFolder(tmp_path, sweeps=3)
    for k, stamp in enumerate(stamps):
        scene = folder[k]
        before = sorted((t, i) for i, t in enumerate(stamps) if t <= stamp)[-3:]
        assert ys(scene, slice(None)) == sorted(i for _, i in before)
        assert ys(scene, scene.of_key_sweep) == [k]
        assert (scene.points[:, 4] >= 0).all()
        lags = {round(stamp - t, 3) for t, _ in before}
        assert {round(lag, 3) for lag in scene.points[:, 4].unique().tolist()} == lags
        # Each was moved to where it is seen from here: 10 m for a second.
        assert scene.points[scene.of_key_sweep, 0].tolist() == pytest.approx(np.linspace(-4, 4, 10))
        oldest = scene.points[:, 4].argmax()
        assert scene.points[oldest, 0] == pytest.approx(-4 - 10 * float(scene.points[oldest, 4]), abs=1e-4)
    assert [list(folder.sequence(k)) for k in range(4)] == [[1, 3, 0, 2]] * 4


def test_a_gap_in_time_ends_what_is_merged_and_labelled(tmp_path):
    recording(tmp_path, [0.0, 0.5, 60.5, 61.0, 62.2], cameras=())
    folder = SceneFolder(tmp_path, sweeps=4)
    assert [ys(folder[k], slice(None)) for k in range(5)] == [[0], [0, 1], [2], [2, 3], [2, 3, 4]]
    assert [list(folder.sequence(k)) for k in range(5)] == [[0, 1]] * 2 + [[2, 3, 4]] * 3
    wide = open_data(f"folder:{tmp_path}?max_gap=100", sweeps=4)
    assert ys(wide[3], slice(None)) == [0, 1, 2, 3]
    narrow = SceneFolder(tmp_path, sweeps=4, max_gap=1.0)
    assert ys(narrow[4], slice(None)) == [4]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="max_gap: expected a positive number of seconds"):
            SceneFolder(tmp_path, max_gap=wrong)


def test_sweeps_of_one_stamp_are_told_apart_by_the_mark_of_the_key_sweep(tmp_path):
    recording(tmp_path, [0.0, 0.0, 0.1], cameras=())
    folder = SceneFolder(tmp_path, sweeps=2)
    scene = folder[1]
    assert (scene.points[:, 4] == 0).all() and ys(scene, scene.of_key_sweep) == [1]
    few = SceneFolder(tmp_path, sweeps=2, max_points=12)[1]
    assert len(few.points) == 12 and ys(few, few.of_key_sweep) == [1] and ys(few, ~few.of_key_sweep) == [0]


def test_scenes_that_alternate_in_the_list_stay_apart(tmp_path):
    recording(tmp_path, [0.0, 0.0, 0.1, 0.1, 0.2], cameras=(), scenes="ababa")
    folder = SceneFolder(tmp_path, sweeps=3)
    assert [ys(folder[k], slice(None)) for k in range(5)] == [[0], [1], [0, 2], [1, 3], [0, 2, 4]]
    assert [list(folder.sequence(k)) for k in range(5)] == [[0, 2, 4], [1, 3]] * 2 + [[0, 2, 4]]


def test_windows_follow_time_and_keep_held_out_scenes_apart(tmp_path):
    """Listed 3, 1, 2, 0, and two of another scene; the last two frames are held out."""
    recording(tmp_path, [0.3, 0.1, 0.0, 0.1, 0.2, 0.0], cameras=(), scenes="aabbaa")
    grid = VoxelGrid((-64.0, -2.0, -8.0, 64.0, 12.0, 12.0), (2.0, 0.5, 1.0))
    windows = SceneWindows(SceneFolder(tmp_path), grid, reach=1, history=2, holdout=2)

    def labelled_by(k):
        rows = windows[k].occupancy.occupied.any(0).any(-1)  # one row of voxels in y for every frame
        return [i for i in range(6) if rows[grid.cells(torch.tensor([[0.0, 2.01 + i, 0]]))[0, 1]]]

    assert [labelled_by(k) for k in range(4)] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [labelled_by(k) for k in (4, 5)] == [[0, 1, 4], [1, 5]]
    names = [[scene.name[-2:] for scene in windows[k].previous] for k in range(6)]
    assert names == [["f1", "f1"], ["f1", "f1"], ["f2", "f2"], ["f2", "f2"], ["f5", "f1"], ["f5", "f5"]]


def test_views_are_neighbours_by_room_and_time(tmp_path):
    """Two rooms whose views alternate in the list, the first room's also out of order."""
    content = {"format": "posed_rgb", "intrinsics": [[16.0, 0, 7.5], [0, 16.0, 5.5], [0, 0, 1]], "frames": []}
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "c.png")
    for k, (room, stamp) in enumerate([("a", 0.3), ("b", None), ("a", 0.1), ("b", None), ("a", 0.2)]):
        view = {
            "frame_id": k,
            "scene": room,
            "timestamp_s": stamp,
            "color": "c.png",
            "width": 16,
            "height": 12,
        }
        content["frames"].append({**view, "camera_to_world": np.eye(4).tolist()})
    save(tmp_path, content)
    folder = SceneFolder(tmp_path, views_per_scene=2)
    assert [folder[k].camera_names for k in range(len(folder))] == [("2", "4"), ("0",), ("1", "3")]


def test_frames_that_are_skipped_are_nowhere_and_the_others_keep_their_names(tmp_path):
    content = recording(tmp_path, [0.0, 0.1, 0.2, 0.3])
    content["frames"][0]["lidar"]["columns"] = ["x"]  # cannot even be parsed
    save(tmp_path, content)
    folder = SceneFolder(tmp_path, sweeps=3, skip={0, 2})
    assert len(folder) == 2 and ys(folder[1], slice(None)) == [1, 3]
    (tmp_path / "3.bin").unlink()
    with pytest.raises(ValueError, match=r"frame 3 \(f3\): lidar.file"):
        SceneFolder(tmp_path, skip={0, 2})[1]
    with pytest.raises(ValueError, match="frames: "):
        SceneFolder(tmp_path, skip=range(4))


def test_a_folder_is_sent_to_a_process_as_bytes_and_not_as_a_million_objects(tmp_path):
    content = recording(tmp_path, [0.1 * k for k in range(3)])
    content["frames"] = [{**frame, "scene": f"s{k}"} for k in range(200) for frame in content["frames"]]
    save(tmp_path, content)
    folder = SceneFolder(tmp_path, sweeps=2)
    sent = pickle.dumps(folder)
    assert len(sent) < 1000 * len(folder)
    copy = pickle.loads(sent)
    assert torch.equal(copy[599].points, folder[599].points) and copy.index.frames[599].frame_id == "f2"
    objects = pickle.dumps(list(folder.index.frames[:600]), protocol=pickle.HIGHEST_PROTOCOL)
    assert b"OutdoorFrame" in objects and b"OutdoorFrame" not in sent


def test_frames_listed_out_of_order_and_gaps_are_noted(tmp_path):
    """They harm nothing, and are no problems: frames are read in order of time."""
    recording(tmp_path, [0.0, 0.4, 0.2, 30.4])
    found = check_scene_folder(tmp_path)
    order, gap = (line for line in found.notes if line.startswith("time: "))
    assert "another order than that of their time stamps (frame 1 (f1) is taken after frame 2 (f2))" in order
    assert "1 gap longer than 1.5 s, the longest 30 s after frame 1 (f1)" in gap
    assert not any("time" in line for line in found.problems)


def test_frames_in_order_without_gaps_are_not_noted(tmp_path):
    recording(tmp_path, [0.0, 0.2, 0.4])
    assert not any(line.startswith("time: ") for line in check_scene_folder(tmp_path).notes)
