"""Depth images of a camera of their own, seen from the picture's: against planes and slow loops."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, validate_scene_folder
from tests.data.scene_folders import INTRINSICS, save, write_room

OWN = [[20.0, 0, 8.0], [0, 20.0, 5.0], [0, 0, 1]]
"""A longer lens than the picture's, and another principal point."""

MOTION = np.array([[1, 0, 0, 0.317], [0, 1, 0, -0.123], [0, 0, 1, 0.05], [0, 0, 0, 1.0]])


def slowly_moved(depth, own, motion, seen):
    """The picture's depth image pixel by pixel; integer pixel centres."""
    found = np.full(depth.shape, np.inf)
    for v in range(depth.shape[0]):
        for u in range(depth.shape[1]):
            if depth[v, u] > 0:
                point = np.linalg.inv(own) @ [u, v, 1] * depth[v, u]
                x, y, z = (motion @ [*point, 1])[:3]
                column, row, _ = np.array(seen) @ [x / z, y / z, 1]
                column, row = int(np.floor(column + 0.5)), int(np.floor(row + 0.5))
                if 0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]:
                    found[row, column] = min(found[row, column], z)
    return np.where(np.isfinite(found), found, 0)


def test_a_moved_depth_camera_is_what_a_slow_loop_says(tmp_path):
    content = write_room(tmp_path)
    steps = np.random.default_rng(0).integers(0, 2, (12, 16)) * 700 + 1000  # two walls, one before the other
    steps[3, 4] = 0
    Image.fromarray(steps.astype(np.uint16)).save(tmp_path / "d.png")
    save(tmp_path, content | {"depth_intrinsics": OWN, "depth_to_color": MOTION.tolist()})
    scene = SceneFolder(tmp_path)[0]
    expected = slowly_moved(steps / 1000, OWN, MOTION, INTRINSICS)
    assert 0 < np.count_nonzero(expected) < expected.size
    assert_close(scene.z_depths[0].numpy(), expected.astype(np.float32))
    pixels, depths, inside = scene.cameras[0].project(scene.points[:, :3])
    assert inside.all() and len(depths) == np.count_nonzero(expected)
    u, v = pixels.long().unbind(-1)
    assert_close(scene.z_depths[0][v, u], depths)


def test_through_one_point_every_pixel_is_looked_up_and_none_is_left_open(tmp_path):
    """ScanNet's depth camera has its own intrinsics: a wall seen by a longer lens stays a wall."""
    content = write_room(tmp_path)
    ramp = 1000 + 10 * np.arange(16)[None] + 100 * np.arange(12)[:, None]
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "d.png")
    own = [[14.0, 0, 7.0], [0, 14.0, 6.0], [0, 0, 1]]
    save(tmp_path, content | {"depth_intrinsics": own})
    depth = SceneFolder(tmp_path)[0].z_depths[0].numpy()
    for v in range(12):
        for u in range(16):
            x, y, _ = np.linalg.inv(INTRINSICS) @ [u, v, 1]
            column, row = round(14 * x + 7), round(14 * y + 6)
            inside = 0 <= column < 16 and 0 <= row < 12
            assert depth[v, u] == pytest.approx(ramp[row, column] / 1000 if inside else 0, abs=1e-6)


def test_registered_depth_of_a_room_stays_what_it_is(realdata, tmp_path):
    """The picture's own intrinsics, said of the depth image, and no way between them change nothing."""
    room = realdata / "rgbd_room"
    content = json.loads((room / "frames.json").read_text())
    content["frames"] = content["frames"][:1]
    del content["depth_to_color"]  # told of the camera that these images came from
    for file in (content["frames"][0]["color"], content["frames"][0]["depth"]):
        (tmp_path / file).symlink_to(room / file)
    save(tmp_path, content)
    plain = SceneFolder(tmp_path, outside=True)[0]
    for told in ({}, {"depth_to_color": np.eye(4).tolist()}):
        save(tmp_path, content | {"depth_intrinsics": content["intrinsics"]} | told)
        found = SceneFolder(tmp_path, outside=True)[0].z_depths
        assert torch.equal(found > 0, plain.z_depths > 0)
        assert_close(found, plain.z_depths)


def test_views_have_lenses_and_depth_cameras_of_their_own(tmp_path):
    content = write_room(tmp_path)
    first = content["frames"][0]
    other = first | {"frame_id": 8, "distortion": [0.1, 0, 0, 0, 0], "depth_intrinsics": OWN}
    save(tmp_path, content | {"frames": [first, other], "distortion": [0.2, 0, 0, 0, 0]})
    scene = SceneFolder(tmp_path)[0]
    assert_close(scene.cameras.distortion[:, 0], torch.tensor([0.2, 0.1]))
    assert (scene.z_depths[0] > 0).all() and not (scene.z_depths[1] > 0).all()
    save(tmp_path, content | {"depth_intrinsics": [[1, 2], [3, 4]]})
    (line,) = validate_scene_folder(tmp_path)
    assert "frames.json: depth_intrinsics: expected a 3x3 matrix" in line
