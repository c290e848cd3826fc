"""PandaSet's own files beside the ``frames.json`` that describes the same frames."""

import json
import shutil

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
from renderpretrain.data.readers import READERS
from tests.data.readers.kitti_files import one_step

PANDASET = READERS["pandaset"]
SIZE = (96, 160)
DEVICES = ("spinning", "forward", "both")
CAMERAS = ("front", "front_right", "right", "back", "left", "front_left")


@pytest.fixture
def native(realdata):
    return realdata / "pandaset_native"


@pytest.fixture
def copied(native, tmp_path):
    """A copy of two frames and of one camera."""
    shutil.copytree(
        native / "002",
        tmp_path / "set" / "002",
        ignore=lambda folder, names: [n for n in names if n.startswith("40.") or n in OTHERS],
    )
    for file in (tmp_path / "set").rglob("*"):
        file.chmod(0o755)
    return tmp_path / "set"


OTHERS = [f"{name}_camera" for name in CAMERAS[1:]]


def test_its_frames_are_those_of_frames_json(realdata, native):
    options = f"cameras={','.join(CAMERAS)}"
    found = open_data(f"pandaset:{native}?{options}", image_size=SIZE)
    neutral = open_data(f"folder:{realdata / 'pandaset_002_sequence'}?{options}", image_size=SIZE)
    numbers = [frame.frame_id for frame in neutral.index.frames]
    assert len(found) == 3 and found.class_names == neutral.class_names
    for position, number in ((0, 0), (2, 40)):
        one, other = found[position], neutral[numbers.index(number)]
        assert one.name.endswith(f"002/{number:02}") and one.camera_names == other.camera_names
        assert one.timestamp == other.timestamp
        assert torch.equal(one.points, other.points) and torch.equal(one.point_labels, other.point_labels)
        assert_close(one.world_to_global, other.world_to_global, rtol=0, atol=1e-6)
        assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=1e-6)
        assert_close(one.cameras.intrinsics, other.cameras.intrinsics)
        # Its pictures are of half the size, and were compressed twice.
        assert (one.images - other.images).abs().mean() < 0.01
        assert torch.equal(one.boxes.labels, other.boxes.labels)
        # Its centres have four digits; its headings leave out that the car is not level.
        assert_close(one.boxes.centers, other.boxes.centers, rtol=0, atol=1e-4)
        assert_close(one.boxes.sizes, other.boxes.sizes)
        assert_close(one.boxes.yaws, other.boxes.yaws, rtol=0, atol=1e-3)
    assert validate_scene_folder(native, reader=PANDASET) == []


def test_the_loss_of_a_frame_is_that_of_its_frames_json(realdata, native, tmp_path):
    neutral = json.loads((realdata / "pandaset_002_sequence" / "frames.json").read_text())
    frame = neutral["frames"][0]
    frame["lidar"] |= {"file": str(realdata / "pandaset_002_sequence" / "00_lidar.bin"), "semseg_file": None}
    for name, camera in frame["cameras"].items():
        lens = json.loads((native / f"002/camera/{name}_camera/intrinsics.json").read_text())
        camera |= {"file": str(native / f"002/camera/{name}_camera/00.jpg"), "width": 1920, "height": 1080}
        camera["intrinsics"] = [[lens["fx"], 0, lens["cx"]], [0, lens["fy"], lens["cy"]], [0, 0, 1]]
    (tmp_path / "frames.json").write_text(json.dumps({**neutral, "frames": [frame]}))
    options = f"cameras={','.join(CAMERAS)}&sensor_origin=0,0.75,1.86"
    one = one_step(f"pandaset:{native}?{options}")
    assert one == pytest.approx(one_step(f"folder:{tmp_path}?{options}&outside=1"), rel=1e-6)


def test_buildings_stay_where_they_are(native):
    """Through the points' world, the poses of the LiDAR, and back: two seconds later by another beam."""
    folder = open_data(f"pandaset:{native}", image_size=SIZE)
    building = folder.class_names.index("Building")
    places = []
    for scene in map(folder.without_images, range(3)):
        points = scene.points[scene.point_labels == building, :3].double()
        pose = scene.world_to_global.double()
        near = points.norm(dim=-1) < 40  # farther away, beams lie wider apart than a decimetre
        places.append(points[near] @ pose[:3, :3].T + pose[:3, 3])
    for before, after in ((places[0], places[1]), (places[1], places[2])):
        apart = torch.cdist(after[::10], before).min(-1).values
        assert len(apart) > 500 and apart.median() < 0.1


def test_boxes_hold_the_points_of_their_class(native):
    scene = open_data(f"pandaset:{native}", image_size=SIZE).without_images(1)
    car, boxes, counts = scene.class_names.index("Car"), scene.boxes, np.zeros(2)
    for center, size, yaw, label in zip(boxes.centers, boxes.sizes, boxes.yaws, boxes.labels, strict=True):
        away = scene.points[:, :3] - center
        along = away[:, 0] * yaw.cos() + away[:, 1] * yaw.sin()
        across = away[:, 1] * yaw.cos() - away[:, 0] * yaw.sin()
        held = (torch.stack([along, across, away[:, 2]], -1).abs() <= size / 2).all(-1)
        if label == car:
            counts += [(scene.point_labels[held] == car).sum(), held.sum()]
    assert counts[0] > 0.95 * counts[1] > 1000
    # And nearly all that was labeled a car lies in a box.
    assert counts[0] > 0.95 * (scene.point_labels == car).sum()


def test_the_other_sensor_and_both(native):
    sizes = [
        len(open_data(f"pandaset:{native}?device={d}")[0].points) for d in ("spinning", "forward", "both")
    ]
    assert sizes == [106169, 166768 - 106169, 166768]
    boxes = [
        len(open_data(f"pandaset:{native}?device={d}").index.frames[0].boxes_lidar_frame) for d in DEVICES
    ]
    assert boxes == [91, 89, 91]  # 67 by the points of both, 24 and 22 by those of one, and these 22 of both
    for text in ("lidar", ""):
        with pytest.raises(ValueError, match="data: device: expected one of spinning, forward, both"):
            open_data(f"pandaset:{native}?device={text}")


def test_one_sequence_by_its_own_path_or_by_its_name(native):
    alone, chosen = open_data(f"pandaset:{native / '002'}"), open_data(f"pandaset:{native}?sequences=002")
    assert [f.frame_id for f in alone.index.frames] == [f.frame_id for f in chosen.index.frames]
    assert torch.equal(alone.without_images(0).points, chosen.without_images(0).points)
    assert chosen.without_images(0).name == "pandaset_native/002/00"
    with pytest.raises(SceneFolderError, match=r"expected folders of sequences with lidar, got no 003$"):
        open_data(f"pandaset:{native}?sequences=003")
    with pytest.raises(ValueError, match="data: sequences: expected names of sequences with commas"):
        open_data(f"pandaset:{native}?sequences=../002")


HOSTILE = b"cposix\nsystem\n(X\x04\x00\x00\x00exittR."


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("annotations/cuboids/00.pkl.gz", HOSTILE, r"cuboids/00.pkl.gz: cuboids: .*, got posix.system$"),
        ("annotations/cuboids/00.pkl.gz", b"}.", r"cuboids: expected their columns, got: no 'position.x'$"),
        ("lidar/00.pkl.gz", HOSTILE, r"00.pkl.gz: frame 0 .002/00.: lidar.file: .* got posix.system$"),
        (
            "annotations/semseg/00.pkl.gz",
            b"no",
            r"semseg/00.pkl.gz: frame 0 .002/00.: lidar.semseg_file: exp",
        ),
        ("camera/front_camera/00.jpg", b"", r"00.jpg: picture: expected a readable image"),
    ],
)
def test_a_frame_of_which_a_file_is_broken_can_be_skipped(copied, file, content, line):
    (copied / "002" / file).write_bytes(content)
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(copied, reader=PANDASET, image_size=SIZE)[0]
    if "front_camera" in file:
        return  # its size is that of all pictures of the camera
    facts = inspect_folder(copied, reader=PANDASET)
    assert [len(frame.faults) for frame in facts] == [1, 0]
    rest = SceneFolder(copied, reader=PANDASET, image_size=SIZE, skip=[0])
    assert len(rest) == 1 and rest[0].name.endswith("002/20")


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("lidar/poses.json", "[", "poses.json: line 1, column 2: expected JSON"),
        ("lidar/poses.json", "[]", "poses.json: frame 00: expected an entry for it, got 0"),
        ("lidar/poses.json", "[{}]", "poses.json: frame 00: expected position and heading, got {}"),
        ("camera/front_camera/intrinsics.json", "{}", "intrinsics.json: expected fx, fy, cx and cy, got {}"),
        ("lidar/timestamps.json", "{}", "timestamps.json: frame 00: expected an entry for it, got no list"),
        ("annotations/semseg/classes.json", "[]", "semseg_classes: expected"),
    ],
)
def test_broken_tables_are_one_line(copied, file, content, line):
    (copied / "002" / file).write_text(content)
    with pytest.raises(SceneFolderError, match=line) as found:
        open_data(f"pandaset:{copied}", image_size=SIZE)
    assert "\n" not in str(found.value)


def test_a_folder_without_sequences_is_one_line(tmp_path):
    with pytest.raises(SceneFolderError, match=r"expected folders of sequences with lidar, got none$"):
        open_data(f"pandaset:{tmp_path}")
    with pytest.raises(SceneFolderError, match=r"expected a folder, got: nothing$"):
        open_data(f"pandaset:{tmp_path / 'none'}")
