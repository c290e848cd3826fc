"""Folders spoiled at random load with sensible numbers, or end in one line that the validator has, too."""

import copy
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from renderpretrain.data import SceneFolder, SceneFolderError, validate_scene_folder
from tests.data.scene_folders import write_room, write_street

IDENTITY = np.eye(4).tolist()

ODD = [
    *(
        None,
        True,
        "",
        "x",
        "..",
        "/etc/passwd",
        "\0",
        "\ud800",
        "0.bin",
        "c.png",
        "exif",
        "intensity_0_",
        "nan",
    ),
    *(0, 1, -1, 2, 16, 255, 65535, 10**6, 2**31, -(2**63), 10**40, 10**400),
    *(0.5, -0.5, 1e-300, 1e-9, 1e9, 1e20, 1e300, math.inf, -math.inf, math.nan),
    *([], {}, [0.0], [1, 2, 3], [[]], [math.nan] * 5, [math.inf] * 3, [1e300] * 2, ["x", "y", "z", "x"]),
    *({"2000000000": "x"}, {"1": "wall"}, [[-math.inf] * 4] * 4, [[1e200] * 3] * 3),
]
"""What a value is replaced by."""

STARTS = [
    b"",
    b"\0" * 64,
    b"\xff" * 96,
    b"\x93NUMPY",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"GIF89a",
    b"II*\0",
    b"RIFF",
]
"""What the beginning of a file is replaced by."""


def full_street(path):
    """A street that says all that a street may say."""
    content = write_street(path)
    content |= {"semseg_classes": {"1": "road"}, "orientation": "stored", "levels": [0, 255]}
    for k, frame in enumerate(content["frames"]):
        np.ones(20, np.uint8).tofile(path / f"{k}.u8")
        frame |= {"timestamp_s": 0.1 * k, "scene": "s"}
        frame["lidar"] |= {
            "dtype": "float32",
            "semseg_file": f"{k}.u8",
            "ego_to_global": IDENTITY,
            "lidar_to_ego": IDENTITY,
            "sensor_origin": [0, 0, 1],
            "intensity_scale": 255,
        }
        camera = frame["cameras"]["front"]
        camera |= {"distortion": [0.1, 0, 0, 0, 0], "lidar_to_rectified_cam0": camera["lidar_to_camera"]}
        box = {"label": "car", "center": [1, 2, 3], "size_lwh": [4, 2, 1], "yaw": 0.1, "velocity_xy": [1, 0]}
        frame["boxes_lidar_frame"] = [box]
        box = {"label": "Car", "height_width_length": [1, 2, 4], "bottom_center": [1, 2, 3], "rotation_y": 0}
        frame["boxes_rectified_cam0"] = [box]
    return content


def full_room(path):
    """A room that says all that a room may say."""
    content = write_room(path)
    Image.fromarray(np.ones((12, 16), np.uint8)).save(path / "s.png")
    content |= {"semseg_classes": {"1": "wall"}, "depth_invalid": [65535], "views_per_scene": 2}
    view = {**content["frames"][0], "semseg": "s.png", "timestamp_s": 1.5, "scene": "r"}
    content["frames"] = [{**copy.deepcopy(view), "frame_id": k} for k in range(3)]
    return content


def places(node):
    """Every container in the content and each of its keys."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from places(node[key])


def spoil_content(content, draw):
    """Replace, remove, double or move a value."""
    container, key = draw(st.sampled_from(list(places(content))))
    how = draw(st.sampled_from(["odd", "odd", "odd", "scale", "remove", "double", "move"]))
    if how == "odd":
        container[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif how == "scale" and isinstance(container[key], int | float):
        container[key] = container[key] * draw(st.sampled_from([-1, 0.5, 1e3, 1e-3, 1e150]))
    elif how == "remove":
        del container[key]
    elif how == "double" and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        other, place = draw(st.sampled_from(list(places(content))))
        container[key] = copy.deepcopy(other[place])


def spoil_file(path, draw):
    """Cut, lengthen, overwrite or exchange a file."""
    files = sorted(path.iterdir())
    file = draw(st.sampled_from(files))
    data = bytearray(file.read_bytes())
    how = draw(st.sampled_from(["flip", "flip", "cut", "longer", "start", "exchange", "number"]))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if how == "flip" and data:
        data[at] ^= 1 << draw(st.integers(0, 7))
    elif how == "cut":
        data = data[:at]
    elif how == "longer":
        data += bytes(draw(st.integers(1, 40)))
    elif how == "start":
        start = draw(st.sampled_from(STARTS))
        data[: len(start)] = start
    elif how == "number":
        odd = np.array([draw(st.sampled_from([math.nan, math.inf, -1e30, 1e30, 300, 1e-30, -1]))], np.float32)
        data[at - at % 4 :][:4] = odd.tobytes()
        data[at - at % 4 : at - at % 4 + 4] = odd.tobytes()
    else:
        data = bytearray(draw(st.sampled_from(files)).read_bytes())
    file.write_bytes(bytes(data))


def check_sensible(scene):
    """All that a scene promises of its numbers."""
    tensors = [scene.points, scene.lidar_origin, scene.z_depths, scene.images, scene.world_to_global]
    tensors += [scene.colors, scene.normals]
    if scene.cameras is not None:
        tensors += [scene.cameras.intrinsics, scene.cameras.camera_to_world, scene.cameras.distortion]
        assert (scene.cameras.intrinsics.diagonal(dim1=-2, dim2=-1) > 0).all()
    if scene.boxes is not None:
        boxes = scene.boxes
        tensors += [boxes.centers, boxes.sizes, boxes.yaws, boxes.velocities]
        assert (boxes.sizes > 0).all()
    for tensor in tensors:
        assert tensor is None or (
            tensor.isfinite().all() and (not tensor.numel() or tensor.abs().max() < 1e9)
        )
    assert scene.points.shape[1] == 5 and math.isfinite(scene.timestamp)
    for shares in (scene.points[:, 3], scene.images, scene.colors):
        assert shares is None or ((shares >= 0) & (shares <= 1)).all()
    for labels in (scene.point_labels, scene.pixel_labels):
        assert (
            labels is None
            or not labels.numel()
            or (labels.min() >= -1 and labels.max() < len(scene.class_names))
        )
    assert scene.z_depths is None or torch.equal(scene.z_depth_valid, scene.z_depths > 0)


def try_out(path):
    """Load every scene and validate; both agree."""
    problems = validate_scene_folder(path)
    assert all("\n" not in line and line.isprintable() for line in problems)
    try:
        folder = SceneFolder(path, image_size=(6, 8), sweeps=1)
        for number in range(len(folder)):
            check_sensible(folder[number])
    except SceneFolderError as error:
        assert str(error) in problems and str(error).startswith(str(path))
        return "refused"
    return "loads"


def fuzz(data, write):
    """One folder with some mutations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        content = json.loads(json.dumps(write(path)))  # nothing in it is shared
        for _ in range(data.draw(st.integers(0, 2))):
            if list(places(content)):
                spoil_content(content, data.draw)
        digits = json.dumps(content).replace("1" + "0" * 400, "1" + "0" * 5000)
        (path / "frames.json").write_text(digits)
        for _ in range(data.draw(st.integers(0, 1))):
            spoil_file(path, data.draw)
        return try_out(path)


QUICK = settings(
    max_examples=40,
    deadline=60000,  # milliseconds of a machine that does other things, too: what has an end is over by then
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=4000, derandomize=False)


@pytest.mark.parametrize("write", [full_street, full_room])
def test_a_whole_folder_loads_without_a_word(tmp_path, write):
    (tmp_path / "frames.json").write_text(json.dumps(write(tmp_path)))
    assert try_out(tmp_path) == "loads" and validate_scene_folder(tmp_path) == []


@QUICK
@given(st.data())
def test_spoiled_streets_are_refused_or_make_sense(data):
    fuzz(data, full_street)


@QUICK
@given(st.data())
def test_spoiled_rooms_are_refused_or_make_sense(data):
    fuzz(data, full_room)


@pytest.mark.long
@pytest.mark.parametrize("write", [full_street, full_room])
def test_many_spoiled_folders_are_refused_or_make_sense(write):
    @LONG
    @given(st.data())
    def spoiled(data):
        fuzz(data, write)

    spoiled()
