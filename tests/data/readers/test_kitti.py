"""KITTI's own files beside the ``frames.json`` that describes the same ones."""

import shutil

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

KITTI = READERS["kitti"]
SIZE = (96, 320)


@pytest.fixture
def benchmark(realdata, tmp_path):
    """A copy of the object benchmark's two frames."""
    shutil.copytree(realdata / "kitti_native" / "training", tmp_path / "kitti" / "training")
    return tmp_path / "kitti"


def test_the_object_benchmark_is_what_frames_json_says(realdata):
    path = realdata / "kitti_native"
    native, neutral = (open_data(f"{name}:{path}", image_size=SIZE) for name in ("kitti", "folder"))
    assert len(native) == len(neutral) == 2 and native.camera_names == ("image_2",)
    for one, other in zip((native[0], native[1]), (neutral[0], neutral[1]), strict=True):
        assert torch.equal(one.points, other.points) and torch.equal(one.images, other.images)
        assert_close(one.cameras.intrinsics, other.cameras.intrinsics)
        # The calibration is written with eight digits.
        assert_close(one.cameras.camera_to_world, other.cameras.camera_to_world, rtol=0, atol=1e-5)
        # frames.json has four digits of centres and headings.
        assert_close(one.boxes.centers, other.boxes.centers, rtol=0, atol=1e-4)
        assert_close(one.boxes.yaws, other.boxes.yaws, rtol=0, atol=1e-4)
        assert one.class_names == other.class_names and torch.equal(one.boxes.labels, other.boxes.labels)
    assert validate_scene_folder(path, reader=KITTI) == []


def test_lists_of_frames_are_splits(benchmark):
    (benchmark / "ImageSets").mkdir()
    (benchmark / "ImageSets" / "val.txt").write_text("000002\n")
    chosen = open_data(f"kitti:{benchmark}?split=val", image_size=SIZE)
    assert [frame.frame_id for frame in chosen.index.frames] == ["000002"]
    assert str(chosen.reader.values["split"]) == "val" and chosen.without([]).reader == chosen.reader
    for text in ("../val", ""):
        with pytest.raises(ValueError, match="data: split: expected training, testing, or the name"):
            open_data(f"kitti:{benchmark}?split={text}")
    with pytest.raises(SceneFolderError, match=r"ImageSets/none.txt: table: expected a readable file, got"):
        open_data(f"kitti:{benchmark}?split=none")


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("calib/000000.txt", "P2: 1 2", r"calibration: P2: expected 12 finite numbers, got 1 2"),
        ("label_2/000000.txt", "Car 0 0", r"label_2/000000.txt: line 1: expected 15 words, got Car 0 0"),
        ("image_2/000000.png", "text", r"image_2/000000.png: picture: expected a readable image"),
    ],
)
def test_a_frame_of_which_a_table_is_broken_can_be_skipped(benchmark, file, text, line):
    calibration = benchmark / "training" / "calib" / "000000.txt"
    kept = "" if "P2" not in text else calibration.read_text().replace("P2:", "old:") + text
    (benchmark / "training" / file).write_text(kept or text)
    with pytest.raises(SceneFolderError, match=line):
        SceneFolder(benchmark, reader=KITTI, image_size=SIZE)
    facts = inspect_folder(benchmark, reader=KITTI)
    assert [len(frame.faults) for frame in facts] == [1, 0]
    rest = SceneFolder(benchmark, reader=KITTI, image_size=SIZE, skip=[0])
    assert len(rest) == 1 and rest[0].name.endswith("000002")


def test_no_benchmark_is_one_line(tmp_path):
    with pytest.raises(SceneFolderError, match=r"expected training or testing .object., .* got nothing$"):
        open_data(f"kitti:{tmp_path}")


def test_names_in_lists_do_not_lead_out_of_the_folder(benchmark):
    (benchmark / "ImageSets").mkdir()
    (benchmark / "ImageSets" / "val.txt").write_text("000002\n../../../000000\n")
    with pytest.raises(SceneFolderError, match=r"000000.txt: table: expected a file within the folder"):
        open_data(f"kitti:{benchmark}?split=val", image_size=SIZE)
    shutil.move(benchmark / "training" / "velodyne", benchmark.parent / "velodyne")
    (benchmark / "training" / "velodyne").symlink_to(benchmark.parent / "velodyne")
    with pytest.raises(SceneFolderError, match=r"velodyne: expected a folder within"):
        open_data(f"kitti:{benchmark}", image_size=SIZE)
