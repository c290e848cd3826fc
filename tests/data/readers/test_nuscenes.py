"""nuScenes' own tables: the published files beside their frames.json, and a small recording in its layout."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import (
    SceneFolder,
    SceneFolderError,
    inspect_folder,
    open_data,
    validate_scene_folder,
)
from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.readers import READERS
from renderpretrain.data.readers.nuscenes.names import SPLITS, split_scenes
from tests.data.readers.kitti_files import one_step
from tests.data.readers.nuscenes_files import (
    BETWEEN,
    KEYS,
    MOUNTS,
    NEAR,
    T0,
    WALL,
    Writer,
    matrix,
    to_global,
)

NUSCENES = READERS["nuscenes"]


@pytest.fixture
def drive(tmp_path):
    """A recording of two scenes, and what wrote it."""
    return tmp_path, Writer(tmp_path)


def opened(path, options="", **arguments):
    return open_data(f"nuscenes:{path}{options}", **arguments)


def test_the_published_tables_say_what_their_frames_json_says(realdata):
    path = realdata / "nuscenes_keyframe"
    one, other = (
        open_data(f"{name}:{path}?sensor_origin=0,0,0", image_size=(90, 160))
        for name in ("nuscenes", "folder")
    )
    assert len(one) == len(other) == 1 and one.camera_names == other.camera_names
    native, neutral = one[0], other[0]
    assert torch.equal(native.points, neutral.points) and torch.equal(native.images, neutral.images)
    assert_close(native.cameras.intrinsics, neutral.cameras.intrinsics)
    # The poses of both are float64; what is left is the rounding of float32.
    assert_close(native.cameras.camera_to_world, neutral.cameras.camera_to_world, rtol=0, atol=1e-6)
    assert_close(native.world_to_global, neutral.world_to_global, rtol=0, atol=1e-6)
    assert native.timestamp == neutral.timestamp
    assert validate_scene_folder(path, reader=NUSCENES) == []


def test_merged_sweeps_of_a_wall_lie_on_it(drive):
    path, _ = drive
    folder = opened(path, sweeps=12)
    assert len(folder) == 2 * KEYS and [f.scene for f in folder.index.frames][2:4] == [
        "scene-0061",
        "scene-0103",
    ]
    scene, pose = folder[2], to_global("LIDAR_TOP", 1.0)
    lags = torch.arange(2 * (BETWEEN + 1) + 1) * 0.1
    assert_close(scene.points[:, 4].unique(), lags, rtol=0, atol=1e-5)
    assert len(scene.points) == len(lags) * len(WALL) + len(NEAR)  # the own vehicle is in one sweep alone
    wall = (
        scene.points[scene.points[:, :2].norm(dim=-1) > 2][:, :3].double().numpy() @ pose[:3, :3].T
        + pose[:3, 3]
    )
    # float32 at thirty metres keeps two micrometres.
    np.testing.assert_allclose(wall, np.tile(WALL, (len(lags), 1)), rtol=0, atol=2e-5)
    assert len(opened(path)[2].points) == len(WALL) + len(NEAR)
    # A scene is never merged with another, and begins without sweeps.
    assert len(folder[3].points) == len(WALL) + len(NEAR)
    # The camera at the back sees no wall.
    assert all("CAM_BACK: expected points" in line for line in validate_scene_folder(path, reader=NUSCENES))
    assert [frame.faults for frame in inspect_folder(path, reader=NUSCENES, sweeps=10)] == [[]] * 2 * KEYS


def test_the_vehicle_moves_between_a_picture_and_its_sweep(drive):
    path, _ = drive
    scene = opened(path)[1]
    assert scene.camera_names == ("CAM_FRONT", "CAM_BACK")
    for camera, lead in ((0, 0.035), (1, 0.01)):
        name = scene.camera_names[camera]
        exact = np.linalg.inv(to_global("LIDAR_TOP", 0.5)) @ to_global(name, 0.5 - lead)
        np.testing.assert_allclose(scene.cameras.camera_to_world[camera], exact, atol=2e-6)  # float32
        static = np.linalg.inv(matrix(*MOUNTS["LIDAR_TOP"])) @ matrix(*MOUNTS[name])
        assert np.linalg.norm(static - exact) > 0.05


def test_boxes_have_the_ten_classes_and_the_velocities_of_the_devkit(drive):
    path, writer = drive
    folder = opened(path)
    assert [len(folder[k].boxes.labels) for k in range(3)] == [2, 2, 2]
    names = [folder.class_names[k] for k in folder[0].boxes.labels]
    assert names == ["car", "bus"]
    # A car at 0, 2 and 6 m along (1, -1): one-sided at the ends, centred between.
    speeds = [4.0, 6.0, 8.0]
    for k, speed in enumerate(speeds):
        boxes, pose = folder[k].boxes, to_global("LIDAR_TOP", 0.5 * k)
        velocity = np.array([speed, -speed, 0]) @ pose[:3, :3]
        np.testing.assert_allclose(boxes.velocities[0, :2], velocity[:2], atol=1e-5)
        rows = writer.tables["sample_annotation"]
        (car,) = (row for row in rows if row["token"] == f"scene-0061-vehicle.car-{k}")
        center = (np.array(car["translation"]) - pose[:3, 3]) @ pose[:3, :3]
        np.testing.assert_allclose(boxes.centers[0], center, atol=1e-5)
        assert boxes.sizes[0].tolist() == pytest.approx([4.5, 1.8, 1.6])
        ahead = matrix((0, 0, 0), car["rotation"])[:3, 0] @ pose[:3, :3]
        assert float(boxes.yaws[0]) == pytest.approx(np.arctan2(ahead[1], ahead[0]), abs=1e-6)
    # Seen once, nothing tells a velocity; the first and last of a bus are one second apart.
    assert folder[1].boxes.velocities[1].tolist() == [0, 0, 0]
    assert float(folder[2].boxes.velocities[1].norm()) == pytest.approx(
        3 * 2**0.5, abs=1e-3
    )  # the vehicle nods
    raw = opened(path, "?classes=raw&labels=none")
    assert sorted(set(raw.class_names)) == sorted(
        ["free", "animal", "human.pedestrian.adult", "vehicle.bus.rigid", "vehicle.car"]
    )
    content = NUSCENES.content(FolderAccess(path))
    assert [box["num_lidar_pts"] for box in content["frames"][2]["boxes_lidar_frame"]] == [2, 2]


def test_velocities_end_where_annotations_lie_too_far_apart(drive):
    path, writer = drive
    for row in writer.tables["sample"]:
        if row["token"].endswith("-2"):
            row["timestamp"] += 1_100_000
    writer.save()
    folder = opened(path)
    # 1.6 s from one neighbour are too long, 2.1 s from one on either side are not.
    assert float(folder[0].boxes.velocities[0].norm()) > 5 > float(folder[1].boxes.velocities[0].norm()) > 3
    assert folder[2].boxes.velocities[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["lidarseg", "panoptic"])
def test_labels_of_points_are_the_sixteen_classes(drive, kind):
    path, writer = drive
    folder = opened(path, f"?labels={kind}", sweeps=2)
    scene = folder[1]
    assert (
        folder.class_names[:5] == ("free", "barrier", "bicycle", "bus", "car")
        and len(folder.class_names) == 17
    )
    wall = scene.points[:, :2].norm(dim=-1) > 2
    own = scene.of_key_sweep
    assert set(scene.point_labels[wall & own].tolist()) == {folder.class_names.index("manmade")}
    assert set(scene.point_labels[~wall | ~own].tolist()) == {-1}  # the own vehicle, noise, another sweep
    raw = opened(path, f"?labels={kind}&classes=raw")
    assert raw.class_names[28] == "static.manmade" and set(raw[0].point_labels.tolist()) == {28, 31, -1}
    assert opened(path, "?labels=none")[0].point_labels is None
    for row in writer.tables["category"]:
        del row["index"]
    writer.save()
    with pytest.raises(
        SceneFolderError, match=r"category.json: index: expected the categories that came with"
    ):
        opened(path)


def test_splits_are_the_official_lists(drive):
    known = {name: hashlib.sha256(" ".join(split_scenes(name)).encode()).hexdigest()[:16] for name in SPLITS}
    # Of the devkit's own lists, sorted.
    assert known == {
        "train": "10b2148caad20bbd",
        "val": "d3693b41245bb2a3",
        "test": "bd0a56fac042147b",
        "mini_train": "495168bc114d0864",
        "mini_val": "f6a4a1c573ec4c6c",
    }
    path, _ = drive
    scenes = {
        name: {f.scene for f in opened(path, f"?split={name}").index.frames} for name in ("mini_train", "val")
    }
    assert scenes == {"mini_train": {"scene-0061"}, "val": {"scene-0103"}}
    (path / "mine.txt").write_text("scene-0103\n")
    mine = opened(path, "?split=mine.txt")
    assert len(mine) == KEYS and all(frame.sweeps for frame in mine.index.frames[1:])
    assert mine[0].name.endswith("scene-0103-0")
    with pytest.raises(SceneFolderError, match=r"scene.json: expected a scene of the split, got 2 others"):
        opened(path, "?split=test")
    with pytest.raises(ValueError, match="data: split: expected train, val, test, mini_train, mini_val, or"):
        opened(path, "?split=mini")
    with pytest.raises(SceneFolderError, match=r"a.txt: table: expected a (readable )?file"):
        opened(path, "?split=../a.txt")


def test_the_largest_version_is_read_unless_told(tmp_path):
    Writer(tmp_path / "a")
    (tmp_path / "b" / "v1.0-trainval").mkdir(parents=True)
    writer = Writer(tmp_path / "b")
    writer.version = "v1.0-trainval"
    writer.save(scene=[row for row in writer.tables["scene"] if row["name"] == "scene-0103"])
    assert len(opened(tmp_path / "a")) == 2 * KEYS and len(opened(tmp_path / "b")) == KEYS
    assert len(opened(tmp_path / "b", "?version=v1.0-mini")) == 2 * KEYS
    assert len(opened(tmp_path / "b", "?split=mini_train")) == KEYS
    with pytest.raises(
        SceneFolderError, match=r"v1.0-test/scene.json: table: expected a readable file, got: nothing"
    ):
        opened(tmp_path / "a", "?version=v1.0-test")
    with pytest.raises(ValueError, match="data: version: expected the name of a folder of tables"):
        opened(tmp_path / "a", "?version=../a")
    (tmp_path / "c").mkdir()
    with pytest.raises(
        SceneFolderError, match=r"expected a folder of tables \(v1.0-trainval, .*\), got none"
    ):
        opened(tmp_path / "c")


def changed(writer, table, token, change):
    """The rows of a table, one of them changed."""
    rows = [row | change if row["token"] == token else row for row in writer.tables[table]]
    assert rows != writer.tables[table]
    return rows


LIDAR_0, CAM_0 = f"LIDAR_TOP-{T0}", f"CAM_FRONT-{T0 - 35000}"


@pytest.mark.parametrize(
    ("table", "token", "change", "line"),
    [
        (
            "ego_pose",
            f"p-{LIDAR_0}",
            {"rotation": [0, 0, 0, 0]},
            r"LIDAR_TOP: expected a finite pose of token p-L",
        ),
        (
            "ego_pose",
            f"p-{CAM_0}",
            {"translation": [np.nan] * 3},
            r"CAM_FRONT: expected a finite pose of token p-C",
        ),
        (
            "ego_pose",
            f"p-{CAM_0}",
            {"token": "other"},
            r"sample scene-0061-0: CAM_FRONT: expected a finite pose of token p-C",
        ),
        (
            "sample_data",
            CAM_0,
            {"filename": "../../x.jpg"},
            r"CAM_FRONT.file: expected a path within the folder",
        ),
        (
            "sample_data",
            CAM_0,
            {"filename": "/etc/passwd"},
            r"CAM_FRONT.file: expected a path within the folder",
        ),
        (
            "sample_data",
            LIDAR_0,
            {"is_key_frame": False},
            r"sample scene-0061-0: expected a key frame of LIDAR_TOP",
        ),
        (
            "sample_data",
            LIDAR_0,
            {"filename": "samples/none.bin"},
            r"none.bin: frame 0 .*expected a readable file",
        ),
        (
            "sample_data",
            CAM_0,
            {"timestamp": T0, "width": 0, "filename": "x.jpg"},
            r"x.jpg: sample scene-0061-0: CAM",
        ),
    ],
)
def test_a_broken_key_frame_is_one_line_and_can_be_skipped(drive, table, token, change, line):
    path, writer = drive
    writer.save(**{table: changed(writer, table, token, change)})
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(path, reader=NUSCENES)[0]
    facts = inspect_folder(path, reader=NUSCENES)
    assert [len(frame.faults) for frame in facts] == [1, 0, 0, 0, 0, 0]
    rest = SceneFolder(path, reader=NUSCENES, skip=[0])
    assert len(rest) == 5 and rest[0].name.endswith("scene-0061-1")


@pytest.mark.parametrize(
    ("table", "text", "line"),
    [
        ("sample_data", '[\n{"token": "a"', r"sample_data.json: line 2, column 14: expected JSON, got"),
        ("sample_data", None, r"sample_data.json: line .*: expected JSON, got"),
        ("sample_data", '{"token": "a"}', r"sample_data.json: table: expected a list of flat objects, got"),
        (
            "sample_data",
            '[{"token": "{a}", "b": {}}]',
            r"sample_data.json: table: expected a list of flat objects",
        ),
        (
            "sample_data",
            '[{"token": "a"}]',
            r"sample_data.json: a: sample_token: expected a text, got nothing",
        ),
        ("ego_pose", '[{"token": 5}]', r"ego_pose.json: 5: token: expected a text, got 5"),
        ("ego_pose", "", r"ego_pose.json: line 1, column 1: expected JSON, got"),
        ("ego_pose", "7", r"ego_pose.json: table: expected a list of flat objects, got 7"),
        ("scene", "[]", r"scene.json: expected at least one scene, got 0 others"),
        ("scene", "[[]]", r"scene.json: table: expected a list of objects, got \[\[\]\]"),
        ("sample", "[]", r"sample.json: expected samples of 2 scenes, got none"),
        ("sensor", "[]", r"sensor.json: expected the channel LIDAR_TOP, got none"),
        (
            "calibrated_sensor",
            '[{"token": "x", "sensor_token": "s", "rotation": [1]}]',
            r"x: rotation: expected 4 numbers",
        ),
        (
            "sample_annotation",
            '[{"token": "y", "sample_token": "scene-0061-0"}]',
            r"instance_token: expected a text",
        ),
        (
            "lidarseg",
            '[{"sample_data_token": 1, "filename": "x"}]',
            r"lidarseg.json: sample_data_token: expected a text, got 1",
        ),
    ],
)
def test_a_broken_table_is_one_line(drive, table, text, line):
    path, writer = drive
    cut = json.dumps(writer.tables[table])[:-1]
    writer.save(**{table: cut if text is None else text})
    with pytest.raises(SceneFolderError, match=line) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    (path / "v1.0-mini" / f"{table}.json").unlink()
    if table not in ("sample_annotation", "lidarseg"):
        with pytest.raises(
            SceneFolderError, match=f"{table}.json: table: expected a readable file, got: nothing"
        ):
            opened(path)


def test_tables_are_read_in_parts_whatever_lies_between_rows(drive, monkeypatch):
    path, writer = drive
    whole = NUSCENES.content(FolderAccess(path))
    monkeypatch.setattr("renderpretrain.data.readers.json_rows.BLOCK", 37)
    rows = ("\ufeff " + json.dumps(rows, indent=4) + "\n" for rows in writer.tables.values())
    writer.save(**dict(zip(writer.tables, rows, strict=True)))
    assert NUSCENES.content(FolderAccess(path)) == whole


def test_without_a_folder_of_sweeps_key_frames_are_merged_and_it_is_said(drive, caplog):
    path, _ = drive
    (path / "sweeps").rename(path / "elsewhere")
    scene = opened(path, sweeps=3)[2]
    assert_close(scene.points[:, 4].unique(), torch.tensor([0, 0.5, 1.0]))
    assert "sweeps: LIDAR_TOP: expected the 16 sweeps between key frames, got nothing" in caplog.text


def test_the_loss_of_a_published_frame_is_that_of_its_frames_json(realdata):
    path = realdata / "nuscenes_keyframe"
    losses = [one_step(f"{name}:{path}?sensor_origin=0,0,0") for name in ("nuscenes", "folder")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
