"""``renderpretrain data check``: what a recording holds, and what is wrong with it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from renderpretrain import Cameras
from renderpretrain.cli import main
from renderpretrain.data import SyntheticRoom, SyntheticStreet, write_scene_folder
from renderpretrain.viz import points_on_image


def check(*arguments):
    """The exit code of a check."""
    with pytest.raises(SystemExit) as end:
        main(["data", "check", *(str(argument) for argument in arguments)])
    return end.value.code or 0


@pytest.fixture
def street(tmp_path):
    scene = SyntheticStreet(1, image_size=(96, 160), with_truth=False)[0]
    write_scene_folder(tmp_path / "street", [scene])
    return tmp_path / "street"


def test_a_good_recording_is_told_in_numbers_and_drawn(street, tmp_path, capsys):
    assert check(street, "--picture", tmp_path / "points.png") == 0
    said = capsys.readouterr().out
    assert "format     multicam_lidar, 1 frames, 1 scenes\n" in said
    assert "pictures   front, front_right, " in said and "z [m]      -1.8" in said
    assert "no problem found" in said and "problem  " not in said
    with Image.open(tmp_path / "points.png") as image:
        assert image.height > 6 * 320


def test_depth_images_are_told_too(tmp_path, capsys):
    write_scene_folder(tmp_path / "room", [SyntheticRoom(1, with_truth=False)[0]])
    assert check(tmp_path / "room") == 0
    assert "format     posed_rgbd, 4 frames, 1 scenes" in (said := capsys.readouterr().out)
    assert "depth      " in said


def test_problems_are_listed_and_end_with_1(street, tmp_path, capsys):
    file = street / "frames.json"
    content = json.loads(file.read_text())
    for camera in content["frames"][0]["cameras"].values():
        camera["lidar_to_camera"] = np.linalg.inv(camera["lidar_to_camera"]).tolist()
    file.write_text(json.dumps(content))
    assert check(street) == 1
    said = capsys.readouterr().out
    assert f"problem    {street}: cameras: expected poses inverted: " in said and "no problem" not in said
    next(street.glob("*.bin")).unlink()
    assert check(street) == 1
    assert "got: nothing" in capsys.readouterr().out
    assert check(tmp_path / "nowhere") == 1
    assert "expected a folder with frames.json, got nothing" in capsys.readouterr().out


def test_points_are_drawn_where_a_camera_sees_them():
    camera = Cameras(torch.tensor([[8.0, 0, 8], [0, 8, 4], [0, 0, 1]]), torch.eye(4), (8, 16))
    points = torch.tensor([[0.0, 0, 2], [0, 0, 4], [4, 2, 8], [0, 0, -5]])
    drawn = points_on_image(torch.ones(3, 8, 16), camera, points, near=2, far=60)
    near, far = drawn[:, 4:6, 8:10], drawn[:, 6:8, 12:14]  # the nearer of two, and one at (12, 6)
    assert torch.equal(near[0], torch.full((2, 2), 0.99)) and (far[0] < 0.99).all()
    assert (drawn == 0.7).all(0).sum() == 8 * 16 - 8
