"""Waymo's second version, written from its published schema, beside what was measured."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from renderpretrain.data import SceneFolderError, inspect_folder, open_data
from renderpretrain.data.readers import READERS
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from tests.data.readers.kitti_files import one_step, turn

pyarrow = pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

NAME = "10023947602400723454_1120_000_1140_000"
STAMPS = (1552440195362591, 1552440195462571)
HEIGHT, WIDTH = 16, 90
SENSOR = turn(yaw=0.4, pitch=0.02, at=(1.4, 0.1, 2.2))
POSES = [turn(yaw=0.3, at=(1000.0, -2000.0, 30.0)), turn(yaw=0.35, roll=0.01, at=(1001.0, -1999.5, 30.0))]
MOUNT = turn(yaw=-0.05, at=(1.5, 0.0, 2.1))
BEAMS = np.linspace(-0.3, 0.05, HEIGHT)
WALL = 8.0


def measured(pose):
    """What the sensor measures of four walls around a place of the world, pixel by pixel, slowly."""
    image, poses = np.zeros((HEIGHT, WIDTH, 4), np.float32), np.zeros((HEIGHT, WIDTH, 6), np.float32)
    points = []
    for row in range(HEIGHT):
        for column in range(WIDTH):
            # The vehicle drives half a metre along x of the world while the sensor turns.
            moved = pose.copy()
            moved[0, 3] += 0.5 * column / WIDTH
            around = np.pi - 2 * np.pi * (column + 0.5) / WIDTH - np.arctan2(SENSOR[1, 0], SENSOR[0, 0])
            up = BEAMS[::-1][row]
            ray = np.array([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)])
            at, along = (moved @ SENSOR)[:3, 3], (moved @ SENSOR)[:3, :3] @ ray
            reach = [(side * WALL + 1000 * (1, -2)[a] - at[a]) / along[a] for a in (0, 1) for side in (-1, 1)]
            distance = min(r for r in reach if r > 0)
            if column % 7 == 3:
                continue
            image[row, column] = distance, 0.5, 0.1, 0
            yaw, roll = np.arctan2(moved[1, 0], moved[0, 0]), np.arctan2(moved[2, 1], moved[2, 2])
            poses[row, column] = roll, np.arcsin(-moved[2, 0]), yaw, *moved[:3, 3]
            points.append(at + along * distance)
    return image, poses, np.array(points)


def write(path, component, rows, **kinds):
    """A table of a component, in row groups of two rows."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    arrays = {n: pyarrow.array(v, kinds.get(n.split(".")[-1])) for n, v in columns.items()}
    (path / component).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(arrays), path / component / f"{NAME}.parquet", row_group_size=2)


def keys(stamp=None, **sensors):
    key = {"key.segment_context_name": NAME}
    key |= {} if stamp is None else {"key.frame_timestamp_micros": stamp}
    return key | {f"key.{name}": value for name, value in sensors.items()}


def picture(shade):
    stream = io.BytesIO()
    Image.new("RGB", (160, 96), (shade, 90, 30)).save(stream, "JPEG")
    return stream.getvalue()


def write_segment(path):
    """A segment of two frames; the points of each in the world."""
    flat = {"transform": pyarrow.list_(pyarrow.float64(), 16), "shape": pyarrow.list_(pyarrow.int32(), 3)}
    flat["values"] = pyarrow.list_(pyarrow.float32())
    truth, tables = [], {n: [] for n in ("lidar", "lidar_pose", "camera_image")}
    for stamp, pose in zip(STAMPS, POSES, strict=True):
        image, poses, points = measured(pose)
        truth.append(points)
        for laser in (2, 1, 3):
            seen = image if laser == 1 else image[:2] * 0
            ranges = {"values": seen.ravel(), "shape": list(seen.shape)}
            part = {f"[LiDARComponent].range_image_return1.{n}": v for n, v in ranges.items()}
            tables["lidar"].append(keys(stamp, laser_name=laser) | part)
        turned = {"values": poses.ravel(), "shape": list(poses.shape)}
        part = {f"[LiDARPoseComponent].range_image_return1.{n}": v for n, v in turned.items()}
        tables["lidar_pose"].append(keys(stamp, laser_name=1) | part)
        for camera in (4, 1):
            part = {"image": picture(10 * camera), "pose.transform": pose.ravel()}
            part = {f"[CameraImageComponent].{n}": v for n, v in part.items()}
            tables["camera_image"].append(keys(stamp, camera_name=camera) | part)
    for component, rows in tables.items():
        write(path, component, rows, **flat)
    vehicle = "[VehiclePoseComponent].world_from_vehicle.transform"
    write(
        path,
        "vehicle_pose",
        [keys(s) | {vehicle: p.ravel()} for s, p in zip(STAMPS, POSES, strict=True)],
        **flat,
    )
    name = "[LiDARCalibrationComponent]"
    beams = {f"{name}.beam_inclination.values": BEAMS, f"{name}.extrinsic.transform": SENSOR.ravel()}
    others = beams | {f"{name}.beam_inclination.values": None}
    rows = [keys(laser_name=2) | others, keys(laser_name=1) | beams]
    write(
        path, "lidar_calibration", rows, transform=flat["transform"], values=pyarrow.list_(pyarrow.float64())
    )
    lens = {
        "f_u": 100.0,
        "f_v": 101.0,
        "c_u": 80.0,
        "c_v": 48.0,
        "k1": 0.1,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "k3": 0.0,
    }
    part = {f"[CameraCalibrationComponent].intrinsic.{n}": v for n, v in lens.items()}
    part |= {"[CameraCalibrationComponent].extrinsic.transform": MOUNT.ravel()}
    part |= {"[CameraCalibrationComponent].width": 160, "[CameraCalibrationComponent].height": 96}
    write(path, "camera_calibration", [keys(camera_name=n) | part for n in (1, 4)], **flat)
    box = {"box.center.x": 5.0, "box.center.y": 1.0, "box.center.z": 0.5, "box.heading": 0.3, "type": 1}
    box |= {"box.size.x": 4.0, "box.size.y": 2.0, "box.size.z": 1.5}
    box = {f"[LiDARBoxComponent].{n}": v for n, v in box.items()}
    write(path, "lidar_box", [keys(STAMPS[0], laser_object_id="a") | box])
    return truth


@pytest.fixture
def segment(tmp_path):
    """A segment of two frames, and the points of each in the world."""
    return tmp_path / "waymo", write_segment(tmp_path / "waymo")


def test_points_lie_on_the_walls_that_were_measured_while_driving(segment):
    path, truth = segment
    folder = open_data(f"waymo:{path}", sweeps=2)
    assert len(folder) == 2 and folder[0].name == f"waymo/{NAME}/{STAMPS[0]}"
    for scene, pose, expected in zip((folder[0], folder[1]), POSES, truth, strict=True):
        own = scene.points[scene.of_key_sweep, :3].double().numpy()
        # Ranges and places of pixels are float32: a quarter of a millimetre at two kilometres.
        np.testing.assert_allclose(own @ pose[:3, :3].T + pose[:3, 3], expected, atol=1e-3)
        np.testing.assert_allclose(scene.lidar_origin, SENSOR[:3, 3], atol=1e-6)
    assert_close(folder[0].points[:, 3], torch.full((len(truth[0]),), np.tanh(0.5)))
    # The sweep before lies on the same walls of the world.
    both = folder[1].points[:, :3].double().numpy() @ POSES[1][:3, :3].T + POSES[1][:3, 3]
    apart = np.abs(np.abs(both[:, :2] - [1000, -2000]) - WALL).min(-1)
    assert len(both) == len(truth[0]) + len(truth[1]) and apart.max() < 2e-3


SIDE = turn(yaw=1.2, pitch=-0.1, at=(0.5, 0.9, 1.0))
"""A sensor on the left, whose 8 beams are evenly apart and that has no poses of its pixels."""

SEEN = np.tile([column for column in range(WIDTH) if column % 7 != 3], HEIGHT)
"""Columns of the pixels of the sensor on the roof that have a return."""


def sided(pose):
    """What it measures of the walls, and the points in the world, pixel by pixel."""
    image, points = np.zeros((8, WIDTH, 4), np.float32), []
    for row in range(8):
        for column in range(WIDTH):
            around = np.pi - 2 * np.pi * (column + 0.5) / WIDTH - np.arctan2(SIDE[1, 0], SIDE[0, 0])
            up = -0.5 + (0.5 + (7 - row)) / 8 * 0.8
            ray = np.array([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)])
            at, along = (pose @ SIDE)[:3, 3], (pose @ SIDE)[:3, :3] @ ray
            reach = [(side * WALL + 1000 * (1, -2)[a] - at[a]) / along[a] for a in (0, 1) for side in (-1, 1)]
            distance = min(r for r in reach if r > 0)
            image[row, column] = distance, 0.2, 0, 0
            points.append(at + along * distance)
    return image, np.array(points)


@pytest.fixture
def labelled(segment):
    """The segment with second returns, classes of the first frame, and a sensor on the left."""
    path, truth = segment
    flat = {"transform": pyarrow.list_(pyarrow.float64(), 16), "shape": pyarrow.list_(pyarrow.int32(), 3)}
    sides, rows, classes = [], [], {}
    for stamp, pose in zip(STAMPS, POSES, strict=True):
        image, points = sided(pose)
        sides.append(points)
        first = measured(pose)[0]
        second = first.copy()
        second[:, ::2] = 0  # every other beam has one return only
        for laser, seen in ((3, (image, image * 0)), (1, (first, second))):
            part = {}
            for number, of_return in enumerate(seen, 1):
                name = f"[LiDARComponent].range_image_return{number}"
                part |= {f"{name}.values": of_return.ravel(), f"{name}.shape": list(of_return.shape)}
            rows.append(keys(stamp, laser_name=laser) | part)
    numbers = np.zeros((HEIGHT, WIDTH, 2), np.int32)
    numbers[..., 0], numbers[..., 1] = 99, np.arange(WIDTH) % 23
    for number in (1, 2):
        name = f"[LiDARSegmentationLabelComponent].range_image_return{number}"
        classes |= {f"{name}.values": numbers.ravel(), f"{name}.shape": list(numbers.shape)}
    write(path, "lidar", rows, **flat, values=pyarrow.list_(pyarrow.float32()))
    told = [keys(STAMPS[0], laser_name=1) | classes]
    write(path, "lidar_segmentation", told, shape=flat["shape"], values=pyarrow.list_(pyarrow.int32()))
    name = "[LiDARCalibrationComponent]"
    beams = [(3, SIDE, None, -0.5, 0.3), (1, SENSOR, BEAMS, float(BEAMS[0]), float(BEAMS[-1]))]
    known = [
        keys(laser_name=laser)
        | {f"{name}.extrinsic.transform": mount.ravel(), f"{name}.beam_inclination.values": values}
        | {f"{name}.beam_inclination.min": low, f"{name}.beam_inclination.max": high}
        for laser, mount, values, low, high in beams
    ]
    write(path, "lidar_calibration", known, **flat, values=pyarrow.list_(pyarrow.float64()))
    return path, truth, sides


def in_world(scene, pose):
    return scene.points[:, :3].double().numpy() @ pose[:3, :3].T + pose[:3, 3]


def test_other_sensors_and_second_returns_are_read_where_they_are_asked_for(labelled):
    path, truth, sides = labelled
    assert len(open_data(f"waymo:{path}")[0].points) == len(truth[0])
    both = open_data(f"waymo:{path}?lidars=top,side_left")
    for scene, pose, top, side in zip((both[0], both[1]), POSES, truth, sides, strict=True):
        np.testing.assert_allclose(in_world(scene, pose), np.concatenate([top, side]), atol=1e-3)
        np.testing.assert_allclose(scene.lidar_origin, SENSOR[:3, 3], atol=1e-6)
    alone = open_data(f"waymo:{path}?lidars=side_left")[1]
    np.testing.assert_allclose(in_world(alone, POSES[1]), sides[1], atol=1e-3)
    np.testing.assert_allclose(alone.lidar_origin, SIDE[:3, 3], atol=1e-6)
    second = open_data(f"waymo:{path}?returns=2")[0]
    np.testing.assert_allclose(in_world(second, POSES[0]), truth[0][SEEN % 2 == 1], atol=1e-3)
    every = open_data(f"waymo:{path}?lidars=side_left,top&returns=1,2")[0]
    assert len(every.points) == len(sides[0]) + len(truth[0]) + np.sum(SEEN % 2)
    for option in ("lidars=top,top", "lidars=roof", "returns=3"):
        with pytest.raises(ValueError, match=r"expected (different names|1, 2 or 1,2)"):
            open_data(f"waymo:{path}?{option}")


def test_points_of_labelled_frames_have_the_published_classes(labelled):
    path, _, sides = labelled
    folder = open_data(f"waymo:{path}?lidars=side_left,top&returns=1,2")
    scene = folder[0]
    numbers = np.concatenate([SEEN, SEEN[SEEN % 2 == 1]]) % 23
    labels = scene.point_labels.numpy()
    assert (labels[: len(sides[0])] == -1).all()  # only the sensor on the roof has classes
    assert (labels[len(sides[0]) :] == np.where(numbers == 0, -1, numbers)).all()
    names = scene.class_names
    assert names[1] == "car" and names[18] == "road" and names[22] == "sidewalk" and names[23] == "vehicle"
    assert folder[1].point_labels is None
    prepare_recording(open_data(f"waymo:{path}"), Preparation(path / "out", f"waymo:{path}", packed=True))
    shards = open_data(f"shards:{path / 'out'}")
    assert torch.equal(shards[0].point_labels, open_data(f"waymo:{path}")[0].point_labels)


def test_cameras_and_boxes_are_in_the_frame_of_the_vehicle(segment):
    scene = open_data(f"waymo:{segment[0]}")[0]
    assert scene.camera_names == ("side_left", "front")
    assert [round(float(image[0].mean() * 255)) for image in scene.images] == [40, 10]
    # The camera looks along its own x, which is the vehicle's turned by -0.05.
    ahead = scene.cameras.camera_to_world[1, :3, 2].tolist()
    assert ahead == pytest.approx([np.cos(0.05), -np.sin(0.05), 0], abs=1e-6)
    assert scene.cameras.centers[1].tolist() == pytest.approx([1.5, 0, 2.1], abs=1e-4)
    # Waymo's pixels begin at the left edge of the first, as ours do.
    assert scene.cameras.intrinsics[1].tolist() == [[100, 0, 80], [0, 101, 48], [0, 0, 1]]
    assert scene.boxes.centers.tolist() == [[5, 1, 0.5]] and scene.boxes.sizes.tolist() == [[4, 2, 1.5]]
    assert scene.class_names == ("free", "vehicle") and scene.boxes.yaws.tolist() == [pytest.approx(0.3)]


def test_the_loss_is_that_of_a_frames_json(segment, tmp_path):
    path, truth = segment
    home = np.linalg.inv(POSES[0])
    points = truth[0] @ home[:3, :3].T + home[:3, 3]
    scene = open_data(f"waymo:{path}")[0]
    # Recomputed in float64, the points are those of the reader but for the rounding of its ranges.
    np.testing.assert_allclose(scene.points[:, :3], points, atol=1e-3)
    rows = scene.points[:, :4].numpy()
    rows.tofile(tmp_path / "0.bin")
    cameras = {}
    to_camera = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]) @ np.linalg.inv(MOUNT)
    for name, shade in (("side_left", 40), ("front", 10)):
        (tmp_path / f"{name}.jpg").write_bytes(picture(shade))
        cameras[name] = {"file": f"{name}.jpg", "width": 160, "height": 96, "distortion": [0.1, 0, 0, 0, 0]}
        cameras[name] |= {"intrinsics": [[100, 0, 79.5], [0, 101, 47.5], [0, 0, 1]]}
        cameras[name] |= {"lidar_to_camera": to_camera.tolist()}
    lidar = {
        "file": "0.bin",
        "columns": ["x", "y", "z", "intensity"],
        "sensor_origin": SENSOR[:3, 3].tolist(),
    }
    content = {"format": "multicam_lidar", "frames": [{"frame_id": 0, "lidar": lidar, "cameras": cameras}]}
    (tmp_path / "frames.json").write_text(json.dumps(content))
    assert one_step(f"waymo:{path}") == pytest.approx(one_step(f"folder:{tmp_path}"), rel=1e-6)


def test_shards_of_it_are_the_same_scenes(segment, tmp_path):
    source = f"waymo:{segment[0]}"
    prepare_recording(open_data(source), Preparation(tmp_path / "shards", source, packed=True))
    native, shards = open_data(source), open_data(f"shards:{tmp_path / 'shards'}")
    for one, other in ((native[0], shards[0]), (native[1], shards[1])):
        assert torch.equal(one.points, other.points) and torch.equal(one.images, other.images)


def test_segments_are_chosen_by_name(segment):
    assert len(open_data(f"waymo:{segment[0]}?segments={NAME}")) == 2
    with pytest.raises(
        SceneFolderError, match=r"lidar: expected SEGMENT.parquet of version 2, got 1 others$"
    ):
        open_data(f"waymo:{segment[0]}?segments=a")


def changed(path, component, change):
    """Write a table anew."""
    file = path / component / f"{NAME}.parquet"
    parquet.write_table(change(parquet.read_table(file)), file)


@pytest.mark.parametrize(
    ("component", "change", "line"),
    [
        (
            "vehicle_pose",
            lambda t: t.slice(1),
            r"vehicle_pose/.*: timestamp 1552440195362591: expected a pose",
        ),
        ("vehicle_pose", lambda t: t.drop_columns([t.column_names[-1]]), r"expected a column .VehiclePose"),
        ("lidar_calibration", lambda t: t.slice(0, 1), r"expected laser 1, got"),
        ("lidar", lambda t: t.drop_columns([t.column_names[-1]]), r"lidar.file: row 1: expected a column"),
        (
            "camera_image",
            lambda t: t.drop_columns(["[CameraImageComponent].image"]),
            r"side_left: row 0: expected a column",
        ),
    ],
)
def test_broken_tables_are_one_line(segment, component, change, line):
    changed(segment[0], component, change)
    with pytest.raises(SceneFolderError, match=line) as found:
        open_data(f"waymo:{segment[0]}")[0]
    assert "\n" not in str(found.value)


def test_a_segment_that_is_cut_can_be_skipped(segment):
    path, _ = segment
    for component in ("lidar", "vehicle_pose"):
        whole = (path / component / f"{NAME}.parquet").read_bytes()
        (path / component / "b.parquet").write_bytes(whole[: len(whole) // 2])
    facts = inspect_folder(path, reader=READERS["waymo"])
    assert [len(frame.faults) for frame in facts] == [0, 0, 1]
    assert "lidar/b.parquet: expected a parquet file, got" in facts[2].faults[0]


def test_what_is_published_without_lidar_is_one_line(realdata):
    with pytest.raises(SceneFolderError, match=r"v2/lidar: expected a folder, got: nothing$"):
        open_data(f"waymo:{realdata / 'native' / 'waymo' / 'v2'}")
