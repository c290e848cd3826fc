"""KITTI's odometry benchmark with SemanticKITTI's labels: real files, and sequences from a known world."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain.data import SceneFolder, SceneFolderError, open_data
from renderpretrain.data.readers import READERS
from renderpretrain.data.readers.semantickitti import CLASSES
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
TO_CAMERA = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
CAMERAS = [turn(), turn(0.02, -0.1, 0.01, at=(0.3, -0.1, 2.5))]
"""Poses of camera 0, whose z axis points ahead."""


def write_sequences(path):
    """Sequences 00 (poses of its own, labels, pictures), 01 (poses beside) and 11 (none), two frames each."""
    for name in ("00", "01", "11"):
        sequence = path / "sequences" / name
        projection = numbers([[16, 0, 7.5, 1.6], [0, 16, 5.5, 0], [0, 0, 1, 0]])
        save_text(sequence / "calib.txt", f"P2: {projection}", f"Tr: {numbers(TO_CAMERA[:3])}")
        save_text(sequence / "times.txt", "0.0", "1.0e-1")
        for number, pose in enumerate(CAMERAS):
            save_sweep(
                sequence / f"velodyne/{number:06d}.bin", seen_from(pose @ TO_CAMERA, seen_from(TO_CAMERA))
            )
    save_text(path / "sequences/00/poses.txt", *[numbers(pose[:3]) for pose in CAMERAS])
    save_text(path / "poses/00.txt", *[numbers(turn(at=(9, 9, 9))[:3])] * 2)
    save_text(path / "poses/01.txt", *[numbers(pose[:3]) for pose in CAMERAS])
    for number in range(2):
        save_picture(path / f"sequences/00/image_2/{number:06d}.png")
    labels = path / "sequences/00/labels/000001.label"
    labels.parent.mkdir()
    (np.array([10, 252, 50, 99, 0]) + (np.arange(5) << 16)).astype("<u4").tofile(labels)


@pytest.fixture
def dataset(tmp_path):
    """A folder with the sequences."""
    write_sequences(tmp_path)
    return tmp_path


def test_real_sweeps_are_what_frames_json_says(realdata):
    path = realdata / "semantickitti_native"
    native = open_data(f"kitti:{path}?classes=raw", sweeps=2)
    neutral = open_data(f"folder:{path}", sweeps=2)
    for one, other in zip((native[0], native[1]), (neutral[0], neutral[1]), strict=True):
        # frames.json has the same poses with all digits; points move by their rounding to float32.
        assert_close(one.points, other.points, rtol=0, atol=1e-5)
        assert one.timestamp == other.timestamp
        assert_close(one.world_to_global, other.world_to_global, rtol=0, atol=1e-6)
    single, sparse = (open_data(f"{word}:{path}") for word in ("kitti", "folder"))
    # To frames.json the stored 0 is class 0.
    names = np.array(["none", *sparse.class_names[1:]])[sparse[0].point_labels]
    raw = open_data(f"kitti:{path}?classes=raw")
    assert (np.array([*raw.class_names, "none"])[raw[0].point_labels] == names).all()
    benchmark = np.array([*single.class_names, "none"])[single[0].point_labels]
    assert single[1].point_labels is None and len(single.class_names) == 20
    # Stored names that the benchmark has, count as many points there, or more: others count as them.
    counts = {name: int((benchmark == name).sum()) for name in single.class_names}
    stored = {name: int((names == name).sum()) for name in set(names.tolist())}
    assert counts["car"] == stored["car"] > 1000 and counts["vegetation"] == stored["vegetation"]
    assert counts["road"] == stored["road"] + stored.get("lane-marking", 0) > stored["building"] > 1000


def test_real_sweeps_lie_on_each_other_where_their_poses_put_them(realdata):
    scene = open_data(f"kitti:{realdata / 'semantickitti_native'}", sweeps=2)[1]
    now, before = scene.points[scene.of_key_sweep, :3], scene.points[~scene.of_key_sweep, :3]
    walls = now[(now[:, 2] > -1) & (now[:, 1].abs() < 20)][::150]
    moved = torch.cdist(walls, before).amin(1).median()
    # The car drove 0.86 m.
    unmoved = torch.cdist(walls, before + torch.tensor([0.86, 0.05, 0.0])).amin(1).median()
    assert moved < 0.08 and moved < 0.6 * unmoved


def test_the_loss_of_real_sweeps_is_that_of_their_frames_json(realdata):
    path = realdata / "semantickitti_native"
    one, other = (one_step(f"{name}:{path}") for name in ("kitti", "folder"))
    assert one == pytest.approx(other, rel=1e-6)


def test_stored_numbers_are_the_official_classes():
    """What moves is what it is when it stands; rare vehicles are other vehicles; markings are road."""
    for stored, (name, official) in CLASSES.items():
        expected = name.removeprefix("moving-")
        expected = {"bus": "other-vehicle", "on-rails": "other-vehicle", "lane-marking": "road"}.get(
            expected, expected
        )
        if stored in (0, 1, 52, 99):
            assert official is None
        else:
            assert official == expected
    assert len(CLASSES) == 34 and len({official for _, official in CLASSES.values()}) == 20


@pytest.mark.parametrize("sequence", ["00", "01"])
def test_what_stands_still_stays_where_it_is(dataset, sequence):
    folder = open_data(f"kitti:{dataset}?sequences={sequence}", sweeps=2)
    scene = folder[1]
    now, before = scene.points[scene.of_key_sweep], scene.points[~scene.of_key_sweep]
    assert_close(before[:, :3], now[:, :3], rtol=0, atol=1e-5)  # float32
    assert before[:, 4].tolist() == pytest.approx([0.1] * len(POSTS)) and len(folder) == 2


def test_each_sequence_has_what_lies_in_it(dataset):
    folder = open_data(f"kitti:{dataset}", sweeps=2)
    assert [frame.scene for frame in folder.index.frames] == ["00", "00", "01", "01", "11", "11"]
    assert folder.camera_names == ("image_2",) and [len(folder[k].points) for k in range(6)] == [
        5,
        10,
    ] * 2 + [5, 5]
    assert [bool(folder[k].camera_valid is None) for k in range(6)] == [True] * 2 + [False] * 4
    assert folder[5].world_to_global is None and folder[4].point_labels is None
    single = open_data(f"kitti:{dataset}")[1]
    assert [single.class_names[k] for k in single.point_labels if k >= 0] == ["car", "car", "building"]
    assert single.point_labels.tolist()[3:] == [-1, -1]
    raw = open_data(f"kitti:{dataset}?sequences=00&classes=raw")
    names = [raw.class_names[k] for k in raw[1].point_labels]
    assert names[:4] == ["car", "moving-car", "building", "other-object"] and raw[1].point_labels[4] == -1
    assert raw.reader.values == {"sequences": ("00",), "classes": "raw"}


def test_a_pose_that_only_some_frames_have_is_missed_by_name(dataset):
    (dataset / "poses/01.txt").write_text(numbers(CAMERAS[0][:3]))
    assert len(open_data(f"kitti:{dataset}")) == 6
    with pytest.raises(
        SceneFolderError, match=r"frame 3 \(01/000001\): lidar.ego_to_global: expected a value"
    ):
        open_data(f"kitti:{dataset}", sweeps=2)


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("sequences/00/poses.txt", "1 2 3", "poses.txt: line 1: expected 12 finite numbers, got 1 2 3"),
        ("poses/01.txt", " ".join(["nan"] * 12), "poses/01.txt: line 1: expected 12 finite numbers, got nan"),
        (
            "poses/01.txt",
            " ".join(["2"] * 12),
            r"frame 2 \(01/000000\): lidar.ego_to_global: expected an ortho",
        ),
        ("sequences/01/calib.txt", "Tr: 1", "01/calib.txt: Tr: expected 12 finite numbers, got 1"),
        ("sequences/01/calib.txt", "Tr: " + "0 " * 12, "01/calib.txt: Tr: expected a rigid motion, got"),
        (
            "sequences/00/calib.txt",
            f"Tr: {numbers(TO_CAMERA[:3])}\nP2: {'0 ' * 12}",
            "P2: expected an invertible",
        ),
        ("sequences/00/times.txt", "zero", "times.txt: line 1: expected 1 finite numbers, got zero"),
        ("sequences/00/image_2/000001.png", "text", "image_2/000001.png"),
        (
            "sequences/00/labels/000001.label",
            "odd",
            "lidar.semseg_file: expected 20 bytes, 4 per point, got 3",
        ),
        ("sequences/00/velodyne/000001.bin", "odd", "lidar.file: expected a multiple of 16 bytes"),
    ],
)
def test_broken_files_are_one_line(dataset, file, text, line):
    (dataset / file).write_text(text)
    with pytest.raises(SceneFolderError, match=line) as caught:
        folder = SceneFolder(dataset, reader=KITTI)
        [folder[k] for k in range(len(folder))]
    assert "\n" not in str(caught.value)


def test_what_leads_out_of_the_folder_is_not_followed(dataset, tmp_path_factory):
    outside = tmp_path_factory.mktemp("elsewhere")
    (dataset / "sequences/01/velodyne").rename(outside / "velodyne")
    (dataset / "sequences/01/velodyne").symlink_to(outside / "velodyne")
    with pytest.raises(SceneFolderError, match="velodyne: expected a folder within"):
        open_data(f"kitti:{dataset}")
    assert len(open_data(f"kitti:{dataset}?outside=1")) == 6


def test_options_say_what_there_is(dataset):
    for options, line in (
        ("sequences=00,07", "sequences: expected some of 00, 01, 11, got 07"),
        ("sequences=../00", "data: sequences: expected different names with commas"),
        ("classes=all", "data: classes: expected learning or raw, got 'all'"),
        ("split=train", "expected the options of odometry: sequences, classes, got split"),
        ("layout=maps", "data: layout: expected object, raw, odometry, got 'maps'"),
        ("layout=raw", "expected drives DATE/DATE_drive_NNNN_sync with sweeps, got none"),
    ):
        with pytest.raises(ValueError, match=line):
            open_data(f"kitti:{dataset}?{options}")
    (dataset / "training").mkdir()
    with pytest.raises(
        SceneFolderError, match=r"got object, odometry: say \?layout=object or \?layout=odometry"
    ):
        open_data(f"kitti:{dataset}")
    assert len(open_data(f"kitti:{dataset}?layout=odometry")) == 6


def test_no_layout_is_one_line(tmp_path):
    (tmp_path / "velodyne").mkdir()
    with pytest.raises(
        SceneFolderError, match=r"expected training or testing .object., sequences .*got velodyne$"
    ):
        open_data(f"kitti:{tmp_path}")
