"""``fit`` called from Python looks at all frames before anything is written, as the command line does."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from stand_in import Points, StandIn, optimization

from renderpretrain.data import Miscalibrated, MixedScenes, SceneFolder, SyntheticStreet, write_scene_folder
from renderpretrain.recipes import RECIPES
from renderpretrain.training import RunOptions, fit, read_rows

SIZE = (32, 64)


def tiny(name):
    return RECIPES[name].build(RECIPES[name].presets["tiny"])


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Six moments of a street, the third and the last of which are spoilt."""
    path = tmp_path_factory.mktemp("street") / "street"
    scenes = SyntheticStreet(6, image_size=SIZE, points_per_beam=20, frames_per_street=6, with_truth=False)
    write_scene_folder(path, [scenes[i] for i in range(6)], one_recording=True)
    index = json.loads((path / "frames.json").read_text())
    for position in (2, 5):
        (path / index["frames"][position]["lidar"]["file"]).write_bytes(b"")
    return path


@pytest.fixture
def street(spoilt, tmp_path):
    return Path(shutil.copytree(spoilt, tmp_path / "street"))


def run(out, dataset, *, recipe=None, steps=2, **options):
    given = RunOptions(**{"device": "cpu", "workers": 0, **options})
    return fit(recipe or StandIn(), dataset, optimization(steps=steps, batch_size=2), out=out, options=given)


WITHIN = {
    "folder": lambda folder: folder,
    "mixture": lambda folder: MixedScenes([Points(), folder]),
    "wrong": lambda folder: Miscalibrated(folder),
}


@pytest.mark.parametrize("within", WITHIN)
def test_bad_frames_are_listed_together_before_anything_is_written(street, tmp_path, capsys, within):
    dataset = WITHIN[within](SceneFolder(street, image_size=SIZE))
    with pytest.raises(ValueError, match=r"2 of 6 frames of .*street are bad.*RunOptions\(skip_bad=True\)"):
        run(tmp_path / "run", dataset)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "frame 2 (" in told[0] and "frame 5 (" in told[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("within", ["folder", "mixture"])
def test_bad_frames_are_left_out_and_recorded_and_a_resumed_run_does_the_same(
    street, tmp_path, capsys, within
):
    dataset, out = WITHIN[within](SceneFolder(street, image_size=SIZE)), tmp_path / "run"
    result = run(out, dataset, skip_bad=True)
    assert result.step == 2 and "left out: 2 of 6 frames of" in capsys.readouterr().out
    saved = yaml.safe_load((out / "config.yaml").read_text())
    rig = SyntheticStreet(1).camera_names
    assert saved["cameras"] == {name: place for place, name in enumerate(rig)}
    assert saved["skipped"] == {f"folder:{street}?fit=pad": [2, 5]}
    everything = 4 + 7 * (within == "mixture")
    resumed = run(out, dataset, resume=True, steps=everything)  # all scenes, each once
    assert [row["step"] for row in read_rows(resumed.folder.metrics) if "loss" in row][-1] == everything
    turned = SceneFolder(street, image_size=SIZE, cameras=rig[::-1])
    with pytest.raises(ValueError, match=f"cameras: expected {rig[5]} at place 5, as in the resumed run"):
        run(out, WITHIN[within](turned), resume=True, steps=everything + 1)
    # What has become bad since then would change the order of all scenes: that is refused.
    index = json.loads((street / "frames.json").read_text())
    (street / index["frames"][0]["lidar"]["file"]).write_bytes(b"")
    with pytest.raises(ValueError, match="frame 0 "):
        run(out, dataset, resume=True, skip_bad=True, steps=everything + 1)


def test_who_opts_out_is_not_asked(street, tmp_path):
    with pytest.raises(ValueError, match="expected a finite point"):
        run(tmp_path / "run", SceneFolder(street, image_size=SIZE), check_data=False, steps=6)


def test_a_camera_recipe_without_cameras_is_refused_before_the_run_folder(street, tmp_path):
    index = json.loads((street / "frames.json").read_text())
    index["frames"] = [frame | {"cameras": {}} for frame in index["frames"][:2]]
    (street / "frames.json").write_text(json.dumps(index))
    for dataset in (SceneFolder(street), Points()):
        with pytest.raises(ValueError, match="has no images: UniPAD needs them; what learns"):
            run(tmp_path / "run", dataset, recipe=tiny("unipad-camera"))
    with pytest.raises(ValueError, match="has no images: NSMAE needs them; set modality=lidar"):
        run(tmp_path / "run", SceneFolder(street), recipe=tiny("ns-mae"))
    assert not (tmp_path / "run").exists()


def test_ranges_without_a_point_and_a_used_folder_are_refused_before_anything_is_written(tmp_path):
    config = RECIPES["unipad-lidar"].presets["tiny"]
    far = config.model_copy(update={"point_cloud_range": (100, 100, 100, 125.6, 125.6, 108.8)})
    with pytest.raises(ValueError, match=r"point_cloud_range: none of .* points lies in"):
        run(tmp_path / "run", Points(), recipe=RECIPES["unipad-lidar"].build(far))
    assert not (tmp_path / "run").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    with pytest.raises(ValueError, match="out: expected an empty or new folder"):
        run(tmp_path / "used", Points())
