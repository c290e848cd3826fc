"""KITTI's raw drives: real files beside their ``frames.json``, and drives written from a known world."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, inspect_folder, open_data
from renderpretrain.data.readers import READERS
from tests.data.readers.kitti_files import (
    POSTS,
    numbers,
    one_step,
    save_picture,
    save_sweep,
    save_text,
    seen_from,
    turn,
)

KITTI = READERS["kitti"]
RADIUS, LATITUDE, LONGITUDE = 6378137.0, 49.0, 8.4
DAY, DRIVE = "2011_09_26", "2011_09_26_drive_0001_sync"

TO_CAMERA = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
IMU_TO_LIDAR = turn(yaw=0.02, at=(-0.8, 0.3, -0.8))
EGO = [turn(at=(0, 0, 100)), turn(0.01, -0.02, 0.3, at=(4.0, 1.5, 100.2))]
"""Poses of the inertial unit: metres east, north and up of where the drive begins."""

TRACKLETS = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<!DOCTYPE boost_serialization>
<boost_serialization signature="serialization::archive" version="9"><tracklets class_id="0">
<count>1</count>
<item class_id="1"><objectType>Van</objectType><h>2.0</h><w>1.8</w><l>4.4</l><first_frame>1</first_frame>
<poses class_id="2"><item class_id="3"><tx>13.0</tx><ty>1.5</ty><tz>-1.6</tz><rx>0</rx><ry>0</ry>
<rz>-1.5</rz><state>2</state></item></poses><finished>1</finished></item></tracklets></boost_serialization>
"""


def write_drive(path):
    """A drive of two frames, the second a tenth of a second and four metres on."""
    day, drive = path / DAY, path / DAY / DRIVE
    for name, motion in (("imu_to_velo", IMU_TO_LIDAR), ("velo_to_cam", TO_CAMERA)):
        lines = f"R: {numbers(motion[:3, :3])}", f"T: {numbers(motion[:3, 3])}"
        save_text(day / f"calib_{name}.txt", "calib_time: 15-Mar-2012 11:37:16", *lines)
    rig = ["S_rect_02: 16 12", f"R_rect_00: {numbers(np.eye(3))}"]
    rig.append(f"P_rect_02: {numbers([[16, 0, 7.5, 1.6], [0, 16, 5.5, 0], [0, 0, 1, 0]])}")
    save_text(day / "calib_cam_to_cam.txt", *rig)
    for number, pose in enumerate(EGO):
        name = f"{number:010d}"
        save_sweep(drive / f"velodyne_points/data/{name}.bin", seen_from(pose @ np.linalg.inv(IMU_TO_LIDAR)))
        save_picture(drive / f"image_02/data/{name}.png")
        east, north, up = pose[:3, 3]
        latitude = LATITUDE + math.degrees(north / RADIUS)
        longitude = LONGITUDE + math.degrees(east / RADIUS / math.cos(math.radians(LATITUDE)))
        yaw = math.atan2(pose[1, 0], pose[0, 0])
        pitch, roll = -math.asin(pose[2, 0]), math.atan2(pose[2, 1], pose[2, 2])
        packet = [latitude, longitude, up, roll, pitch, yaw, *[0] * 24]
        save_text(drive / f"oxts/data/{name}.txt", numbers(packet))
    stamps = "2011-09-26 13:02:25.951199337", "2011-09-26 13:02:26.054423000"
    save_text(drive / "velodyne_points/timestamps.txt", *stamps)
    save_text(drive / "tracklet_labels.xml", TRACKLETS)


@pytest.fixture
def root(tmp_path):
    """A folder with the drive."""
    write_drive(tmp_path)
    return tmp_path


def test_a_real_drive_is_what_frames_json_says(realdata):
    path = realdata / "kitti_raw_native"
    native, neutral = (open_data(f"{name}:{path}", image_size=(96, 320)) for name in ("kitti", "folder"))
    assert len(native) == len(neutral) == 2 and native.camera_names == ("image_02",)
    for one, other in zip((native[0], native[1]), (neutral[0], neutral[1]), strict=True):
        assert torch.equal(one.points, other.points) and torch.equal(one.images, other.images)
        assert_close(one.cameras.intrinsics, other.cameras.intrinsics)
        # The calibration is written with seven digits.
        assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=1e-5)
    assert native[0].world_to_global is None and native.index.frames[0].seconds is None
    several = open_data(f"kitti:{path}", image_size=(96, 320), sweeps=5)
    assert torch.equal(several[1].points, native[1].points)


def test_the_loss_of_a_real_drive_is_that_of_its_frames_json(realdata):
    one, other = (one_step(f"{name}:{realdata / 'kitti_raw_native'}") for name in ("kitti", "folder"))
    # Their calibrations differ by 1e-9.
    assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize("place", ["", DAY, f"{DAY}/{DRIVE}"])
def test_what_stands_still_stays_where_it_is(root, place):
    """Through the calibration, the packets' map and the time stamps, from the root, a day or a drive."""
    folder = open_data(f"kitti:{root / place}", sweeps=2)
    scene = folder[1]
    assert len(scene.points) == 2 * len(POSTS) and folder.sequence(1) == [0, 1]
    now, before = scene.points[scene.of_key_sweep], scene.points[~scene.of_key_sweep]
    # Coordinates are float32, and the map of five metres is flat to a hundredth of a millimetre.
    assert_close(before[:, :3], now[:, :3], rtol=0, atol=2e-5)
    assert_close(before[:, 4], torch.full((5,), 0.103223663), rtol=0, atol=1e-6)
    assert scene.boxes.centers.tolist() == [pytest.approx([13.0, 1.5, -0.6])] and folder[0].boxes is None
    assert scene.boxes.sizes.tolist() == [pytest.approx([4.4, 1.8, 2.0])]
    assert scene.boxes.yaws.tolist() == [-1.5] and folder.class_names == ("free", "Van")
    assert scene.cameras.centers[0].tolist() == pytest.approx(
        (np.linalg.inv(TO_CAMERA) @ [-0.1, 0, 0, 1])[:3]
    )


def test_drives_are_scenes_of_their_own(root):
    second = root / DAY / DRIVE.replace("0001", "0002")
    save_sweep(second / "velodyne_points/data/0000000000.bin", POSTS)
    folder = open_data(f"kitti:{root}", sweeps=2)
    assert [frame.scene[-9:-5] for frame in folder.index.frames] == ["0001", "0001", "0002"]
    assert folder.sequence(2) == [2] and len(folder[2].points) == len(POSTS)


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("oxts/data/0000000001.txt", "49 8 nan", "oxts/data/0000000001.txt: expected 30 finite numbers, got"),
        ("oxts/data/0000000001.txt", " ".join(["99"] * 30), "expected a latitude within 85"),
        ("oxts/data/0000000001.txt", None, "0000000001.txt: table: expected a readable file, got: nothing"),
        ("velodyne_points/timestamps.txt", "2011-09-26 13:02:25", "timestamps.txt: line 2: expected a time"),
        ("velodyne_points/timestamps.txt", "2011-09-26 13:02:25\n2011-13-26 13:02:25", "line 2: expected a"),
    ],
)
def test_a_frame_of_which_a_table_is_broken_can_be_skipped(root, file, text, line):
    place = root / DAY / DRIVE / file
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(root, reader=KITTI)
    assert [len(frame.faults) for frame in inspect_folder(root, reader=KITTI)] == [0, 1]
    assert len(SceneFolder(root, reader=KITTI, skip=[1])[0].points) == len(POSTS)


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("calib_cam_to_cam.txt", ("16.0 0.0 7.5", "0.0 0.0 7.5"), "P_rect_02: expected an invertible matrix"),
        ("calib_cam_to_cam.txt", ("P_rect_02", "P_02"), "P_rect_02: expected 12 finite numbers, got"),
        (
            "calib_velo_to_cam.txt",
            ("R: 0.0", "R: inf"),
            "calib_velo_to_cam.txt: R: expected 9 finite numbers",
        ),
        ("calib_velo_to_cam.txt", ("-1.0", "-2.0"), "expected an orthonormal right-handed rotation"),
        ("calib_imu_to_velo.txt", ("R:", "Q:"), "calib_imu_to_velo.txt: R: expected 9 finite numbers, got"),
        (f"{DRIVE}/tracklet_labels.xml", ("</item>", ""), "tracklet_labels.xml: expected XML, got"),
        (f"{DRIVE}/tracklet_labels.xml", ("Van", ""), "tracklet 1: expected objectType"),
        (
            f"{DRIVE}/tracklet_labels.xml",
            ("13.0", "nan"),
            "pose 1: tx, ty, tz, rz: expected 4 finite numbers",
        ),
        (
            f"{DRIVE}/tracklet_labels.xml",
            ("serialization>\n<b", 'serialization [<!ENTITY a "b">]>\n<b'),
            "entities",
        ),
    ],
)
def test_a_broken_drive_is_one_line(root, file, change, line):
    place = root / DAY / file
    assert change[0] in place.read_text()
    place.write_text(place.read_text().replace(*change, 1))
    with pytest.raises(SceneFolderError, match=line) as caught:
        SceneFolder(root, reader=KITTI)
    assert "\n" not in str(caught.value)


def test_a_day_without_sweeps_is_one_line(root):
    for sweep in (root / DAY / DRIVE / "velodyne_points/data").iterdir():
        sweep.unlink()
    with pytest.raises(
        SceneFolderError, match="expected drives DATE/DATE_drive_NNNN_sync with sweeps, got none"
    ):
        open_data(f"kitti:{root}")
