"""Recordings from the command line: bad ones end in one line and block nothing, real ones train."""

import json
import os
from dataclasses import replace

import pytest

from renderpretrain.cli import main
from renderpretrain.data import SyntheticStreet, inspect_folder, write_scene_folder
from renderpretrain.training import read_rows

FEW = [
    "--steps",
    "1",
    "--device",
    "cpu",
    "--set",
    "rays.per_view=8",
    "--set",
    "rays.per_sweep=32",
    "--set",
    "sampler.num_samples=12",
    "--set",
    "sampler.num_importance=4",
    "--set",
    "field.sdf_blocks=1",
]
SMALL = [
    *FEW,
    "--set",
    "image_size=[32, 64]",
    "--set",
    "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
]


def end(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as finished:
        main([str(argument) for argument in arguments])
    return finished.value.code


@pytest.fixture
def recording(tmp_path):
    street = SyntheticStreet(1, image_size=(32, 64), points_per_beam=60, with_truth=False)
    write_scene_folder(tmp_path / "data", [street[0]])
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("pattern", "kept", "message"),
    [
        ("*lidar*", None, "got: nothing"),
        ("*lidar*", -5, "multiple of"),
        ("*lidar*", 0, "point"),
        ("*.png", 30, "image"),
    ],
)
def test_a_bad_recording_is_one_line_and_leaves_no_run_folder(
    recording, tmp_path, capsys, pattern, kept, message
):
    file = sorted(recording.rglob(pattern))[0]
    whole = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(whole[:kept])
    job = ["pretrain", "unipad-camera", "--data", f"folder:{recording}", "--out", tmp_path / "run", *SMALL]
    assert end(*job) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert file.name in said and message in said
    assert not (tmp_path / "run").exists()


def test_a_recording_that_was_mended_trains_into_the_same_folder(recording, tmp_path):
    file = sorted(recording.rglob("*lidar*"))[0]
    whole = file.read_bytes()
    file.unlink()
    job = ["pretrain", "unipad-camera", "--data", f"folder:{recording}", "--out", tmp_path / "run", *SMALL]
    assert end(*job) == 1
    file.write_bytes(whole)
    assert end(*job) in (0, None)


def test_a_process_that_prepares_batches_says_the_same_line(tmp_path, capfd):
    """A picture that is damaged behind the back of the check, which trusts sizes and dates."""
    street = SyntheticStreet(5, image_size=(32, 64), points_per_beam=60, with_truth=False)
    write_scene_folder(tmp_path / "data", [street[index] for index in range(5)])
    inspect_folder(tmp_path / "data")
    # Of the second frame: the first, third and fifth are looked at before the run's folder is made.
    file = sorted((tmp_path / "data").rglob("*.png"))[len(street[0].camera_names)]
    told, whole = file.stat(), file.read_bytes()
    file.write_bytes(whole[:30] + bytes(len(whole) - 30))
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    job = ["pretrain", "unipad-camera", "--data", f"folder:{tmp_path / 'data'}", *SMALL, "--steps", 5]
    said = []
    for workers in (0, 1):  # the first picture is of the last frame, which is whole
        run = tmp_path / f"run{workers}"
        assert end(*job, "--workers", workers, "--out", run) == 1
        said.append(capfd.readouterr().err)
        assert len(list((run / "pictures").iterdir())) > 0
    assert said[0] == said[1] and said[0].startswith("error: ") and said[0].count("\n") == 1
    assert file.name in said[0]


def test_a_camera_recipe_without_images_is_one_line(tmp_path, capsys):
    street = SyntheticStreet(1, image_size=(32, 64), points_per_beam=60, with_truth=False)
    write_scene_folder(tmp_path / "data", [bare(street[0])])
    job = [
        "pretrain",
        "unipad-camera",
        "--data",
        f"folder:{tmp_path / 'data'}",
        "--out",
        tmp_path / "run",
        *SMALL,
    ]
    assert end(*job) == 1
    assert "has no images" in capsys.readouterr().err and not (tmp_path / "run").exists()


def bare(scene):
    return replace(scene, images=None, cameras=None, camera_names=(), truth=None)


@pytest.mark.slow
def test_a_recording_named_like_a_log_trains_and_is_probed(tmp_path, capsys):
    """nuScenes' carry their time zone, others a rate; neither is a mixture, nor a share."""
    street = SyntheticStreet(3, image_size=(32, 64), points_per_beam=60, with_truth=False)
    log, run = tmp_path / "n000-2030-01-02-03-04-05+0800@10", tmp_path / "run"
    write_scene_folder(log, [street[i] for i in range(3)])
    job = ["pretrain", "unipad-lidar", *SMALL, "--data", f"folder:{log}", "--holdout", 1, "--out", run]
    assert end(*job) in (0, None), capsys.readouterr().err
    probe = ["--probe", "linear", "--task", "occupancy", "--seeds", 1, "--labels", 1, "--steps", 1]
    assert end("eval", run, *probe) in (0, None), capsys.readouterr().err
    assert json.loads((run / "probe.json").read_text())["occupancy/linear"]["data"].endswith(
        "+0800%4010?fit=pad"
    )


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("unipad-fusion", "pandaset_002_sequence"),  # reads what each sensor's recipe reads
        pytest.param("unipad-fusion", "nuscenes_keyframe", marks=pytest.mark.long),
        pytest.param("unipad-fusion", "kitti_000001", marks=pytest.mark.long),
        pytest.param("unipad-lidar", "argoverse2_7fab2350", marks=pytest.mark.long),
    ],
)
def test_real_recordings_train(recipe, name, realdata, tmp_path):
    job = ["pretrain", recipe, "--data", f"folder:{realdata / name}", "--out", tmp_path / "run", *FEW]
    job += ["--set", "image_size=[64, 96]"]
    assert end(*job) in (0, None)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["loss/depth"] for row in rows if "loss" in row][-1] > 0
    assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) >= 2


@pytest.mark.slow
def test_a_room_trains(tmp_path):
    job = ["pretrain", "unipad-fusion", "--data", "synthetic-room", "--scenes", 2, "--holdout", 1]
    assert end(*job, "--out", tmp_path / "run", *FEW, "--set", "image_size=[64, 96]") in (0, None)
    assert read_rows(tmp_path / "run" / "metrics.jsonl")[-1]["eval/depth_abs_rel"] > 0
