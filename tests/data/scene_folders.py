"""Small scene folders to spoil, and what reader and validator make of them."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from renderpretrain.data import SceneFolder, SceneFolderError, validate_scene_folder

AHEAD = [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
"""lidar_to_camera of a camera that looks along +x."""

INTRINSICS = [[16.0, 0, 7.5], [0, 16.0, 5.5], [0, 0, 1]]


def write_street(path):
    """Two frames of twenty points ahead of one camera; returns the content of frames.json."""
    points = np.random.default_rng(0).uniform([5, -1, -1, 0], [9, 1, 1, 255], (20, 4)).astype(np.float32)
    frames = []
    for k in range(2):
        points.tofile(path / f"{k}.bin")
        Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / f"{k}.png")
        camera = {
            "file": f"{k}.png",
            "width": 16,
            "height": 12,
            "intrinsics": INTRINSICS,
            "lidar_to_camera": AHEAD,
        }
        lidar = {"file": f"{k}.bin", "columns": ["x", "y", "z", "intensity_0_255"]}
        frames.append({"frame_id": f"f{k}", "lidar": lidar, "cameras": {"front": camera}})
    content = {"format": "multicam_lidar", "frames": frames}
    save(path, content)
    return json.loads(json.dumps(content))


def write_room(path):
    """One posed view and its depth image, a wall at 1.5 m; returns the content of frames.json."""
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "c.png")
    Image.fromarray(np.full((12, 16), 1500, np.uint16)).save(path / "d.png")
    view = {
        "frame_id": 7,
        "color": "c.png",
        "depth": "d.png",
        "width": 16,
        "height": 12,
        "camera_to_world": np.eye(4).tolist(),
    }
    content = {"format": "posed_rgbd", "intrinsics": INTRINSICS, "depth_scale": 1000, "frames": [view]}
    save(path, content)
    return json.loads(json.dumps(content))


def save(path, content):
    (path / "frames.json").write_text(json.dumps(content))


def load(path, **options):
    """Every scene of a folder."""
    folder = SceneFolder(path, **options)
    return [folder[i] for i in range(len(folder))]


def fails(path, *parts):
    """Loading every scene fails with one line that holds all parts, and the validator says the same."""
    with pytest.raises(SceneFolderError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    for part in parts:
        assert part in message
    assert message in validate_scene_folder(path)
    return message


def loads_with_problem(path, part):
    """Every scene loads, and the validator has a line that holds the part."""
    scenes = load(path)
    problems = validate_scene_folder(path)
    assert any(part in problem for problem in problems), problems
    return scenes


def png(width, height, depth=8, kind=0, rows=b""):
    """A PNG file that claims a size, whatever its rows are."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
