"""What a run learned of a camera stays with the camera, on whatever recording the run is looked at."""

from dataclasses import replace

import pytest
import torch
import yaml

from renderpretrain.cli import main
from renderpretrain.data import SyntheticRoom, SyntheticStreet, write_scene_folder
from renderpretrain.data.folders_within import camera_places
from renderpretrain.runs import describe_run
from renderpretrain.runs.saved import saved_tree
from renderpretrain.runs.settings import parse_assignment

SMALL = [
    "--set", "image_size=[32, 64]", "--set", "rays.per_view=8", "--steps", "1", "--device", "cpu",
    "--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]",
    "--set", "sampler.num_samples=12", "--set", "sampler.num_importance=4",
    "--set", "field.sdf_blocks=1", "--set", "field.rgb_blocks=1",
]  # fmt: skip


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A street whose rig is listed as it is, in another order, with a stranger, and with strangers alone."""
    folder = tmp_path_factory.mktemp("recordings")
    street = SyntheticStreet(
        3, image_size=(32, 64), points_per_beam=60, frames_per_street=3, with_truth=False
    )  # of which a probe leaves one out between those it trains on and those it scores
    scenes, rig = list(street), street.camera_names
    renamed = {
        "own": {name: name for name in rig},
        "turned": {name: name for name in (rig[3], rig[0], rig[1])},
        "stranger": {"extra": rig[0], rig[1]: rig[1]},
        "strangers": {"cam_a": rig[1], "cam_b": rig[0]},
    }
    for name, names in renamed.items():
        kept = [rig.index(old) for old in names.values()]
        changed = [
            replace(scene, images=scene.images[kept], cameras=scene.cameras[kept], camera_names=tuple(names))
            for scene in scenes
        ]
        write_scene_folder(folder / name, changed, one_recording=True)
    write_scene_folder(folder / "room", [SyntheticRoom(1, image_size=(32, 64), with_truth=False)[0]])
    return folder, rig


def begun(folder, rig, places=None):
    """The job of a run that has begun on the street."""
    setting = [parse_assignment(text) for text in ("image_size=[32,64]", "calibration.refine=true")]
    saved = describe_run("unipad-camera", {"data": f"folder:{folder}/own"}, setting, saved={}).as_tree()
    saved["cameras"] = places or {name: place for place, name in enumerate(rig)}
    return describe_run("unipad-camera", {}, [], saved=saved)


def test_other_recordings_take_the_runs_order(recordings, capsys):
    folder, rig = recordings
    job = begun(folder, rig)
    own, turned = job.open()[0], job.open_raw(f"folder:{folder}/turned", count=None, say=print)[0]
    assert own.camera_names == rig and turned.camera_names == (rig[0], rig[1], "", rig[3])
    assert turned.camera_valid.tolist() == [True, True, False, True]
    there = [0, 1, 3]
    assert torch.equal(turned.images[there], own.images[there])
    assert torch.equal(turned.cameras.camera_to_world[there], own.cameras.camera_to_world[there])
    assert capsys.readouterr().out == ""  # all are known


@pytest.mark.parametrize(
    ("name", "places", "said"),
    [
        ("stranger", ("extra", 1), "the run knows {rig}; extra of folder:"),
        ("strangers", ("cam_a", "cam_b"), "the run knows {rig}; cam_a, cam_b of folder:"),
        ("room", (), "does not name its own, which are taken in their order for the run's: {rig}"),
    ],
)
def test_cameras_that_the_run_does_not_know_are_told_once(recordings, capsys, name, places, said):
    folder, rig = recordings
    dataset = begun(folder, rig).open_raw(f"folder:{folder}/{name}", count=None, say=print)
    told = capsys.readouterr().out
    assert said.format(rig=", ".join(rig)) in told and told.count("\n") == 1
    assert tuple(camera_places(dataset)) == tuple(rig[n] if isinstance(n, int) else n for n in places)


@pytest.mark.slow
def test_a_run_keeps_its_cameras_and_eval_and_probe_put_others_in_their_places(recordings, tmp_path, capsys):
    folder, rig = recordings
    job = ["unipad-camera", "--data", f"folder:{folder}/own", "--out", tmp_path / "run", *SMALL]
    assert run("pretrain", *job, "--set", "calibration.refine=true") == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["cameras"] == {name: place for place, name in enumerate(rig)}
    probe = ["--probe", "linear", "--task", "depth", "--labels", "1", "--seeds", "1", "--steps", "1"]
    for flags in ([], [*probe, "--scenes", "1", "--test-scenes", "1"]):
        capsys.readouterr()
        assert run("eval", tmp_path / "run", "--data", f"folder:{folder}/stranger", *flags) == 0
        assert "extra of folder:" in capsys.readouterr().out


def test_synthetic_scenes_and_mixtures_take_the_runs_order_too(recordings):
    folder, rig = recordings
    job = begun(folder, rig, {name: 5 - place for place, name in enumerate(rig)})
    assert job.open()[0].camera_names == rig[::-1]
    assert job.open_raw("synthetic", count=1)[0].camera_names == rig[::-1]
    mixed = job.open_raw(f"synthetic+folder:{folder}/own", count=1)
    assert {mixed[i].camera_names for i in range(len(mixed))} == {rig[::-1]}


@pytest.mark.parametrize("wrong", ["front", {"front": -1}, {"front": 10**9}, {1: 0}, ["front"]], ids=str)
def test_places_that_are_none_are_refused(tmp_path, wrong):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"recipe": "unipad-camera", "cameras": wrong}))
    with pytest.raises(ValueError, match=r"config.yaml: cameras: expected places below 1000"):
        saved_tree(tmp_path)
