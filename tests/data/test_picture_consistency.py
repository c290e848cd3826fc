"""Rooms of pictures alone: mistakes in poses, axes, intrinsics and units that neighbouring views tell."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from renderpretrain.data import validate_scene_folder
from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency import geometry_findings
from renderpretrain.data.folder.consistency.mistakes import BODY, OPENGL, inverted, scaled, transposed
from renderpretrain.data.folder.index import read_index

BOX = np.array([3.0, 1.5, 2.5])
"""Half the size of a room around the origin, metres; y is down."""

CAMERA = np.array([[140.0, 0, 80], [0, 140.0, 60], [0, 0, 1]])
SIZE = (120, 160)

POSES = {
    "poses inverted": inverted,
    "rotations transposed": transposed,
    "axes changed from OpenGL's": lambda pose: pose @ OPENGL,
    "axes changed from x forward": lambda pose: pose @ BODY,
    "translations in metres": scaled(1000),
}
INTRINSICS = {"intrinsics doubled": 0.5, "intrinsics halved": 2.0}


def look(position, yaw, pitch):
    """The pose of a camera in the room."""
    c, s, e, f = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array([[1, 0, 0], [0, e, -f], [0, f, e]])
    pose[:3, 3] = position
    return pose


def picture(pose, papers):
    """What a camera sees of papered walls."""
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([u, v, np.ones(SIZE)], -1) @ np.linalg.inv(CAMERA).T @ pose[:3, :3].T
    ways = (np.sign(rays) * BOX - pose[:3, 3]) / np.where(rays == 0, 1e-9, rays)
    wall = ways.argmin(-1)
    ends = pose[:3, 3] + ways.min(-1)[..., None] * rays
    sides = (np.take_along_axis(ends, wall[..., None], -1)[..., 0] > 0).astype(int)
    across = np.stack([np.take_along_axis(ends, ((wall + k) % 3)[..., None], -1)[..., 0] for k in (1, 2)])
    cells = ((across + 3.5) * 60).astype(int)
    return papers[wall * 2 + sides, cells[0], cells[1]]


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Eight views along a walk through a room with patterned walls."""
    path = tmp_path_factory.mktemp("room")
    noise = torch.rand(6, 1, 70, 70, generator=torch.Generator().manual_seed(3))
    papers = (255 * interpolate(noise, (420, 420), mode="bicubic").clamp(0, 1))[:, 0].byte().numpy()
    frames = []
    for k in range(8):
        pose = look((-1.2 + 0.2 * k, 0.1 * np.sin(k), -0.8 + 0.05 * k), 0.25 - 0.08 * k, 0.05 * np.cos(2 * k))
        Image.fromarray(picture(pose, papers)).convert("RGB").save(path / f"{k}.png")
        frames.append({"frame_id": k, "color": f"{k}.png", "width": 160, "height": 120})
        frames[-1]["camera_to_world"] = pose.tolist()
    content = {"format": "posed_rgb", "intrinsics": CAMERA.tolist(), "frames": frames}
    (path / "frames.json").write_text(json.dumps(content))
    return path


def problems(path, pose=lambda pose: pose, size=1.0):
    """What is said of a room with other poses or intrinsics."""
    index = read_index(path)
    for view in index.frames:
        view.camera_to_world = pose(np.array(view.camera_to_world)).tolist()
    for entry in (index, *index.frames):
        if entry.intrinsics is not None:
            entry.intrinsics = (np.array(entry.intrinsics) * [[size], [size], [1]]).tolist()
    return [found.line for found in geometry_findings(FolderAccess(path, False), index) if found.is_problem]


def test_right_pictures_are_consistent(room):
    assert problems(room) == [] and validate_scene_folder(room) == []


@pytest.mark.parametrize("name", POSES)
def test_poses_of_pictures(room, name):
    (problem,) = problems(room, POSES[name])
    assert f": expected {name}" in problem


@pytest.mark.parametrize("name", INTRINSICS)
def test_intrinsics_of_pictures(room, name):
    (problem,) = problems(room, size=INTRINSICS[name])
    assert f": expected {name}: then " in problem and "of the corners of pictures are found again" in problem


def test_kilometres_and_the_validator(room, tmp_path):
    index = json.loads((room / "frames.json").read_text())
    for frame in index["frames"]:
        (tmp_path / frame["color"]).write_bytes((room / frame["color"]).read_bytes())
        frame["camera_to_world"] = scaled(1e-3)(np.array(frame["camera_to_world"])).tolist()
    (tmp_path / "frames.json").write_text(json.dumps(index))
    (problem,) = validate_scene_folder(tmp_path)
    assert problem.startswith(f"{tmp_path}: camera_to_world: expected translations in metres: ")


def test_a_camera_that_stands_still_is_not_wrong(room, tmp_path):
    """All views are the same: there is no way between them that could tell a depth."""
    index = json.loads((room / "frames.json").read_text())
    index["frames"] = [{**index["frames"][0], "frame_id": k} for k in range(8)]
    (tmp_path / "0.png").write_bytes((room / "0.png").read_bytes())
    (tmp_path / "frames.json").write_text(json.dumps(index))
    assert problems(tmp_path) == []


@pytest.mark.realdata
@pytest.mark.slow
def test_a_real_walk_around_something(realdata):
    assert problems(realdata / "fox") == []
    for name in ("poses inverted", "axes changed from OpenGL's"):
        (problem,) = problems(realdata / "fox", POSES[name])
        assert f": expected {name}" in problem
