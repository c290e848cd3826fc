"""SUN RGB-D's own files, written from a view of which the numbers are known."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    inspect_folder,
    open_data,
    validate_scene_folder,
)
from renderpretrain.data.readers import READERS

SUNRGBD = READERS["sunrgbd"]
INTRINSICS = [[16.0, 0, 7.5], [0, 16, 5.5], [0, 0, 1]]


def write_view(folder, color, depth, intrinsics, tilt):
    """One view, as the data set has it: rotated bits, pixels counted from 1, a 3x4 tilt."""
    for name in ("image", "depth_bfx", "extrinsics"):
        (folder / name).mkdir(parents=True)
    shutil.copy(color, folder / "image" / f"0000001{color.suffix}")
    stored = ((depth.astype(np.uint32) << 3) | (depth.astype(np.uint32) >> 13)) & 65535
    Image.fromarray(stored.astype(np.uint16)).save(folder / "depth_bfx" / "0000001_abs.png")
    matrix = np.array(intrinsics)
    matrix[:2, 2] += 1
    (folder / "intrinsics.txt").write_text(" ".join(map(str, matrix.flatten())))
    rows = np.concatenate([tilt, np.zeros((3, 1))], 1)
    (folder / "extrinsics" / "20140808.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))


@pytest.fixture
def published(realdata, tmp_path):
    """The view of ``realdata`` in the layout that it was published in."""
    source = realdata / "sunrgbd_000001"
    content = json.loads((source / "frames.json").read_text())
    frame = content["frames"][0]
    # read3dPoints.m: (right, down, forward) becomes tilt @ (right, forward, -down).
    tilt = np.array(frame["camera_to_world"])[:3, :3] @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    depth = np.asarray(Image.open(source / frame["depth"]))
    view = tmp_path / "SUNRGBD" / "kv2" / "kinect2data" / "000001"
    write_view(view, source / frame["color"], depth, content["intrinsics"], tilt)
    return tmp_path / "SUNRGBD"


def test_a_view_is_what_frames_json_says(realdata, published):
    native = open_data(f"sunrgbd:{published}")[0]
    neutral = open_data(f"folder:{realdata / 'sunrgbd_000001'}")[0]
    assert torch.equal(native.images, neutral.images) and torch.equal(native.z_depths, neutral.z_depths)
    assert_close(native.cameras.camera_to_world, neutral.cameras.camera_to_world, rtol=0, atol=1e-6)
    assert torch.equal(native.cameras.intrinsics, neutral.cameras.intrinsics)
    assert_close(native.points, neutral.points, rtol=0, atol=1e-5)
    # A room with z up: the floor is below the camera, and most of what is seen is in front of it.
    assert native.points[:, 2].quantile(0.05) < -0.5 and (native.points[:, 1] > 0).float().mean() > 0.99
    assert validate_scene_folder(published, reader=SUNRGBD) == []


def test_views_are_rooms_of_their_own_wherever_they_lie(tmp_path):
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "c.png")
    depth = np.full((12, 16), 1500, np.uint16)
    for place in ("a/b/view2", "a/view1", "xtion/c/d/e/view3"):
        write_view(tmp_path / "root" / place, tmp_path / "c.png", depth, INTRINSICS, np.eye(3))
    folder = SceneFolder(tmp_path / "root", reader=SUNRGBD)
    assert [frame.scene for frame in folder.index.frames] == ["a/b/view2", "a/view1", "xtion/c/d/e/view3"]
    assert len(folder) == 3 and (folder[0].z_depths == 1.5).all()
    # Without a tilt the camera looks along +y, and down is -z.
    assert_close(folder[0].points[:, 1], torch.full((192,), 1.5))
    assert len(open_data(f"sunrgbd:{tmp_path / 'root'}?stride=2")) == 2


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("intrinsics.txt", "1 2", "intrinsics.txt: expected 9 finite numbers, got 1 2"),
        ("intrinsics.txt", " ".join(["0"] * 9), "intrinsics: expected an invertible matrix"),
        ("extrinsics/20140808.txt", "nan " * 12, "20140808.txt: expected 12 finite numbers, got nan"),
        (
            "extrinsics/20140808.txt",
            "2 " * 12,
            "camera_to_world: expected an orthonormal right-handed",
        ),
        ("image/0000001.png", "text", "0000001.png: picture: expected a readable image"),
        ("depth_bfx/0000001_abs.png", None, "depth_bfx: expected one .png, got 0"),
    ],
)
def test_a_broken_view_is_one_line_and_can_be_skipped(tmp_path, file, text, line):
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "c.png")
    depth = np.full((12, 16), 1500, np.uint16)
    for place in ("view1", "view2"):
        write_view(tmp_path / "root" / place, tmp_path / "c.png", depth, INTRINSICS, np.eye(3))
    broken = tmp_path / "root" / "view1" / file
    broken.unlink() if text is None else broken.write_text(text)
    with pytest.raises(SceneFolderError) as caught:
        SceneFolder(tmp_path / "root", reader=SUNRGBD)
    assert line in str(caught.value) and "\n" not in str(caught.value)
    facts = inspect_folder(tmp_path / "root", reader=SUNRGBD)
    assert [len(frame.faults) for frame in facts] == [1, 0]
    assert len(SceneFolder(tmp_path / "root", reader=SUNRGBD, skip=[0])) == 1


def test_nothing_to_read_is_one_line(tmp_path):
    with pytest.raises(SceneFolderError, match=r"expected folders with image, depth_bfx .* got none$"):
        open_data(f"sunrgbd:{tmp_path}")
