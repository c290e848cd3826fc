"""Folders of strangers: nothing outside is read, nothing waits or swells, nonsense is refused."""

import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image
from scene_folders import AHEAD, INTRINSICS, fails, load, png, save

from renderpretrain.data import SceneFolder, SceneFolderError, open_data, validate_scene_folder

INF, NAN = float("inf"), float("nan")


def place(content, path):
    """The container of a value in frames.json, and its key; ``frames.0.lidar.file``."""
    *parents, key = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        content = content.setdefault(part, {}) if isinstance(content, dict) else content[part]
    return content, key


BOX = {"label": "car", "center": [1, 2, 3], "size_lwh": [4, 2, 1], "yaw": 0}
KITTI_BOX = {"label": "Car", "height_width_length": [1, 2, 4], "bottom_center": [1, 2, 3], "rotation_y": 0}


def matrix(of, row, column, value):
    """A matrix with one entry replaced."""
    return [[value if (i, j) == (row, column) else k for j, k in enumerate(r)] for i, r in enumerate(of)]


MIRRORED, FLIPPED = matrix(INTRINSICS, 0, 0, -16), matrix(INTRINSICS, 1, 1, -16)


def box(**other):
    """A box with something else about it."""
    return [{**BOX, **other}]


# In the first frame.
NONSENSE = [
    ("cameras.front.intrinsics", MIRRORED, "fx and fy of 0.1 pixels"),
    ("cameras.front.intrinsics", FLIPPED, "fx and fy of 0.1 pixels"),
    ("cameras.front.intrinsics", matrix(INTRINSICS, 0, 1, 1e300), "numbers up to 1e+06"),
    ("cameras.front.lidar_to_camera", matrix(AHEAD, 0, 3, 1e300), "numbers up to 1e+08"),
    ("cameras.front.distortion", [1e300, 0, 0, 0, 0], "numbers up to 1e+06"),
    ("cameras.front.width", 10**9, "expected 1 to 65535 pixels, got 1000000000"),
    ("cameras.wide", {"width": 60000, "height": 60000}, "expected at most 67108864 pixels"),
    ("timestamp_s", NAN, "expected seconds, within 1e11, got nan"),
    ("timestamp_s", INF, "expected seconds, within 1e11, got inf"),
    ("timestamp_s", 1.7e18, "expected seconds, within 1e11, got 1.7e+18"),
    ("timestamp_us", 10**400, "timestamp_us: expected"),
    ("boxes_lidar_frame", box(size_lwh=[4, -2, 1]), "size_lwh: expected 3 lengths from 1e-06"),
    ("boxes_lidar_frame", box(size_lwh=[4, 2, 1e-300]), "size_lwh: expected 3 lengths from 1e-06"),
    ("boxes_lidar_frame", box(size_lwh=[4, NAN, 1]), "3 numbers of finite numbers"),
    ("boxes_lidar_frame", box(yaw=NAN), "yaw: expected radians"),
    ("boxes_lidar_frame", box(yaw=179.0), "yaw: expected radians"),
    ("boxes_lidar_frame", box(velocity_xy=[1]), "velocity_xy: expected 2 numbers"),
    ("boxes_lidar_frame", box(velocity_xy=[1] * 5), "velocity_xy: expected 2 numbers"),
    ("boxes_rectified_cam0", [{**KITTI_BOX, "height_width_length": [-1] * 3}], "lengths from 1e-06"),
    ("lidar.columns", ["x", "y", "z", "x"], "expected x once among the columns"),
    ("lidar.columns", ["x", "y", "z", "ring", "ring"], "expected ring once"),
    ("lidar.columns", ["x", "y", "z", "intensity_0_0"], "names end in the largest value"),
    ("lidar.columns", ["x", "y", "z", "intensity_0_."], "names end in the largest value"),
    ("lidar.columns", ["x", "y", "z", "intensity_0_1.2.3"], "names end in the largest value"),
    ("lidar.intensity_scale", 0, "expected a number from 1e-6 to 1e9, got 0"),
    ("lidar.sensor_origin", [NAN, 0, 0], "3 numbers of finite numbers"),
    ("lidar.file", "", "expected the path of a file"),
    ("lidar.file", "a\0b", "lidar.file: expected the path of a file, got a\\x00b"),
    ("lidar.file", "\ud800", "lidar.file: expected"),
]


@pytest.mark.parametrize(("field", "value", "said"), NONSENSE)
def test_nonsense_outdoors(street, field, value, said):
    path, content = street
    container, key = place(content["frames"][0], field)
    front = content["frames"][0]["cameras"]["front"]
    container[key] = {**front, **value} if isinstance(value, dict) else value
    save(path, content)
    fails(path, "frames.json: frame 0 (f0): ", said)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("semseg_classes", {"2000000000": "x"}, "expected class numbers from 0 to 32767, got 2000000000"),
        ("semseg_classes", {"-1": "x"}, "expected class numbers from 0 to 32767, got -1"),
        ("levels", [5, 5], "expected what is black and then what is white"),
        ("format", [[[["x"]]]], "format: expected one of"),
        ("orientation", "left", "orientation: expected"),
    ],
)
def test_nonsense_about_the_whole_folder(street, field, value, said):
    path, content = street
    save(path, {**content, field: value})
    fails(path, "frames.json: ", said)


def test_5000_digits(street):
    path, content = street
    content["frames"][1]["timestamp_us"] = "digits"
    (path / "frames.json").write_text(json.dumps(content).replace('"digits"', "9" * 5000))
    fails(path, "frames.json: frame 1 (f1): timestamp_us: expected")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("depth_scale", 1e-300, "expected stored units per metre, from 1 to 1e6, got 1e-300"),
        ("depth_scale", 0.001, "expected stored units per metre, from 1 to 1e6, got 0.001"),
        ("depth_scale", INF, "expected stored units per metre, from 1 to 1e6, got inf"),
        ("depth_scale", NAN, "expected stored units per metre, from 1 to 1e6, got nan"),
        ("depth_invalid", 0.5, "depth_invalid"),
        ("views_per_scene", 0, "views_per_scene: expected 1 to 10000 views, got 0"),
        ("intrinsics", MIRRORED, "fx and fy of 0.1 pixels"),
        (
            "frames.0.camera_to_world",
            matrix(np.eye(4).tolist(), 1, 3, -INF),
            "a 4x4 matrix of finite numbers",
        ),
        ("frames.0.timestamp_s", -INF, "frame 0 (7): timestamp_s: expected seconds"),
    ],
)
def test_nonsense_indoors(room, field, value, said):
    path, content = room
    container, key = place(content, field)
    container[key] = value
    save(path, content)
    fails(path, "frames.json: ", said)


def test_objects_that_are_none_need_no_size(street):
    path, content = street
    content["frames"][0]["boxes_rectified_cam0"] = [
        {
            "label": "DontCare",
            "height_width_length": [-1] * 3,
            "bottom_center": [-1000] * 3,
            "rotation_y": -10,
        }
    ]
    content["frames"][0]["boxes_lidar_frame"] = [{**BOX, "velocity_xy": [NAN, None]}]
    save(path, content)
    assert load(path)[0].boxes.velocities.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' * 100_000])
def test_brackets_without_end(street, text):
    path, _ = street
    (path / "frames.json").write_text(text)
    fails(path, "frames.json: expected JSON, got brackets hundreds of levels deep")


def test_a_byte_order_mark_is_no_fault(street):
    path, _ = street
    (path / "frames.json").write_bytes(b"\xef\xbb\xbf" + (path / "frames.json").read_bytes())
    assert validate_scene_folder(path) == []


def test_names_with_control_characters_are_one_printable_line(street):
    path, content = street
    content["frames"][0]["frame_id"] = "\x1b]0;owned\x07\nerror: no"
    content["frames"][0]["cameras"] = {
        "\x1b[2J": {**content["frames"][0]["cameras"]["front"], "file": "\x1b.png"}
    }
    save(path, content)
    fails(path, "\\x1b]0;owned\\x07 error: no", "cameras.\\x1b[2J: expected a readable image")


@pytest.mark.parametrize("field", ["lidar.file", "lidar.semseg_file", "cameras.front.file"])
@pytest.mark.parametrize("kind", ["up", "absolute", "link", "folder link"])
def test_files_outside_of_the_folder_are_read_with_leave_only(street, tmp_path_factory, field, kind):
    path, content = street
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    container, key = place(content["frames"][0], field)
    secret = elsewhere / "secret"
    secret.write_bytes((path / container[key]).read_bytes() if key in container else bytes(20))
    (path / "link").symlink_to(secret if kind == "link" else elsewhere)
    names = {"up": f"../{elsewhere.name}/secret", "absolute": str(secret), "link": "link"}
    container[key] = names.get(kind, "link/secret")
    save(path, content)
    fails(
        path, "frame 0 (f0): " + field.removesuffix(".file" if "front" in field else ""), "within the folder"
    )
    assert "outside=1 allows others" in fails(path)
    folder = open_data(f"folder:{path}?outside=1")
    assert len(folder[0].points) == 20 and validate_scene_folder(path, outside=True) == []


def test_links_within_the_folder_are_files(street, tmp_path_factory):
    """Also where the folder itself is a link."""
    path, content = street
    (path / "link.bin").symlink_to(path / "0.bin")
    content["frames"][0]["lidar"]["file"] = "./sub/../link.bin"
    (path / "sub").mkdir()
    save(path, content)
    alias = tmp_path_factory.mktemp("alias") / "here"
    alias.symlink_to(path)
    assert validate_scene_folder(alias) == []


@pytest.mark.parametrize("field", ["lidar.file", "cameras.front.file"])
def test_what_is_no_file_is_not_waited_for(street, field):
    path, content = street
    os.mkfifo(path / "pipe")
    (path / "folder").mkdir()
    for name, got in (("pipe", "a device or pipe"), ("folder", "a folder")):
        container, key = place(content["frames"][0], field)
        container[key] = name
        save(path, content)
        fails(path, f"expected a regular file, got {got}")
    container[key] = "/dev/zero"
    save(path, content)
    with pytest.raises(SceneFolderError, match="expected a regular file, got a device or pipe"):
        load(path, outside=True)


def test_a_file_without_end_is_not_read(street):
    path, _ = street
    with (path / "0.bin").open("wb") as file:
        file.truncate(2**36)
    with (path / "1.png").open("wb") as file:
        file.truncate(2**36)
    fails(path, "0.bin: frame 0 (f0): lidar.file: expected at most 1073741824 bytes, got 68719476736")
    assert any("1.png" in line and "at most 268435456 bytes" in line for line in validate_scene_folder(path))


@pytest.mark.parametrize(
    ("start", "kind"), [(b"\x93NUMPY\x01\x00", ".npy"), (b"# .PCD v0.7\n", ".pcd"), (b"ply\nformat", ".ply")]
)
def test_sweeps_with_a_header_are_no_raw_rows(street, start, kind):
    path, _ = street
    (path / "0.bin").write_bytes(start.ljust(320, b"\0"))
    fails(path, f"0.bin: frame 0 (f0): lidar.file: expected raw rows without a header, got a {kind} file")


def test_points_beyond_every_map(street):
    path, content = street
    rows = np.tile([5.0, 0, 0, 1], (20, 1))
    rows[3, 1] = -1e300
    rows.tofile(path / "0.bin")
    content["frames"][0]["lidar"]["dtype"] = "float64"
    save(path, content)
    fails(path, "0.bin: frame 0 (f0): lidar.file: expected x, y, z within 1e+08 m, got 1e+300")


@pytest.mark.parametrize("size", [(100000, 100000), (13000, 13000), (9000, 9000)])
def test_bombs_are_refused_before_they_are_decoded(street, room, size):
    """Whatever frames.json declares; Pillow's own limit and warning are never met."""
    path, content = street
    save(path, content)
    (path / "0.png").write_bytes(png(*size))
    started = time.perf_counter()
    fails(path, f"expected 16 x 12 pixels as frames.json declares, got {size[0]} x {size[1]}")
    content["frames"][0]["cameras"]["front"].update(width=size[0], height=size[1])
    save(path, content)
    fails(path, "expected")
    path, content = room
    (path / "d.png").write_bytes(png(4 * size[0], 3 * size[1], depth=16))
    save(path, content)
    fails(path, "d.png: frame 0 (7): depth: expected 16 x 12 pixels as frames.json declares")
    assert time.perf_counter() - started < 2  # decoding takes longer, and 1.4 GiB


def test_colours_of_16_bits_keep_their_upper_8(street):
    path, _ = street
    values = (np.arange(12 * 16 * 3).reshape(12, 16, 3) * 100).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    (path / "0.png").write_bytes(png(16, 12, 16, 2, rows))
    read = load(path)[0].images[0].permute(1, 2, 0).numpy()
    # Pillow keeps the upper byte: at most one step of 1 / 255 below.
    assert np.abs(read - values.astype(float) / 65535).max() < 1.01 / 255


@pytest.mark.parametrize("kind", ["eps", "gif", "bmp", "ppm", "tga"])
def test_other_formats_are_not_even_tried(street, monkeypatch, tmp_path_factory, kind):
    """An EPS starts Ghostscript: here a stand-in that leaves a trace."""
    path, _ = street
    programs = tmp_path_factory.mktemp("programs")
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {programs}/ran\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    written = io.BytesIO()
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(written, kind)
    (path / "0.png").write_bytes(written.getvalue())
    fails(path, "0.png: frame 0 (f0): cameras.front: expected a readable image (PNG, JPEG, WebP or TIFF)")
    assert not (programs / "ran").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sensor_origin": (NAN, 0, 0)}, "sensor_origin: expected three finite numbers"),
        ({"sensor_origin": (0, INF, 0)}, "sensor_origin: expected three finite numbers"),
        ({"max_points": -5}, "max_points: expected at least 1, got -5"),
        ({"views_per_scene": 0}, "views_per_scene: expected at least 1, got 0"),
    ],
)
def test_options_that_cannot_be_meant(street, options, said):
    with pytest.raises(ValueError, match=said):
        SceneFolder(street[0], **options)
