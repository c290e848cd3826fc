"""7-Scenes and TUM RGB-D: depth of one view agrees with the next one's; tables against slow loops."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, inspect_folder, open_data
from renderpretrain.data.readers import READERS
from renderpretrain.data.readers.seven_scenes import COLOR, DEPTH, DEPTH_TO_COLOR
from renderpretrain.data.readers.tum import associated
from tests.data.readers.posed import depth_image, picture, same_loss, warp_error

RGBD = READERS["rgbd"]
SIZE = (96, 128)
CLOSE = 0.02
"""Metres: a Kinect's noise at two metres, and half of what views differ by without poses."""


def write_matrix(path, matrix):
    path.write_text("\n".join(" ".join(map(str, row)) for row in np.asarray(matrix).tolist()))


def write_seven(path, frames=3):
    """A recording of a wall at 1.5 m in two sequences."""
    for name in ("seq-01", "seq-02"):
        for k in range(frames):
            stem = path / name / f"frame-{k:06d}"
            picture(stem.parent / f"{stem.name}.color.png", (48, 64), seed=k)
            depth_image(stem.parent / f"{stem.name}.depth.png", np.full((48, 64), 1500))
            pose = np.eye(4)
            pose[0, 3] = 0.1 * k
            write_matrix(stem.parent / f"{stem.name}.pose.txt", pose)


def kitchen(realdata, path, count=40):
    """The real room in the layout of 7-Scenes; its depth images are registered to its pictures."""
    room = realdata / "rgbd_room"
    (path / "seq-01").mkdir(parents=True)
    for frame in json.loads((room / "frames.json").read_text())["frames"][:count]:
        stem = path / f"seq-01/frame-{frame['frame_id']:06d}"
        shutil.copy(room / frame["color"], f"{stem}.color.jpg")
        shutil.copy(room / frame["depth"], f"{stem}.depth.png")
        write_matrix(stem.parent / f"{stem.name}.pose.txt", frame["camera_to_world"])


def test_a_real_room_is_what_its_frames_json_says(realdata, tmp_path):
    kitchen(realdata, tmp_path)
    native = f"rgbd:{tmp_path}?registered=1&sequences=seq-01"
    one, other = (open_data(word) for word in (native, f"folder:{realdata / 'rgbd_room'}"))
    assert len(one) == len(other)
    for a, b in zip(one.index.frames, other.index.frames, strict=True):
        assert a.intrinsics == b.intrinsics and a.camera_to_world == b.camera_to_world
    assert torch.equal(one[0].points, other[0].points)
    assert max(warp_error(one[0], k, k + 1) for k in range(3)) < CLOSE
    terms = same_loss(native, f"folder:{realdata / 'rgbd_room'}", SIZE)
    assert terms[0]["depth"] > 0 and terms[0] == pytest.approx(terms[1], rel=1e-6)


def test_a_raw_recording_has_two_cameras(tmp_path):
    """Depth is looked at from the colour camera, which stands where the pose of the depth camera puts it."""
    write_seven(tmp_path)
    folder = open_data(f"rgbd:{tmp_path}")
    assert len(folder) == 2 and len(folder.index.frames) == 6
    frame = folder.index.frames[1]
    assert (frame.frame_id, frame.scene) == ("seq-01/frame-000001", "seq-01")
    assert frame.intrinsics == COLOR and frame.depth_intrinsics == DEPTH
    depth_camera = np.eye(4)
    depth_camera[0, 3] = 0.1
    assert_close(np.array(frame.camera_to_world) @ DEPTH_TO_COLOR, depth_camera)
    depth = folder[0].z_depths
    assert_close(depth[depth > 0], torch.full_like(depth[depth > 0], 1.5), rtol=0, atol=0.02)
    assert len(open_data(f"rgbd:{tmp_path}?stride=2&sequences=seq-02").index.frames) == 2
    assert len(open_data(f"rgbd:{tmp_path / 'seq-01'}").index.frames) == 3


def test_views_whose_tracking_was_lost_or_whose_files_are_gone_are_left_out(tmp_path, caplog):
    write_seven(tmp_path)
    (tmp_path / "seq-01/frame-000000.depth.png").unlink()
    (tmp_path / "seq-01/frame-000001.pose.txt").write_text("1 2 3")
    (tmp_path / "seq-02/frame-000001.pose.txt").write_text("nan " * 16)
    line = r"frame-000001.pose.txt: line 1: expected 4 finite numbers, got 1 2 3"
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(tmp_path, reader=RGBD)
    assert "expected the files of 6 views, got none for 1" in caplog.text
    bad = [frame.position for frame in inspect_folder(tmp_path, reader=RGBD) if frame.faults]
    assert bad == [0, 3] and len(SceneFolder(tmp_path, reader=RGBD, skip=bad).index.frames) == 3


def test_depth_of_a_real_desk_agrees_with_the_next_views(realdata):
    desk = realdata / "native" / "tum_fr1_desk"
    scene = open_data(f"rgbd:{desk}")[0]
    assert scene.camera_names[0] == "rgb/1305031453.359684.png" and len(scene.camera_names) == 4
    assert max(warp_error(scene, a, b) for a, b in ((0, 1), (1, 2), (2, 3), (0, 3))) < CLOSE
    assert_close(scene.cameras.distortion[0], torch.tensor([0.2624, -0.9531, -0.0054, 0.0026, 1.1633]))
    assert_close(scene.cameras.intrinsics[0, :2, 2], torch.tensor([318.6 + 0.5, 255.3 + 0.5]))


def test_the_loss_of_a_desk_is_that_of_the_same_frames_json(realdata, tmp_path):
    desk = realdata / "native" / "tum_fr1_desk"
    content = RGBD.content(open_data(f"rgbd:{desk}").access)
    for folder in ("rgb", "depth"):
        shutil.copytree(desk / folder, tmp_path / folder)
    (tmp_path / "frames.json").write_text(json.dumps(content))
    one, other = same_loss(f"rgbd:{desk}", f"folder:{tmp_path}", SIZE)
    assert one["depth"] > 0 and one == pytest.approx(other, rel=1e-6)


def test_times_are_associated_as_the_benchmarks_tool_does():
    """The tool: all pairs that are near enough, by their distance, each time used once."""
    generator = np.random.default_rng(3)
    first, second = (generator.uniform(0, 1, 60).tolist() for _ in range(2))
    near = sorted((abs(a - b), a, b) for a in first for b in second if abs(a - b) < 0.02)
    expected, left = [], (set(first), set(second))
    for _, a, b in near:
        if a in left[0] and b in left[1]:
            left[0].remove(a)
            left[1].remove(b)
            expected.append((a, b))
    assert [(first[i], second[j]) for i, j in associated(first, second)] == sorted(expected)
    assert 20 < len(expected) < 60


def write_tum(path, name="freiburg2_xyz"):
    """Three pictures, of which one has no depth; poses turn about z by a tenth of a turn a second."""
    times = (10.0, 10.03, 10.06)
    for k in range(3):
        picture(path / f"rgb/{k}.png", (48, 64), seed=k)
        depth_image(path / f"depth/{k}.png", np.full((48, 64), 5000 + k))
    rows = [f"# {name}", *(f"{time} rgb/{k}.png" for k, time in enumerate(times))]
    (path / "rgb.txt").write_text("\n".join(rows))
    rows = [f"{time} depth/{k}.png" for k, time in enumerate((10.004, 10.53, 10.05))]
    (path / "depth.txt").write_text("\n".join(rows))
    rows = []
    for t in np.arange(9.995, 10.1, 0.01):
        half = 2 * np.pi * 0.1 * (t - 10) / 2
        rows.append(f"{t} {t - 10} 0 0 0 0 {np.sin(half)} {np.cos(half)}")
    (path / "groundtruth.txt").write_text("\n".join(rows))


def test_poses_are_interpolated_and_pictures_without_depth_are_left_out(tmp_path, caplog):
    write_tum(tmp_path)
    folder = open_data(f"rgbd:{tmp_path}")
    assert "got none for 1" in caplog.text
    assert [frame.color for frame in folder.index.frames] == ["rgb/0.png", "rgb/2.png"]
    assert_close(folder[0].z_depths[1], torch.full((48, 64), 5002 / 5000))
    pose = np.array(folder.index.frames[1].camera_to_world)
    angle = 2 * np.pi * 0.1 * 0.06
    turned = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert np.allclose(pose[:2, :2], turned, atol=1e-7) and np.allclose(pose[:3, 3], [0.06, 0, 0], atol=1e-9)
    assert folder.index.frames[0].intrinsics[0][0] == 520.9
    assert open_data(f"rgbd:{tmp_path}?freiburg=3").index.frames[0].intrinsics[0][0] == 535.4


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("rgb.txt", "10.0 rgb/0.png", r"rgb.txt: expected the name of a recording as freiburg1_desk"),
        ("rgb.txt", "# freiburg1\nsoon rgb/0.png", r"rgb.txt: line 2: expected a time stamp and a file"),
        ("rgb.txt", "# freiburg1\n", r"rgb.txt: expected time stamps and files, got none"),
        ("groundtruth.txt", "10 0 0", r"groundtruth.txt: line 1: expected 8 finite numbers, got 10 0 0"),
        (
            "groundtruth.txt",
            "",
            r"rgb.txt: expected a depth image and a pose within 0.02 s",
        ),
        ("groundtruth.txt", "10 nan 0 0 0 0 0 1", r"groundtruth.txt: line 1: expected 8 finite numbers"),
        ("rgb/0.png", "text", r"rgb/0.png: color: expected a readable image"),
        ("depth.txt", "10.0 ../secret.png", r"frame 0 .*: depth: expected a path within the folder"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, file, text, line):
    write_tum(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(SceneFolderError, match=line):
        open_data(f"rgbd:{tmp_path}")


def test_neither_layout_is_one_line(tmp_path):
    with pytest.raises(
        SceneFolderError, match=r"expected seq-01 or frame-000000.pose.txt of 7-Scenes, or rgb"
    ):
        open_data(f"rgbd:{tmp_path}")
    write_seven(tmp_path, 1)
    with pytest.raises(SceneFolderError, match=r"sequences: expected some of seq-01, seq-02, got seq-09"):
        open_data(f"rgbd:{tmp_path}?sequences=seq-09")
    with pytest.raises(ValueError, match="data: stride: expected a whole number of at least 1"):
        open_data(f"rgbd:{tmp_path}?stride=0")


def test_times_that_are_all_the_same_are_one_line(tmp_path):
    """As many pairs as pictures times depth images would be billions."""
    write_tum(tmp_path)
    for kind in ("rgb", "depth"):
        (tmp_path / f"{kind}.txt").write_text("# freiburg1\n" + f"10.0 {kind}/0.png\n" * 20_000)
    with pytest.raises(SceneFolderError, match=r"depth.txt: time stamps: expected at most 100 within 0.02 s"):
        open_data(f"rgbd:{tmp_path}")
