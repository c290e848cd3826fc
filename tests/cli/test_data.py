"""``renderpretrain data``: what a recording holds, what is wrong with it, and recordings that are made."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from renderpretrain import Cameras
from renderpretrain.cli import main
from renderpretrain.data import (
    SceneFolder,
    SyntheticRoom,
    SyntheticStreet,
    validate_scene_folder,
    write_scene_folder,
)
from renderpretrain.data.checking import recordings_of
from renderpretrain.verbs.inspecting import open_to_look
from renderpretrain.viz import points_on_image
from renderpretrain.viz.recording import (
    ABOVE,
    LINE,
    SWEEPS_WITHIN,
    FromAbove,
    save_recording_picture,
)


def data(*arguments):
    """The exit code of a verb."""
    with pytest.raises(SystemExit) as end:
        main(["data", *(str(argument) for argument in arguments)])
    return end.value.code or 0


@pytest.fixture
def street(tmp_path):
    streets = SyntheticStreet(3, image_size=(48, 80), frames_per_street=3, with_truth=False)
    write_scene_folder(tmp_path / "street", streets, one_recording=True)
    return tmp_path / "street"


def spoil(street):
    """Three faults in two frames: a sweep is gone, another cut short, and so is a picture's file."""
    first, second, _ = sorted(street.glob("*.bin"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-2])
    (street / "000002_0.png").write_bytes(b"")


def test_a_recording_is_told_in_numbers_and_drawn(street, tmp_path, capsys):
    content = json.loads((street / "frames.json").read_text())
    content["frames"][2]["timestamp_s"] = 9.5
    content["frames"][2]["cameras"]["back"]["file"] = "gone.png"
    content["frames"][2]["cameras"].pop("back_left")
    (street / "frames.json").write_text(json.dumps(content))
    (street / "gone.png").symlink_to(street / "000002_3.png")
    assert data("inspect", f"folder:{street}", "--out", tmp_path / "seen.png") == 0
    said = capsys.readouterr().out
    assert "format     folder (multicam_lidar), 3 frames of 1 recording, 3 scenes to learn from\n" in said
    assert "camera     front: 80 x 48, 70 degrees wide, in 3 of 3 frames\n" in said
    assert "camera     back_left: 80 x 48, 70 degrees wide, in 2 of 3 frames\n" in said
    # Half a second and then nine: 9.5 s, and 1 / 4.75 s in the median of the two.
    assert "time       9.5 s, 0.211 frames a second" in said
    assert "gaps       1 longer than 1.5 s: 9 s after street-0-1\n" in said
    assert "none missing" in said and "poses      3 of 3 frames, a path of " in said
    assert "points of  road " in said and "boxes of   car " in said and "turned     " in said
    with Image.open(tmp_path / "seen.png") as image:
        assert image.width > 3 * 760 and image.height > ABOVE


def test_missing_files_are_counted_and_their_frames_left_out(street, tmp_path, capsys):
    (street / "000001_2.png").unlink()
    assert data("inspect", street) == 0
    said = capsys.readouterr().out
    assert "1 missing: 000001_2.png\n" in said and "looked at  2 of 3 scenes" in said
    assert f"unread     {street / '000001_2.png'}: frame 1 (street-0-1): cameras.back_right: " in said
    assert data("inspect", street, "--frame", 1, "--out", tmp_path / "seen.png") == 1
    assert "error: " in (said := capsys.readouterr().err) and "000001_2.png" in said
    for file in street.glob("*.bin"):
        file.unlink()
    assert data("inspect", street) == 1
    assert "expected scenes that can be read, got none" in capsys.readouterr().err


def test_shares_of_classes_are_those_of_the_labels(street, capsys):
    assert data("inspect", street) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("points of"))
    folder = SceneFolder(street)
    labels = torch.cat([folder[index].point_labels for index in range(3)])
    for number, name in enumerate(folder.class_names):
        if (labels == number).any():
            assert f"{name} {(labels == number).float().mean():.1%}" in line


def test_rooms_are_drawn_with_their_depth_and_several_sets_one_by_one(tmp_path, capsys):
    rooms = SyntheticRoom(2, with_truth=False)
    write_scene_folder(tmp_path / "room", (rooms[index] for index in range(2)))
    spec = f"folder:{tmp_path / 'room'}+folder:{tmp_path / 'room'}?views_per_scene=2"
    assert data("inspect", spec, "--frame", 1, "--out", tmp_path / "seen.png") == 0
    said = capsys.readouterr().out
    assert (
        said.count("format     folder (posed_rgbd), 8 frames of 2 recordings, ") == 2
        and "depth [m]  " in said
    )
    assert (tmp_path / "seen.png").is_file() and (tmp_path / "seen-2.png").is_file()
    assert data("inspect", f"folder:{tmp_path / 'room'}", "--frame", 2) == 1
    assert "frame: expected a number from 0 to 1, got 2" in capsys.readouterr().err


def test_every_fault_is_listed_once_and_ends_with_1(street, tmp_path, capsys):
    assert data("check", f"folder:{street}") == 0
    assert f"folder:{street}: no problem found" in capsys.readouterr().out
    spoil(street)
    assert data("check", street, "--workers", 4) == 1
    said = capsys.readouterr().out.splitlines()
    problems = [line for line in said if line.startswith("problem")]
    assert len(problems) == len(set(problems))
    assert said[-1].startswith(f"folder:{street}: {len(problems)} problems found")
    for file in ("000000_lidar.bin", "000001_lidar.bin", "000002_0.png"):
        assert sum(file in line for line in problems) == 1
    assert data("check", f"folder:{tmp_path / 'nowhere'}") == 1
    assert "expected a folder with frames.json, got nothing" in capsys.readouterr().out
    assert data("check", "folderr:x") == 1
    assert "did you mean folder:PATH?" in capsys.readouterr().err


def test_the_same_fault_of_all_frames_is_one_line_and_what_is_not_tested_is_said(street, capsys):
    content = json.loads((street / "frames.json").read_text())
    for frame in content["frames"]:
        frame["lidar"].pop("ego_to_global")
        frame["cameras"]["front"]["width"] += 2
    content["frames"][0]["lidar"]["ego_to_global"] = np.eye(4).tolist()
    (street / "frames.json").write_text(json.dumps(content))
    assert data("check", street) == 1
    problem, *notes, end = capsys.readouterr().out.splitlines()
    assert problem.startswith(
        f"problem    {street}/000000_0.png ...: frames 0-2: cameras.front: expected 82 x"
    )
    assert notes[-1] == "note       poses: not tested: no two frames of one scene have ego_to_global"
    assert end == f"folder:{street}: 3 problems found, {len(notes)} note{'s' * (len(notes) > 1)}"


def test_shards_are_told_and_checked_like_recordings(street, tmp_path, capsys):
    assert data("prepare", f"folder:{street}", tmp_path / "shards", "--shards") == 0
    assert data("inspect", f"shards:{tmp_path / 'shards'}", "--out", tmp_path / "seen.png") == 0
    told = capsys.readouterr().out
    assert "looked at  3 of 3 scenes" in told and (tmp_path / "seen.png").is_file()
    assert (
        "format     shards (" in told
        and ", 3 frames, 3 scenes to learn from\n" in told
        and "files      1 shard, " in told
    )
    assert "cameras    " in told
    seen = open_to_look(*recordings_of(f"shards:{tmp_path / 'shards'}"), width=40)[0]
    assert seen.images.shape[-2:] == (24, 40)  # half of what is stored, in its proportions
    assert open_to_look(*recordings_of(f"shards:{tmp_path / 'shards'}"))[0].images.shape[-2:] == (48, 80)
    assert data("check", f"shards:{tmp_path / 'shards'}") == 0
    (shard,) = (tmp_path / "shards").glob("*.tar")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    assert data("check", f"shards:{tmp_path / 'shards'}") == 1
    assert f"problem    {shard}: shard: expected the digest " in capsys.readouterr().out


def test_scenes_read_side_by_side_say_the_same(street):
    spoil(street)
    one = validate_scene_folder(street, workers=1)
    assert len(one) >= 3 and validate_scene_folder(street, workers=8) == one


def test_poses_that_are_mistaken_are_a_problem(tmp_path, capsys):
    write_scene_folder(tmp_path / "street", [SyntheticStreet(1, with_truth=False)[0]])
    file = tmp_path / "street" / "frames.json"
    content = json.loads(file.read_text())
    for camera in content["frames"][0]["cameras"].values():
        camera["lidar_to_camera"] = np.linalg.inv(camera["lidar_to_camera"]).tolist()
    file.write_text(json.dumps(content))
    assert data("check", tmp_path / "street") == 1
    assert "cameras: expected poses inverted: " in capsys.readouterr().out


def test_made_streets_and_rooms_open_as_what_they_were(tmp_path, capsys):
    size = ("--image-size", 24, 40)
    assert data("synth", tmp_path / "s", "--scenes", 4, "--frames-per-street", 2, "--seed", 5, *size) == 0
    assert f"--data folder:{tmp_path / 's'}" in capsys.readouterr().out
    folder = SceneFolder(tmp_path / "s", sweeps=2)
    made = SyntheticStreet(4, seed=5, frames_per_street=2, image_size=(24, 40), with_truth=False)
    assert [list(folder.sequence(k)) for k in range(4)] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    for index in range(4):
        scene = folder[index]
        torch.testing.assert_close(scene.points[scene.of_key_sweep, :4], made[index].points[:, :4])
        # 8 bits of colour are half of 1/255 apart at most.
        torch.testing.assert_close(scene.images, made[index].images, rtol=0, atol=0.51 / 255)
    assert data("synth", tmp_path / "r", "--kind", "room-night", "--scenes", 1, *size) == 0
    assert SceneFolder(tmp_path / "r").index.format == "posed_rgbd"
    assert data("synth", tmp_path / "r", "--kind", "room") == 1
    assert "a recording is never overwritten" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["r", "s"]


def test_points_are_drawn_where_a_camera_sees_them():
    camera = Cameras(torch.tensor([[8.0, 0, 8], [0, 8, 4], [0, 0, 1]]), torch.eye(4), (8, 16))
    points = torch.tensor([[0.0, 0, 2], [0, 0, 4], [4, 2, 8], [0, 0, -5]])
    drawn = points_on_image(torch.ones(3, 8, 16), camera, points, near=2, far=60)
    near, far = drawn[:, 4:6, 8:10], drawn[:, 6:8, 12:14]  # the nearer of two, and one at (12, 6)
    assert torch.equal(near[0], torch.full((2, 2), 0.99)) and (far[0] < 0.99).all()
    assert (drawn == 0.7).all(0).sum() == 8 * 16 - 8


def test_from_above_x_is_to_the_right_and_y_up(tmp_path):
    corners = torch.tensor([[-10.0, -10, 0], [10, -10, 0], [-10, 10, 0], [10, 10, 0], [5, 8, 3]])
    above = FromAbove(corners, torch.tensor([[4.0, -4, 2, 1, 0]]), torch.tensor([[0.0, 1, 0]]))
    path = save_recording_picture(tmp_path / "above.png", "title", [], above)
    with Image.open(path) as image:
        picture = np.asarray(image)[-ABOVE - 6 :, 6 : ABOVE + 6]
    green = np.argwhere((picture == (0, 255, 0)).all(-1))
    # 11 m from the middle to the border; the box lies 4 m to the right and 4 m down.
    middle = ABOVE / 2 + np.array([4.0, 4.0]) * ABOVE / 22
    assert np.abs(green.mean(0) - middle).max() < ABOVE / 22
    assert LINE > 0


def test_neighbouring_sweeps_are_drawn_beside_the_view_from_above(tmp_path):
    """10 m to the right in the one, 10 m up in the other, in the colours of before and after."""
    sweeps = {"-1.0 s": torch.tensor([[10.0, 0, 1]]), "+1.0 s": torch.tensor([[0.0, 10, 1]])}
    above = FromAbove(torch.zeros(1, 3), sweeps=sweeps)
    alone = FromAbove(torch.zeros(1, 3), sweeps={"this moment": sweeps["-1.0 s"]})
    with Image.open(save_recording_picture(tmp_path / "two.png", "title", [], above)) as image:
        picture = np.asarray(image)[..., :3].astype(int)
    with Image.open(save_recording_picture(tmp_path / "one.png", "title", [], alone)) as image:
        assert image.width < picture.shape[1] - ABOVE / 2
    red = np.argwhere(np.abs(picture - (244, 89, 63)).max(-1) < 2)
    blue = np.argwhere(np.abs(picture - (89, 114, 255)).max(-1) < 2)
    step = 10 * ABOVE / 2 / SWEEPS_WITHIN
    # The topmost pixels are the points, the others the legend's below the picture.
    assert np.abs(red[0] - blue[0] - (step, step)).max() <= 1
