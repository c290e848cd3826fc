"""All frames are looked at before the first step: what is bad is listed together, refused, or left out."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from renderpretrain.cli import main
from renderpretrain.data import SyntheticRoom, SyntheticStreet, inspect_folder, write_scene_folder
from renderpretrain.data.folder.index import FRAMES_JSON
from renderpretrain.runs import describe_run, read_description
from renderpretrain.verbs.preflight import check_recordings

FEW = ["--steps", "2", "--device", "cpu", "--set", "image_size=[32,64]", "--set", "rays.per_view=8"]
FEW += ["--set", "rays.per_sweep=32", "--set", "optimization.log_every=1"]
SKIPPING = {"skip_bad": True, "resumed": False, "say": print, "warn": print}
NEAR = ["--set", "point_cloud_range=[-12.8,-12.8,-4.0,12.8,12.8,4.8]"]


def pretrain(capsys, *arguments):
    """The exit code, and what was said."""
    with pytest.raises(SystemExit) as finished:
        main(["pretrain", *(str(argument) for argument in arguments)])
    told = capsys.readouterr()
    return finished.value.code, told.out, told.err


def scenes_of(job):
    dataset = job.open()
    return [dataset[i] for i in range(len(dataset))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four moments of a street."""
    street = SyntheticStreet(
        4, image_size=(32, 64), points_per_beam=60, frames_per_street=4, with_truth=False
    )
    path = tmp_path_factory.mktemp("street") / "whole"
    write_scene_folder(path, [street[i] for i in range(4)], one_recording=True)
    return path


@pytest.fixture
def street(whole, tmp_path):
    """A copy to spoil, and its index."""
    shutil.copytree(whole, tmp_path / "street")
    return tmp_path / "street", json.loads((whole / "frames.json").read_text())


def save(path, index):
    (path / "frames.json").write_text(json.dumps(index))


@pytest.fixture
def room(tmp_path):
    rooms = SyntheticRoom(2, image_size=(32, 48), with_truth=False)
    write_scene_folder(tmp_path / "room", [rooms[0], rooms[1]])
    return tmp_path / "room", json.loads((tmp_path / "room" / "frames.json").read_text())


def spoil(path, index):
    """Three frames of four, each in its own way; returns what is said of each."""
    frames = index["frames"]
    (path / frames[0]["lidar"]["file"]).write_bytes(b"")
    picture = path / next(iter(frames[1]["cameras"].values()))["file"]
    picture.write_bytes(picture.read_bytes()[:60])
    frames[3]["cameras"]["front"]["intrinsics"][0][0] = "wide"
    save(path, index)
    return [
        "frame 0 .*lidar.file: expected a finite point",
        f"{picture.name}: frame 1",
        "frame 3 .*intrinsics",
    ]


def test_all_faults_are_listed_together_and_no_run_folder_is_made(street, tmp_path, capsys):
    path, index = street
    expected = spoil(path, index)
    job = ["unipad-fusion", "--data", f"folder:{path}", "--out", tmp_path / "run", *FEW, *NEAR]
    for extra in ([], ["--dry-run"]):
        code, _, err = pretrain(capsys, *job, *extra)
        assert code == 1 and not (tmp_path / "run").exists()
        lines = err.splitlines()
        assert len(lines) == 4
        for pattern in expected:
            assert any(re.search(pattern, line) for line in lines), pattern
        assert lines[-1].startswith("error: data: 3 of 4 frames of ") and "--skip-bad" in lines[-1]


@pytest.mark.slow
def test_bad_frames_are_left_out_counted_and_recorded(street, tmp_path, capsys):
    path, index = street
    spoil(path, index)
    run = tmp_path / "run"
    job = ["unipad-lidar", "--data", f"folder:{path}", "--out", run, *FEW, *NEAR]
    code, out, err = pretrain(capsys, *job, "--skip-bad")
    assert code in (0, None), err
    assert "left out: 3 of 4 frames of" in out and len(err.splitlines()) == 3
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["skipped"] == {f"folder:{path}?fit=pad": [0, 1, 3]}
    # A resumed run leaves out the same frames without being told, and so does whoever looks at the run.
    code, _, err = pretrain(capsys, *job, "--resume", "--steps", 3)
    assert code in (0, None), err
    assert [scene.name for scene in scenes_of(read_description(run))] == ["street/street-0-2"]


def test_what_was_found_is_remembered_until_a_file_changes(street):
    path, index = street
    said = []
    first = inspect_folder(path, say=said.append)
    assert inspect_folder(path, say=said.append) == first and len(said) == 1
    assert not any(frame.faults for frame in first) and len(first) == 4
    file = path / index["frames"][2]["lidar"]["file"]
    file.write_bytes(file.read_bytes()[:-1])
    again = inspect_folder(path, say=said.append)
    assert len(said) == 2 and [bool(frame.faults) for frame in again] == [False, False, True, False]


def test_tables_are_not_read_to_learn_what_is_remembered(street):
    path, index = street
    read = []
    reader = replace(FRAMES_JSON, read=lambda access: (read.append(access), FRAMES_JSON.read(access))[1])
    first = inspect_folder(path, reader=reader)
    assert inspect_folder(path, reader=reader) == first and len(read) == 1
    save(path, {**index, "frames": index["frames"][:3]})
    assert len(inspect_folder(path, reader=reader)) == 3 and len(read) == 2
    # What is added beside the tables may be one of them, as labels are that are unpacked later.
    (path / "more.json").write_text("{}")
    assert len(inspect_folder(path, reader=reader)) == 3 and len(read) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the owner of all may write anywhere")
def test_a_cache_that_cannot_be_written_is_done_without(street, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir(mode=0o500)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(inspect_folder(street[0])) == 4


def test_one_frame_without_cameras_or_of_another_rig_does_not_end_a_run(street, tmp_path, capsys):
    path, index = street
    index["frames"][1]["cameras"] = {}
    index["frames"][3]["cameras"] = {f"other_{k}": c for k, c in index["frames"][3]["cameras"].items()}
    save(path, index)
    job = ["unipad-camera", "--data", f"folder:{path}", "--out", tmp_path / "run", *FEW, *NEAR]
    code, _, err = pretrain(capsys, *job)
    assert code == 1 and "frame 1 (street-0-1): cameras: expected at least one of front" in err
    assert "frame 3 (street-0-3): cameras: expected front" in err and "got other_" in err
    job = check_recordings(
        describe_run("unipad-camera", {"data": f"folder:{path}"}, [], saved={}), **SKIPPING
    )
    assert list(job.skipped.values()) == [[1, 3]] and "left out: 2 of 4 frames" in capsys.readouterr().out
    assert [scene.camera_names[:2] for scene in scenes_of(job)] == [("front", "front_right")] * 2


def test_a_recipe_is_told_what_learns_from_the_recording_at_hand(street, room, tmp_path, capsys):
    path, index = street
    for frame in index["frames"]:
        frame["cameras"] = {}
    save(path, index)
    out = ["--out", tmp_path / "run", "--steps", 1, "--device", "cpu"]
    told = {}
    for recipe in ("unipad-camera", "ns-mae", "uniscene", "ponder-indoor"):
        code, _, err = pretrain(capsys, recipe, "--data", f"folder:{path}", *out)
        assert code == 1 and not (tmp_path / "run").exists() and err.count("\n") == 1
        told[recipe] = err
    assert "has no images" in told["unipad-camera"]
    assert told["unipad-camera"].endswith("; what learns from it: unipad-lidar, render-distill-lidar\n")
    assert told["ns-mae"].endswith("set modality=lidar\n")
    assert "has no images and no depth images" in told["ponder-indoor"]
    folder, views = room
    for view in views["frames"]:
        view["depth"] = None
    save(folder, {**views, "format": "posed_rgb"})
    code, _, err = pretrain(capsys, "ponder-outdoor", "--data", f"folder:{folder}", *out)
    assert code == 1 and "has no points" in err and "unipad-lidar" not in err


def test_views_without_depth_do_not_end_a_run_of_a_depth_recipe(room, tmp_path, capsys):
    folder, index = room
    index["frames"][2]["depth"] = None
    blank = np.zeros((32, 48), np.uint16)
    for view in index["frames"][4:8]:  # a whole scene
        Image.fromarray(blank).save(folder / view["depth"])
    save(folder, index)
    small = ["--set", "image_size=[32,48]", "--set", "rays.per_view=16", "--steps", 2, "--device", "cpu"]
    job = ["ponder-indoor", "--data", f"folder:{folder}", "--out", tmp_path / "run", *small]
    code, _, err = pretrain(capsys, *job)
    assert code == 1 and "frames 2, 4-7: depth: expected a depth image with measured" in err
    job = check_recordings(
        describe_run("ponder-indoor", {"data": f"folder:{folder}"}, [], saved={}), **SKIPPING
    )
    assert list(job.skipped.values()) == [[2, 4, 5, 6, 7]]
    assert [scene.z_depth_valid.flatten(1).any(-1).tolist() for scene in scenes_of(job)] == [[True] * 3]


def test_a_rig_with_more_cameras_than_places_is_refused_before_the_run(street, tmp_path, capsys):
    job = ["uniscene", "--data", f"folder:{street[0]}", "--out", tmp_path / "run", "--steps", 1]
    code, _, err = pretrain(capsys, *job, "--set", "attention.num_cameras=4")
    assert code == 1 and "attention.num_cameras: expected at least 6" in err
    assert "set attention.num_cameras=6, or choose: folder:PATH?cameras=front" in err
    assert not (tmp_path / "run").exists()
