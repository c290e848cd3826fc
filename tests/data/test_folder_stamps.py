"""Time stamps, codes and names that load and cannot be meant."""

import logging

import numpy as np
import pytest
from scene_folders import fails, loads_with_problem, save, write_room, write_street

from renderpretrain.data import validate_scene_folder
from renderpretrain.data.folder.index import read_index
from renderpretrain.data.folder.order import stamp_problems

DAY = 1_500_000_000


def stamped(path, *stamps):
    content = write_street(path)
    frame = content["frames"][0]
    content["frames"] = [{**frame, "frame_id": f"f{k}", **stamp} for k, stamp in enumerate(stamps)]
    save(path, content)


@pytest.mark.parametrize(
    ("stamps", "frame", "said"),
    [
        ([{"timestamp_ns": DAY * 10**9}, {"timestamp_ns": DAY * 10**6 + 10**5}], 1, "of another unit?"),
        (
            [{"timestamp_us": DAY * 10**6}, {"timestamp_s": DAY / 1000}],
            1,
            "a time near 1500000000 s",
        ),
        (
            [{"timestamp_us": DAY * 1000 + 100 * k} for k in range(4)],
            0,
            "0.001 s apart, got 0.0001 s",
        ),
        ([{"timestamp_s": DAY + k} for k in (0, 1, 1, 2)], 2, "another time than that of frame 1 (f1)"),
    ],
)
def test_stamps_of_another_unit_and_the_same_stamp_are_told(tmp_path, caplog, stamps, frame, said):
    stamped(tmp_path, *stamps)
    with caplog.at_level(logging.WARNING):
        loads_with_problem(tmp_path, f"frame {frame} (f{frame}): timestamp: expected ")
    assert any(said in problem for problem in validate_scene_folder(tmp_path))
    assert said in caplog.text


@pytest.mark.parametrize(
    "stamps",
    [
        [{"timestamp_ns": DAY * 10**9}, {"timestamp_us": DAY * 10**6 + 10**5}],  # two units, each its own
        [{"timestamp_s": 0}, {"timestamp_s": 0}],  # no clock
        [{"timestamp_s": 0.0}, {"timestamp_s": 0.05}, {"timestamp_s": 7e5}],  # a week later
        [{"timestamp_s": DAY}, {"timestamp_s": DAY / 2}, {}],
        [{"timestamp_s": DAY + 0.1, "timestamp_us": DAY * 10**6 + 100_400, "scene": "a"}, {"timestamp_s": 1}],
    ],
)
def test_stamps_that_can_be_meant_are_not(tmp_path, stamps):
    stamped(tmp_path, *stamps)
    assert list(stamp_problems(read_index(tmp_path).frames)) == []


def test_a_frame_has_one_time(tmp_path):
    stamped(tmp_path, {"timestamp_s": DAY, "timestamp_us": DAY * 10**3})
    fails(tmp_path, "frame 0 (f0): expected timestamp_s, timestamp_us and timestamp_ns to say the same time")


@pytest.mark.parametrize("codes", [-1, [-1], 65536, True, "65535", 1.5, [[0]], {"a": 0}], ids=str)
def test_codes_that_no_pixel_holds_are_refused(tmp_path, codes):
    save(tmp_path, {**write_room(tmp_path), "depth_invalid": codes})
    fails(tmp_path, "depth_invalid: expected a stored number from 0 to 65535 that is no depth")


@pytest.mark.parametrize("codes", [None, 0, 65535, [], [0, 65535]], ids=str)
def test_codes_that_pixels_hold_are_not(tmp_path, codes):
    save(tmp_path, {**write_room(tmp_path), "depth_invalid": codes})
    wanted = None if codes is None else np.atleast_1d(codes).astype(int).tolist()
    assert read_index(tmp_path).depths.invalid == wanted


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
def test_cameras_have_names(tmp_path, name):
    content = write_street(tmp_path)
    content["frames"][1]["cameras"] = {name: content["frames"][1]["cameras"]["front"]}
    save(tmp_path, content)
    fails(tmp_path, "frame 1 (f1): expected cameras to have names of 1 to 200 characters, got '")
