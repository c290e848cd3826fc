"""Everything that can be wrong with a folder, each with the line it gives."""

import numpy as np
import pytest
import torch
from PIL import Image
from scene_folders import AHEAD, fails, loads_with_problem, save

from renderpretrain.data import SceneFolder, SceneFolderError, inspect_folder, validate_scene_folder
from renderpretrain.data.folder.inspection import Needs, faults


def test_a_good_folder_has_no_problems(street):
    path, _ = street
    assert validate_scene_folder(path) == []
    assert SceneFolder(path)[1].points.shape == (20, 5)


def test_missing_folder(tmp_path):
    fails(tmp_path / "nowhere", "nowhere: expected a folder with frames.json, got nothing")


def test_missing_index(tmp_path):
    fails(tmp_path, "frames.json: expected a file, got nothing")


def test_broken_json(street):
    path, _ = street
    (path / "frames.json").write_text('{"format": "multicam_lidar",\n "frames": [}')
    fails(path, "frames.json: line 2, column 13: expected JSON")


def test_unknown_format(street):
    path, content = street
    save(path, {**content, "format": "rosbag"})
    fails(path, "format: expected one of multicam_lidar, lidar_sequence, posed_rgbd, posed_rgb, got 'rosbag'")


def test_no_frames(street):
    path, content = street
    save(path, {**content, "frames": []})
    fails(path, "frames: expected", "at least 1 item", "got []")


def test_missing_field(street):
    path, content = street
    del content["frames"][1]["cameras"]["front"]["intrinsics"]
    save(path, content)
    fails(path, "frame 1 (f1): cameras.front.intrinsics: expected a value, got nothing")


@pytest.mark.parametrize(("file", "field"), [("1.bin", "lidar.file"), ("1.png", "readable image")])
def test_missing_file(street, file, field):
    path, _ = street
    (path / file).unlink()
    fails(path, file, "frame 1 (f1)", field, "got: nothing")
    assert any(file in problem and "got: nothing" in problem for problem in validate_scene_folder(path))


def test_truncated_sweep(street):
    path, _ = street
    (path / "1.bin").write_bytes((path / "1.bin").read_bytes()[:-5])
    fails(path, "1.bin: frame 1 (f1): lidar.file: expected a multiple of 16 bytes", "got 315 bytes")


def test_empty_sweep(street):
    path, _ = street
    (path / "0.bin").write_bytes(b"")
    fails(path, "0.bin: frame 0 (f0): lidar.file: expected a finite point, got none in a file of 0 bytes")


def test_points_that_are_not_numbers_are_dropped_and_counted(street, caplog):
    path, _ = street
    points = np.fromfile(path / "0.bin", np.float32).reshape(-1, 4)
    points[3, 1] = np.nan
    points[7, 0] = np.inf
    points.tofile(path / "0.bin")
    assert SceneFolder(path)[0].points.shape == (18, 5)
    assert (
        "0.bin: frame 0 (f0): lidar.file: expected finite points, got 2 of 20 that are not; they are left out"
        in caplog.text
    )
    (line,) = validate_scene_folder(path)
    assert line.startswith(
        f"{path / '0.bin'}: frame 0 (f0): lidar.file: expected finite points, got 2 of 20 "
    )


def test_labels_of_another_length(street):
    path, content = street
    (path / "0.u8").write_bytes(b"\x01" * 19)
    content["frames"][0]["lidar"]["semseg_file"] = "0.u8"
    save(path, content)
    fails(path, "0.u8: frame 0 (f0): lidar.semseg_file: expected 20 bytes, one per point, got 19")


def test_files_of_0_bytes(street):
    path, content = street
    (path / "0.png").write_bytes(b"")
    fails(path, "0.png: frame 0 (f0): cameras.front: expected a readable image", "got 0 bytes")
    (path / "0.npy").write_bytes(b"")
    content["frames"][0]["lidar"]["file"] = "0.npy"
    save(path, content)
    fails(path, "0.npy: frame 0 (f0): lidar.file: expected a file with content, got 0 bytes")


def test_image_of_another_size(street):
    path, _ = street
    Image.fromarray(np.zeros((12, 17, 3), np.uint8)).save(path / "1.png")
    fails(
        path,
        "1.png: frame 1 (f1): cameras.front: expected 16 x 12 pixels as frames.json declares, got 17 x 12",
    )
    assert "got 17 x 12" in validate_scene_folder(path)[0]


def test_broken_image(street):
    path, _ = street
    (path / "1.png").write_bytes((path / "1.png").read_bytes()[:30])
    fails(path, "1.png: frame 1 (f1): cameras.front: expected a readable image")
    assert "1.png" in validate_scene_folder(path)[0]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("intrinsics", [[0.0, 0, 7.5], [0, 16.0, 5.5], [0, 0, 1]], "expected an invertible matrix"),
        (
            "intrinsics",
            [[16.0, 0, float("nan")], [0, 16.0, 5.5], [0, 0, 1]],
            "expected a 3x3 matrix of finite numbers",
        ),
        (
            "intrinsics",
            [[1 / 987.0, 0.0, -0.491234567], [0.0, 1 / 981.0, -0.245123456], [0, 0, 1]],
            "got [[0.001013, 0.0, -0.4912], [0.0, 0.001019, -0.2451], [0.0, 0.0, 1.0]]: this looks inverted, "
            "its inverse has fx 987 and fy 981",
        ),
        (
            "intrinsics",
            [[16.0, 0, 0], [0, 16.0, 0], [7.5, 5.5, 1]],
            "[7.5, 5.5, 1.0]]: this looks transposed",
        ),
        ("intrinsics", [[0.0, 16, 7.5], [16, 0.0, 5.5], [0, 0, 1]], "there is a 0 where fx or fy belongs"),
        ("intrinsics", [[16.0, 0, 7.5], [0, 16.0, 5.5]], "expected a 3x3 matrix of finite numbers"),
        ("lidar_to_camera", [[2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]], "orthonormal"),
        (
            "lidar_to_camera",
            [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, -1.0, 0], [0, 0, 0, 1.0]],
            "right-handed",
        ),
        ("distortion", [0.1, 0.2], "expected k1, k2, p1, p2, k3"),
        ("width", 0, "1 to 65535 pixels"),
    ],
)
def test_bad_calibration(street, field, value, expected):
    path, content = street
    content["frames"][1]["cameras"]["front"][field] = value
    save(path, content)
    fails(path, f"frames.json: frame 1 (f1): cameras.front.{field}: expected", expected, "got")


def test_a_rotation_that_is_off_by_rounding_is_made_exact(street):
    path, content = street
    content["frames"][0]["cameras"]["front"]["lidar_to_camera"] = (
        np.array(AHEAD) + np.pad(np.full((3, 3), 1e-3), (0, 1))
    ).tolist()
    save(path, content)
    rotation = SceneFolder(path)[0].cameras.camera_to_world[0, :3, :3]
    np.testing.assert_allclose((rotation @ rotation.T).numpy(), np.eye(3), atol=1e-6)


def test_a_camera_without_a_place(street):
    path, content = street
    del content["frames"][1]["cameras"]["front"]["lidar_to_camera"]
    save(path, content)
    fails(path, "frame 1 (f1): cameras.front: expected lidar_to_camera, camera_to_ego", "got none of them")


def test_images_of_two_sizes_come_to_the_one_that_most_have(street):
    path, content = street
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(path / "1.png")
    content["frames"][1]["cameras"]["front"].update(width=32, height=24)
    save(path, content)
    assert SceneFolder(path)[0].images.shape == (1, 3, 24, 32)  # as many have either: the larger
    assert SceneFolder(path, image_size=(6, 8))[1].images.shape == (1, 3, 6, 8)
    content["frames"].append(content["frames"][0])
    save(path, content)
    assert SceneFolder(path)[1].images.shape == (1, 3, 12, 16)
    assert validate_scene_folder(path) == []


def test_a_frame_that_no_camera_sees_loads_with_a_problem(street):
    path, _ = street
    points = np.fromfile(path / "0.bin", np.float32).reshape(-1, 4)
    points[:, 1] += 500
    points.tofile(path / "0.bin")
    loads_with_problem(path, "frame 0 (f0): cameras: expected points in at least one image, got none")


def test_a_camera_that_faces_away_loads_with_a_problem(street):
    path, content = street
    turned = np.diag([-1.0, 1, -1, 1]) @ np.array(AHEAD)
    content["frames"][1]["cameras"]["front"]["lidar_to_camera"] = turned.tolist()
    save(path, content)
    loads_with_problem(
        path, "frame 1 (f1): cameras.front: expected points in front of it, got all of them behind"
    )


def test_merging_sweeps_needs_poses_and_times(street):
    path, content = street
    content["frames"][1]["lidar"]["ego_to_global"] = np.eye(4).tolist()
    save(path, content)
    with pytest.raises(
        SceneFolderError, match=r"frame 0 \(f0\): lidar.ego_to_global: expected a value because sweeps=2"
    ):
        SceneFolder(path, sweeps=2)
    for frame in content["frames"]:
        frame["lidar"]["ego_to_global"] = np.eye(4).tolist()
    save(path, content)
    with pytest.raises(SceneFolderError, match=r"timestamp: expected a value because sweeps=2"):
        SceneFolder(path, sweeps=2)


@pytest.mark.parametrize("apart", [False, True])
def test_frames_that_nothing_is_merged_with_are_one_sweep_each(street, caplog, apart):
    """A recording without any pose; and single frames, with poses or without, each in a scene of its own."""
    path, content = street
    for k, frame in enumerate(content["frames"]):
        frame |= {"timestamp_s": 0.1 * k} | ({"scene": f"s{k}"} if apart else {})
    if apart:
        content["frames"][0]["lidar"]["ego_to_global"] = np.eye(4).tolist()
    save(path, content)
    single, several = SceneFolder(path), SceneFolder(path, sweeps=5)
    for k in range(2):
        assert torch.equal(several[k].points, single[k].points)
    remarks = [record.message for record in caplog.records if "one sweep each" in record.message]
    assert len(remarks) == 1 and "because sweeps=5, got 2 of 2 alone" in remarks[0]
    facts = inspect_folder(path)
    assert [frame.lone for frame in facts] == [True, True] and faults(path, facts, Needs(sweeps=True)) == {}
    assert faults(path, facts, Needs(poses=True)).keys() == ({1} if apart else set())


def test_a_wall_at_one_and_a_half_metres(room):
    path, _ = room
    scene = SceneFolder(path)[0]
    assert validate_scene_folder(path) == []
    assert scene.points.shape == (192, 5)
    np.testing.assert_allclose(scene.points[:, 2].numpy(), 1.5, atol=1e-6)
    # The outermost pixel centres lie 7.5 pixels from the middle: 7.5 / 16 * 1.5 m.
    np.testing.assert_allclose(scene.points[:, 0].abs().max().item(), 0.703125, atol=1e-6)


def test_a_depth_image_with_colour(room):
    path, _ = room
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "d.png")
    fails(path, "d.png: frame 0 (7): depth: expected one integer per pixel, got uint8 (12, 16, 3)")


def test_a_picture_of_classes(room):
    path, content = room
    classes = np.arange(192).reshape(12, 16) % 3
    Image.fromarray(classes.astype(np.uint8)).save(path / "s.png")
    content["frames"][0]["semseg"], content["semseg_classes"] = "s.png", {"1": "wall", "2": "floor"}
    save(path, content)
    scene = SceneFolder(path)[0]
    assert scene.class_names == ("free", "wall", "floor") and validate_scene_folder(path) == []
    assert np.array_equal(scene.pixel_labels[0].numpy(), classes)
    assert np.array_equal(scene.point_labels.numpy(), classes.flatten())  # every pixel was measured
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path / "s.png")
    message = "s.png: frame 0 (7): semseg: expected one integer per pixel, got uint8 (12, 16, 3)"
    fails(path, message)


def test_a_depth_image_without_measurements(room):
    path, _ = room
    Image.fromarray(np.zeros((12, 16), np.uint16)).save(path / "d.png")
    loads_with_problem(path, "d.png: frame 0 (7): depth: expected measured pixels, got zeros only")


def test_a_missing_depth_image(room):
    path, content = room
    (path / "d.png").unlink()
    fails(path, "d.png: frame 0 (7): depth: expected a readable image, got: nothing")
    content["frames"][0]["depth"] = None
    save(path, content)
    loads_with_problem(
        path, "frame 0 (7): depth: expected a file because the format is posed_rgbd, got nothing"
    )
