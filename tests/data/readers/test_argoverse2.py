"""Argoverse 2's own files beside the ``frames.json`` that describes the same sweep."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import SceneFolderError, inspect_folder, open_data, validate_scene_folder
from renderpretrain.data.readers import READERS
from tests.data.readers.kitti_files import one_step

pyarrow = pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
feather = pytest.importorskip("pyarrow.feather")

LOG, STAMP = "7fab2350-7eaf-3b7e-a39d-6937a4c1bede", 315966265259836000
ARGOVERSE2 = READERS["argoverse2"]
QUATERNION = ["qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m"]


@pytest.fixture
def published(realdata):
    return realdata / "argoverse2_7fab2350"


@pytest.fixture
def said(published):
    """What frames.json says of the sweep."""
    content = json.loads((published / "frames.json").read_text())
    frame = content["frames"][0]
    frame["lidar"]["file"] = str(published / frame["lidar"]["file"])
    return content | {"frames": [frame]}


@pytest.fixture
def split(published, said, tmp_path):
    """A split with the log, its boxes, and pictures of two cameras, a little earlier or later."""
    log = tmp_path / "sensor" / "val" / LOG
    shutil.copytree(published / "native" / LOG, log, copy_function=shutil.copyfile)
    for folder in (log, *log.rglob("*")):
        folder.chmod(0o755)
    stamps = feather.read_table(log / "city_SE3_egovehicle.feather")["timestamp_ns"].to_numpy()
    near = stamps[np.argsort(np.abs(stamps - STAMP))[1:4]]
    for name, stamp, size in zip(
        ("ring_front_center", "ring_side_left"), near, ((1550, 2048), (2048, 1550)), strict=False
    ):
        (log / "sensors" / "cameras" / name).mkdir(parents=True)
        for moment in (stamp, stamp - 10**9):
            Image.new("RGB", size, (90, 120, 30)).save(log / "sensors" / "cameras" / name / f"{moment}.jpg")
    boxes = said["frames"][0]["boxes_lidar_frame"]
    half = np.array([box["yaw"] for box in boxes]) / 2
    rows = {"timestamp_ns": [STAMP] * len(boxes), "category": [box["label"] for box in boxes]}
    rows |= {
        n: [box["size_lwh"][k] for box in boxes] for k, n in enumerate(("length_m", "width_m", "height_m"))
    }
    rows |= {"qw": np.cos(half), "qx": 0 * half, "qy": 0 * half, "qz": np.sin(half)}
    rows |= {n: [box["center"][k] for box in boxes] for k, n in enumerate(("tx_m", "ty_m", "tz_m"))}
    feather.write_feather(pyarrow.table(rows), log / "annotations.feather")
    return log.parent


def matrix(numbers):
    """A pose from a quaternion and a translation, by the sandwich product."""
    w, x, y, z, *place = map(float, numbers)
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    right = np.array([[w, x, y, z], [-x, w, -z, y], [-y, z, w, -x], [-z, -y, x, w]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = (left @ right)[1:, 1:], place
    return pose


def test_a_sweep_is_that_of_frames_json(published):
    native, neutral = open_data(f"argoverse2:{published / 'native'}"), open_data(f"folder:{published}")
    one, other = native[0], neutral[0]
    assert len(native) == 1 and one.name == f"native/{LOG}/{STAMP}" and one.timestamp == other.timestamp
    assert torch.equal(one.points, other.points)
    assert_close(one.world_to_global, other.world_to_global, rtol=0, atol=1e-6)
    # The calibration's middle of the two sensors, and what the beams themselves say.
    assert_close(one.lidar_origin, other.lidar_origin, rtol=0, atol=0.05)
    assert validate_scene_folder(published / "native", reader=ARGOVERSE2) == []


def test_boxes_hold_as_many_points_as_were_counted(split, said):
    native = open_data(f"argoverse2:{split}")
    points = native.without_images(0).points[:, :3].double().numpy()
    boxes, counted = native.index.frames[0].boxes_lidar_frame, said["frames"][0]["boxes_lidar_frame"]
    found = []
    for box in boxes:
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        away = (points - box.center) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        found.append(int((np.abs(away) <= np.array(box.size_lwh) / 2).all(-1).sum()))
    assert [box.label for box in boxes] == [box["label"] for box in counted] and len(boxes) == 81
    assert found == [box["num_lidar_pts"] for box in counted]


def test_the_loss_is_that_of_frames_json(split, said, tmp_path):
    log = split / LOG
    poses = feather.read_table(log / "city_SE3_egovehicle.feather").to_pydict()
    frame, calibrations = said["frames"][0], said["cameras_calibration_only"]
    cameras = {}
    for folder in sorted((log / "sensors" / "cameras").iterdir()):
        file, known = max(folder.iterdir()), calibrations[folder.name]
        row = poses["timestamp_ns"].index(int(file.stem))
        vehicle = matrix([poses[name][row] for name in QUATERNION])
        camera = vehicle @ np.array(known["camera_to_ego"])
        k1, k2, k3 = known["distortion_k1k2k3"]
        cameras[folder.name] = {
            **{name: known[name] for name in ("width", "height", "intrinsics")},
            "file": str(file),
            "distortion": [k1, k2, 0, 0, k3],
            "lidar_to_camera": (np.linalg.inv(camera) @ np.array(frame["lidar"]["ego_to_global"])).tolist(),
        }
    content = {**said, "format": "multicam_lidar", "frames": [{**frame, "cameras": cameras}]}
    (tmp_path / "neutral").mkdir()
    (tmp_path / "neutral" / "frames.json").write_text(json.dumps(content))
    place = "sensor_origin=1.35,0,1.6"
    one = one_step(f"argoverse2:{split}?{place}")
    assert one == pytest.approx(one_step(f"folder:{tmp_path / 'neutral'}?{place}&outside=1"), rel=1e-6)


def test_logs_are_found_from_the_root_the_split_and_the_log(split):
    for word in (
        f"{split}/{LOG}",
        f"{split}",
        f"{split.parent}",
        f"{split.parent}?split=val",
        f"{split}?logs={LOG}",
    ):
        folder = open_data(f"argoverse2:{word}", image_size=(32, 32))
        assert [frame.frame_id for frame in folder.index.frames] == [f"{LOG}/{STAMP}"]
        assert folder.camera_names == ("ring_front_center", "ring_side_left")
    with pytest.raises(SceneFolderError, match=r"got 1 logs without the chosen ones$"):
        open_data(f"argoverse2:{split}?logs=a")
    with pytest.raises(ValueError, match=r"data: split: expected train, val or test, got '../val'"):
        open_data(f"argoverse2:{split}?split=../val")


def changed(file, **columns):
    """Write a table anew with other columns; ``None`` drops one."""
    table = {**feather.read_table(file).to_pydict(), **columns}
    feather.write_feather(pyarrow.table({n: v for n, v in table.items() if v is not None}), file)


@pytest.mark.parametrize(
    ("file", "columns", "line"),
    [
        ("city_SE3_egovehicle", {"qw": None}, r"vehicle.feather: expected a column qw, got timestamp_ns, qx"),
        ("city_SE3_egovehicle", {"qw": ["a"] * 2706}, r"qw: expected numbers, got object$"),
        ("city_SE3_egovehicle", {"qw": [9.0] * 2706}, rf"timestamp_ns {STAMP}: expected a unit quaternion"),
        ("city_SE3_egovehicle", {"timestamp_ns": list(range(2706))}, rf"{STAMP}: expected a pose, got none$"),
        ("city_SE3_egovehicle", {"timestamp_ns": [0.5] * 2706}, r"timestamp_ns: expected whole numbers, got"),
        (
            "calibration/intrinsics",
            {"sensor_name": ["x"] * 9},
            r"lens and place of ring_front_center, got none",
        ),
        (
            "calibration/intrinsics",
            {"fx_px": [float("nan")] * 9},
            r"intrinsics: expected a 3x3 matrix of finite",
        ),
        (
            "annotations",
            {"tx_m": [float("inf")] * 81},
            rf"sweep {STAMP}: expected a unit quaternion and a tr",
        ),
        ("annotations", {"length_m": [0.0] * 81}, r"size_lwh: expected|expected .* size"),
    ],
)
def test_broken_tables_are_one_line(split, file, columns, line):
    changed(split / LOG / f"{file}.feather", **columns)
    with pytest.raises(SceneFolderError, match=line) as found:
        open_data(f"argoverse2:{split}", image_size=(32, 32))
    assert "\n" not in str(found.value)


def test_a_sweep_that_is_cut_can_be_skipped(split):
    lidar = split / LOG / "sensors" / "lidar"
    whole = (lidar / f"{STAMP}.feather").read_bytes()
    poses = feather.read_table(split / LOG / "city_SE3_egovehicle.feather")["timestamp_ns"].to_pylist()
    other = min(stamp for stamp in poses if stamp > STAMP)
    (lidar / f"{other}.feather").write_bytes(whole[: len(whole) // 2])
    facts = inspect_folder(split, reader=ARGOVERSE2)
    assert [len(frame.faults) for frame in facts] == [0, 1]
    assert f"{other}.feather: frame 1 ({LOG}/{other}): lidar.file: expected a feather" in facts[1].faults[0]


def test_a_folder_without_logs_is_one_line(tmp_path):
    with pytest.raises(
        SceneFolderError, match=r"expected logs with sensors/lidar/TIMESTAMP.feather, got none$"
    ):
        open_data(f"argoverse2:{tmp_path}")
