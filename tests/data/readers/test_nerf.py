"""Photographs as nerfstudio and instant-ngp describe them, beside the ``frames.json`` of the same ones."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, open_data, validate_scene_folder
from renderpretrain.data.readers import READERS
from tests.data.readers.posed import depth_image, picture, same_loss, write_json

NERF = READERS["nerf"]
SIZE = (96, 64)
POSE = [[1.0, 0, 0, 0.5], [0, 0, 1, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]]


def write(path, frames=2, **table):
    """Some pictures of 16 x 12 pixels with a table; returns its content."""
    table = {"fl_x": 16, "fl_y": 15, "cx": 8, "cy": 6, "w": 16, "h": 12} | table
    entries = [{"file_path": f"images/{k}.png", "transform_matrix": POSE} for k in range(frames)]
    for k in range(frames):
        picture(path / f"images/{k}.png", seed=k)
    content = table | {"frames": entries}
    write_json(path / "transforms.json", content)
    return json.loads(json.dumps(content))


def test_fox_is_what_its_frames_json_says_but_for_half_a_pixel(realdata):
    """That frames.json took COLMAP's principal point as it is, which counts from the picture's edge."""
    path = realdata / "fox"
    native, neutral = (open_data(f"{name}:{path}", image_size=SIZE) for name in ("nerf", "folder"))
    assert len(native) == len(neutral)
    for one, other in zip(native.index.frames, neutral.index.frames, strict=True):
        assert (one.frame_id, one.color, one.camera_to_world) == (
            other.frame_id,
            other.color,
            other.camera_to_world,
        )
        assert one.distortion == other.distortion
        moved = np.array(other.intrinsics) - np.array(one.intrinsics)
        assert_close(moved, np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))
    assert torch.equal(native[0].images, neutral[0].images)
    assert validate_scene_folder(path, reader=NERF) == []


def test_the_loss_of_fox_is_that_of_its_frames_json(realdata, tmp_path):
    fox = realdata / "fox"
    content = json.loads((fox / "frames.json").read_text())
    for row in range(2):
        content["intrinsics"][row][2] -= 0.5
    for frame in content["frames"]:
        (tmp_path / frame["color"]).symlink_to(fox / frame["color"])
    write_json(tmp_path / "frames.json", content)
    box = (-8.0, -8.0, -4.0, 8.0, 8.0, 4.0)
    one, other = same_loss(f"nerf:{fox}", f"folder:{tmp_path}?outside=1", SIZE, box)
    assert one["rgb"] > 0 and one == pytest.approx(other, rel=1e-6)


def test_a_point_ahead_of_an_opengl_camera_is_where_its_pixel_is(tmp_path):
    """OpenGL cameras look along -z with y up; the edge of the picture is pixel 0."""
    write(tmp_path)
    camera = SceneFolder(tmp_path, reader=NERF)[0].cameras[0]
    in_camera = np.array([0.3, 0.2, -2.0, 1.0])
    point = torch.tensor(np.array(POSE) @ in_camera)[:3].float()
    pixels, depth, inside = camera.project(point[None])
    assert bool(inside) and float(depth) == pytest.approx(2)
    assert_close(pixels[0], torch.tensor([8 + 16 * 0.3 / 2, 6 - 15 * 0.2 / 2]))


def test_views_may_have_sizes_lenses_and_depth_of_their_own(tmp_path):
    content = write(tmp_path, 3, k1=0.1, k2=0.02, p1=0.001, p2=0.002)
    content["frames"][1] |= {"fl_x": 20, "k1": 0.2, "depth_file_path": "depth/1.png"}
    content["frames"][2] |= {"camera_model": "OPENCV_FISHEYE", "k3": 0.3, "k4": 0.4}
    depth_image(tmp_path / "depth/1.png", np.full((12, 16), 1500))
    write_json(tmp_path / "transforms.json", content)
    scene = SceneFolder(tmp_path, reader=NERF)[0]
    assert_close(scene.cameras.intrinsics[:, 0, 0], torch.tensor([16.0, 20, 16]))
    expected = [[0.1, 0.02, 0.001, 0.002, 0], [0.2, 0.02, 0.001, 0.002, 0], [0.1, 0.02, 0.3, 0.4, 0]]
    assert_close(scene.cameras.distortion, torch.tensor(expected))
    assert scene.cameras.fisheye.tolist() == [False, False, True]
    assert_close(scene.z_depths[1], torch.full((12, 16), 1.5))
    assert not scene.z_depths[0].any()
    half = open_data(f"nerf:{tmp_path}?depth_unit_scale_factor=0.002")[0]
    assert_close(half.z_depths[1], torch.full((12, 16), 3.0))
    write_json(tmp_path / "transforms.json", content | {"depth_unit_scale_factor": 0.0005})
    assert_close(SceneFolder(tmp_path, reader=NERF)[0].z_depths[1], torch.full((12, 16), 0.75))


def test_an_angle_of_view_and_a_path_without_suffix_do(tmp_path):
    """Blender's synthetic scenes say nothing else."""
    content = write(tmp_path)
    frames = [{"file_path": "./images/0", "transform_matrix": POSE}]
    write_json(tmp_path / "transforms.json", {"camera_angle_x": 2 * np.arctan(0.5), "frames": frames})
    scene = SceneFolder(tmp_path, reader=NERF)[0]
    assert_close(scene.cameras.intrinsics[0], torch.tensor([[16.0, 0, 8], [0, 16, 6], [0, 0, 1]]))
    assert scene.cameras.distortion is None and len(content["frames"]) == 2


def test_pictures_that_are_absent_are_left_out_and_counted_once(tmp_path, caplog):
    content = write(tmp_path, 3)
    (tmp_path / "images/1.png").unlink()
    folder = SceneFolder(tmp_path, reader=NERF)
    assert [frame.frame_id for frame in folder.index.frames] == ["images/0.png", "images/2.png"]
    SceneFolder(tmp_path, reader=NERF)
    (line,) = [r.message for r in caplog.records]
    assert line.endswith(
        "transforms.json: frames: expected the files of 3 pictures, got none for 1, which are left out"
    )
    for entry in content["frames"]:
        (tmp_path / entry["file_path"]).unlink(missing_ok=True)
    with pytest.raises(
        SceneFolderError, match=r"transforms.json: expected a file that is listed, got none of 3"
    ):
        SceneFolder(tmp_path, reader=NERF)


TURNED = [[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"fl_x": 0}, r"frame 0 \(images/0.png\): intrinsics: expected an invertible matrix"),
        ({"fl_x": "wide"}, r"frame 0 \(images/0.png\): fl_x: expected a finite number, got wide"),
        ({"w": float("nan")}, r"w, h: expected a finite number, got nan"),
        ({"k4": 0.1}, r"k4: expected 0 for OPENCV, got 0.1: undistort first"),
        (
            {"camera_model": "EQUIRECTANGULAR"},
            r"camera_model: expected one of OPENCV, .*, got EQUIRECTANGULAR",
        ),
        ({"fl_x": None, "fl_y": None}, r"fl_x: expected fl_x or camera_angle_x, got neither"),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 4}, r"camera_angle_x: expected radians between"),
        ({"transform_matrix": TURNED}, r"camera_to_world: expected an orthonormal right-handed rotation"),
        (
            {"transform_matrix": [[1]]},
            r"transform_matrix: expected a 4x4 matrix of finite numbers, got \[\[1\]\]",
        ),
        (
            {"transform_matrix": [[float("inf")] * 4] * 4},
            r"transform_matrix: expected a 4x4 matrix of finite",
        ),
        ({"file_path": "../other.png"}, r"color: expected a path within the folder .*got ../other.png"),
        ({"file_path": 3}, r"frame 0: file_path: expected a path, got 3"),
    ],
)
def test_what_is_wrong_with_a_frame_is_one_line_and_the_rest_is_read(tmp_path, told, line):
    content = write(tmp_path)
    content["frames"][0] |= told
    write_json(tmp_path / "transforms.json", content)
    with pytest.raises(SceneFolderError, match=line) as caught:
        SceneFolder(tmp_path, reader=NERF)
    assert str(caught.value).count("transforms.json") == 1
    assert len(SceneFolder(tmp_path, reader=NERF, skip=[0])) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", r"transforms.json: line 1, column 2: expected JSON, got"),
        ("[]", r"transforms.json: frames: expected a list of frames, got None"),
        ('{"frames": {}}', r"transforms.json: frames: expected a list of frames, got \{\}"),
        ('{"frames": [], "w": 1}', r"frames: expected a list of frames, got \[\]"),
    ],
)
def test_a_broken_table_is_one_line(tmp_path, text, line):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(SceneFolderError, match=line):
        open_data(f"nerf:{tmp_path}")
    with pytest.raises(ValueError, match="data: depth_unit_scale_factor: expected metres per stored unit"):
        open_data(f"nerf:{tmp_path}?depth_unit_scale_factor=0")
