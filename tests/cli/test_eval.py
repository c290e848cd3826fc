"""``renderpretrain eval``: on runs of two steps it goes through every line and says nothing of any worth."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from renderpretrain.cli import main
from renderpretrain.cli.probing import unequal_starts
from renderpretrain.data import SyntheticStreet, write_scene_folder
from renderpretrain.runs import describe_run
from renderpretrain.verbs.scenes import scenes_of

SMALL = [
    "--set", "image_size=[64, 96]",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "rays.per_view=8",
    "--set", "sampler.num_samples=12", "--set", "sampler.num_importance=4",
    "--set", "field.sdf_blocks=1", "--set", "field.rgb_blocks=1",
    "--holdout", "1", "--steps", "1", "--device", "cpu",
]  # fmt: skip
TWO = ["--scenes", "2"]
KINDS = ("depth", "depth_in_blocks", "depth_between_beams")
FEW = ["--labels", "0.5,1", "--seeds", "2", "--scenes", "2", "--test-scenes", "1", "--steps", "2"]


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run with a LiDAR, which renders no colour, and one with cameras."""
    folder = tmp_path_factory.mktemp("runs")
    for recipe, flags in (("unipad-lidar", ["--set", "losses.rgb=0"]), ("unipad-camera", [])):
        assert run("pretrain", recipe, "--out", folder / recipe, *SMALL, *TWO, *flags) == 0
    return folder


@pytest.mark.parametrize(
    ("recipe", "mode", "task", "metric"),
    [
        ("unipad-lidar", "linear", "semseg", "miou"),
        ("unipad-lidar", "linear", "occupancy", "iou"),
        ("unipad-camera", "linear", "occupancy", "iou"),
        ("unipad-camera", "linear", "depth", "abs_rel"),
        ("unipad-lidar", "linear", "detection", "map"),
    ],
)
def test_a_probe_leaves_a_table_a_file_and_a_plot(runs, capsys, recipe, mode, task, metric):
    assert run("eval", runs / recipe, "--probe", mode, "--task", task, *FEW) == 0
    said = capsys.readouterr().out
    heading = {"depth": "abs_rel (less is better), linear", "detection": "map, small head on frozen encoders"}
    assert heading.get(task, f"{metric}, linear") in said and "scratch" in said and "pre-trained" in said
    assert "note: there is one pre-training run" in said
    assert ("road " in said) == (task == "semseg") and ("ap@0.5" in said) == (task == "detection")
    record = json.loads((runs / recipe / "probe.json").read_text())[f"{task}/{mode}"]
    assert record["metric"] == metric and record["step"] == 1
    arms = {"scratch", "pretrained", "handmade", "scratch+handmade", "pretrained+handmade"}
    assert {trial["arm"] for trial in record["trials"]} == arms
    assert len(record["trials"]) == 2 * 2 * len(arms)
    assert "hand-made" in said and record["table"][0]["added_to_handmade"] is not None
    assert "100.0% of the encoders'" in said and record["levels"] == "all"
    assert "note: settings were chosen on the scenes that are scored" in said
    assert [line["labelled"] for line in record["table"]] == [1, 2]
    assert record["scenes"] == ["street-1-0", "street-1-1"]  # pre-training saw those of seed 0
    assert (record["split"], record["scored_scenes"]) == ("validation", ["street-2-0"])
    assert (runs / recipe / f"probe-{task}-{mode}.png").stat().st_size > 5000
    answers = runs / recipe / f"probe-{task}-{mode}-answers.png"
    assert answers.is_file() == (task in ("semseg", "detection")) == (str(answers) in said)


def test_a_file_keeps_what_other_probes_wrote(runs):
    for task in ("semseg", "occupancy"):
        assert run("eval", runs / "unipad-lidar", "--probe", "linear", "--task", task, *FEW) == 0
    assert {"semseg/linear", "occupancy/linear"} <= set(
        json.loads((runs / "unipad-lidar" / "probe.json").read_text())
    )


def test_each_opening_of_the_test_scenes_is_counted(runs, capsys):
    probe = [
        "eval",
        runs / "unipad-lidar",
        "--probe",
        "linear",
        "--labels",
        "1",
        "--seeds",
        "1",
        "--steps",
        "1",
    ]
    few = ["--scenes", "1", "--test-scenes", "1"]
    for opened in (1, 2):
        assert run(*probe, *few, "--split", "test") == 0
        records = json.loads((runs / "unipad-lidar" / "probe.json").read_text())
        record = records["semseg/linear/test"]
        assert (record["split"], record["opened"]) == ("test", opened)
        assert (record["scenes"], record["scored_scenes"]) == (["street-1-0"], ["street-3-0"])
    assert "opened" not in records.get("semseg/linear", {})
    assert run(*probe, *few, "--split", "exam") == 1
    assert "split: expected one of validation, test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"semseg/linear": {"metric"', "cannot be read"),
        ("[]", "expected probes by task and mode, got list"),
    ],
)
def test_a_damaged_probe_file_is_found_before_anything_is_computed(runs, capsys, content, message):
    path = runs / "unipad-lidar" / "probe.json"
    before = path.read_text() if path.is_file() else "{}"
    path.write_text(content)
    try:
        assert run("eval", runs / "unipad-lidar", "--probe", "linear", *FEW) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {path}: ") and said.err.count("\n") == 1
        assert message in said.err and said.out == ""  # not one trial was told of
        assert path.read_text() == content
    finally:
        path.write_text(before)


def test_held_out_views_are_scored(runs, capsys):
    assert run("eval", runs / "unipad-camera") == 0
    record = json.loads((runs / "unipad-camera" / "eval.json").read_text())
    scores = record["scores"]
    depths = {f"{kind}_{score}" for kind in KINDS for score in ("abs_rel", "rmse", "delta")}
    assert set(scores) == depths | {"psnr", "ssim", "picture_psnr", "chamfer"}
    assert set(record["predictors"]) == {"nearest_point", "best_row", "row_median", "baseline"}
    assert all(depths <= set(found) for found in record["predictors"].values())
    over_range = record["over_range"]["recipe"]
    intervals = {name.rpartition("/")[0] for name in over_range if name.startswith("depth/")}
    rays = {each: over_range[f"{each}/rays"] for each in intervals}
    mean = sum(over_range[f"{each}/abs_rel"] * count for each, count in rays.items()) / sum(rays.values())
    assert mean == pytest.approx(scores["depth_abs_rel"])
    assert 0 <= scores["depth_delta"] <= 1 and -1 <= scores["ssim"] <= 1 and scores["chamfer"] > 0
    page = runs / "unipad-lidar" / "report.html"
    assert "renderpretrain eval, step" not in page.read_text()
    capsys.readouterr()
    assert run("eval", runs / "unipad-lidar") == 0
    told = capsys.readouterr().out
    assert told.endswith(f"\nreport     {page}\n")
    assert "renderpretrain eval, step" in page.read_text()
    assert "ssim" not in json.loads((runs / "unipad-lidar" / "eval.json").read_text())["scores"]
    assert "1 held-out scenes" in told


@pytest.mark.parametrize("data", [[], ["--data", "synthetic", "--test-scenes", "1"]])
def test_a_run_that_was_interrupted_scores_as_if_it_had_ended(runs, tmp_path, capsys, data):
    """Its last step's weights are those of ``final.pt``: only the batch norms' statistics are not there."""
    stopped = tmp_path / "run"
    shutil.copytree(runs / "unipad-lidar", stopped)
    (stopped / "checkpoints" / "final.pt").unlink()
    for folder in (runs / "unipad-lidar", stopped):
        capsys.readouterr()
        assert run("eval", folder, *data) == 0
        said = capsys.readouterr().out.splitlines()
        told = [line for line in said if line.startswith("batch norms: measured on whole scenes")]
        assert len(told) == (folder == stopped)
    ended, measured = (json.loads((f / "eval.json").read_text()) for f in (runs / "unipad-lidar", stopped))
    assert measured["scores"] == ended["scores"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--probe", "quadratic"], "probe: expected one of linear, decoder, finetune"),
        (["--probe", "linear", "--task", "semsge"], "did you mean semseg?"),
        (["--probe", "linear", "--labels", "1,x"], "labels: expected shares in (0, 1]"),
        (["--probe", "linear", "--labels", "0"], "labels: expected shares in (0, 1]"),
        (["--probe", "linear", "--labels", ""], "labels: expected shares in (0, 1]"),
        (["--probe", "linear", "--stride", "2"], "stride: expected only without --probe, got 2"),
        (["--task", "depth"], "task: expected only with --probe, got depth"),
        (["--steps", "9"], "steps: expected only with --probe, got 9"),
        (["--test-scenes", "99"], "test_scenes: expected at most the 1 scenes of synthetic"),
        (["--probe", "linear", "--task", "depth", *FEW], "unipad-lidar has no image encoder"),
    ],
)
def test_a_mistake_is_one_line(runs, capsys, flags, message):
    assert run("eval", runs / "unipad-lidar", *flags) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_pictures_too_small_to_compare_are_one_line(runs, capsys):
    assert run("eval", runs / "unipad-camera", "--stride", "9") == 1
    said = "stride: expected at least 11 pixels a side for SSIM, got 7 x 10 of 64 x 96, one in 9\n"
    assert capsys.readouterr().err == f"error: {said}"
    assert run("eval", runs / "unipad-lidar", "--stride", "9") == 0  # renders no colour: nothing to compare


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "expected text in UTF-8"),
        (b"recipe: unipad-lidar\nconfig: 5\n", "config: expected settings, got 5"),
        (b"recipe: unipad-lidar\nconfig: {chanels: 5}\n", "did you mean channels?"),
        (b"recipe: unipad\n", "recipe: expected one of"),
        (b"recipe: unipad-camera\n", "not a checkpoint of unipad-camera: "),
    ],
)
def test_a_run_folder_that_does_not_hold_together_is_one_line(runs, tmp_path, capsys, content, message):
    shutil.copytree(runs / "unipad-lidar", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_bytes(content)
    for verb in (["eval"], ["eval", "--probe", "linear", *FEW], ["render"]):
        assert run(verb[0], tmp_path / "run", *verb[1:]) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {tmp_path / 'run'}") and said.err.count("\n") == 1
        assert message in said.err and said.out == ""


def test_no_scene_of_a_recording_that_was_learned_from_is_scored(tmp_path, capsys):
    street = SyntheticStreet(4, frames_per_street=4, image_size=(32, 64), points_per_beam=60)
    write_scene_folder(tmp_path / "data", street, one_recording=True)
    out, data = tmp_path / "run", f"folder:{tmp_path / 'data'}"
    assert run("pretrain", "unipad-lidar", "--out", out, "--data", data, *SMALL) == 0
    assert run("eval", out, "--data", data) == 0
    assert json.loads((out / "eval.json").read_text())["scenes"] == [3]
    assert run("eval", out, "--data", data, "--test-scenes", "2") == 1
    assert f"test_scenes: expected at most the 1 scenes of {data}" in capsys.readouterr().err
    write_scene_folder(tmp_path / "other", [street[0], street[1]])
    assert run("eval", out, "--data", f"folder:{tmp_path / 'other'}", "--test-scenes", "99") == 1
    assert "expected at most the 2 scenes of" in capsys.readouterr().err
    assert json.loads((out / "eval.json").read_text())["scenes"] == [3]
    probe = ["eval", out, "--probe", "linear", "--labels", "1", "--seeds", "1", "--steps", "2"]
    assert run(*probe, "--scenes", "2", "--test-scenes", "2") == 1
    assert "test_scenes: expected at most 1 frames of the 1 last ones" in capsys.readouterr().err
    assert run(*probe, "--split", "test") == 1
    assert "split: expected validation, for 1 held-out frames are too few" in capsys.readouterr().err
    assert run(*probe) == 0
    (record,) = json.loads((out / "probe.json").read_text()).values()
    assert (len(record["scenes"]), len(record["scored_scenes"])) == (2, 1)


def test_class_labels_in_pre_training_are_an_advantage():
    plain = describe_run("ponder-indoor", {}, [], saved={})
    assert unequal_starts(plain) == []
    (note,) = unequal_starts(describe_run("ponder-indoor", {"preset": "tiny-semantic"}, [], saved={}))
    assert "learned from class labels (losses.semantic, losses.alignment)" in note
    aligned = [{"losses": {"alignment": 0.1}, "embeddings": "hashed:8"}]
    (note,) = unequal_starts(describe_run("ponder-indoor", {}, aligned, saved={}))
    assert "(losses.alignment)" in note


def test_pictures_of_named_data_come_to_one_size_as_the_runs_did(tmp_path):
    """A run of before pictures kept their proportions stretched them, and has left out a frame."""
    street = SyntheticStreet(3, image_size=(48, 80), with_truth=False)
    write_scene_folder(tmp_path / "street", [street[k] for k in range(3)])
    data = f"folder:{tmp_path / 'street'}"
    settings = [{"image_size": [48, 48]}]
    job = describe_run("unipad-camera", {"data": f"{data}?fit=stretch"}, settings, saved={})
    job = replace(job, skipped={job.data: [1]})
    own, named = (scenes_of(job, told, say=print)[0] for told in (None, data))
    assert len(own) == len(named) == 2
    assert all(torch.equal(own[k].images, named[k].images) for k in range(2))
    padded, _ = scenes_of(job, f"{data}?fit=pad", say=print)
    assert not padded[0].image_valid.all() and not torch.equal(own[0].images, padded[0].images)
    mixed = replace(job, data="folder:/a?fit=crop+folder:/b?fit=stretch")
    told = [mixed.as_seen(f"folder:{path}") for path in ("/a", "/b", "/c")]
    assert told == ["folder:/a?fit=crop", "folder:/b?fit=stretch", "folder:/c?fit=pad"]
    assert job.as_seen("folder:/c") == "folder:/c?fit=stretch" and mixed.as_seen("synthetic") == "synthetic"


def test_of_a_mixture_every_set_held_out_its_share():
    job = describe_run("ponder-outdoor", {"data": "folder:/a@b@3+folder:/c", "holdout": 5}, [], saved={})
    held_out = [job.held_out_of(data) for data in ("folder:/a@b", "folder:/c", "folder:/d", "synthetic")]
    assert held_out == [3, 2, None, None]
    # However pictures are fitted, the scenes are the same; other options may leave some out.
    assert job.held_out_of("folder:/c?fit=crop") == 2 and job.held_out_of("folder:/c?cameras=a") == 0
