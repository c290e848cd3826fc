"""The proof on recordings: streets scored one by one, by what the others teach."""

import json
from argparse import Namespace
from itertools import product
from types import SimpleNamespace

import pytest
import torch

from renderpretrain.probes.detection import box_labels, counted_boxes
from renderpretrain.runs.describing import describe_run

BOX = [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]


@pytest.fixture
def recordings(benchmark_module):
    return benchmark_module("recordings")


@pytest.fixture(scope="module")
def job():
    return describe_run("unipad-lidar", {"data": "synthetic"}, [{"point_cloud_range": BOX}], saved={})


@pytest.fixture(scope="module")
def streets(job):
    """Three synthetic streets; each has boxes near the car."""
    scenes = job.prepare(job.open_raw("synthetic", count=3))
    return [scenes[i] for i in range(3)]


def test_every_street_is_scored_once_by_heads_of_the_others(recordings, streets):
    folds = recordings.folds(streets)
    assert [fold.test[0].name for fold in folds] == [scene.name for scene in streets]
    for fold in folds:
        parts = [*fold.train, *fold.validation, *fold.test]
        assert sorted(scene.name for scene in parts) == sorted(scene.name for scene in streets)
        assert len(fold.train) == len(fold.validation) == len(fold.test) == 1


@pytest.mark.parametrize("mode", ["linear", "finetune"])
def test_streets_are_scored_together(recordings, job, streets, mode, tmp_path, monkeypatch):
    """The score is that of all boxes of all streets; the same weights in both arms gain nothing."""
    weights = job.build(0).state_dict()
    run = SimpleNamespace(description=job, weights=weights, step=7)
    monkeypatch.setattr(recordings, "read_run", lambda path: SimpleNamespace(checked=lambda: run))
    monkeypatch.setattr(recordings, "labelled_streets", lambda job, realdata, grid: streets)
    monkeypatch.setattr(recordings, "SEEDS", (0,))
    asked = Namespace(realdata=tmp_path, out=tmp_path, most=1, fit=2)
    told = recordings.boxes(tmp_path / "run", mode, asked)
    assert told["step"] == 7 and told["streets"] == [scene.name for scene in streets]
    assert told["pretrained"] == told["scratch"]  # seed 0 drew both
    assert told["over scratch"]["gain"]["mean"] == 0
    assert told["over scratch"]["scenes"] == 3 and told["over scratch"]["seeds"] == 1
    if mode == "finetune":
        assert len(list((tmp_path / "fine-tuning").iterdir())) == 3  # a fold each


def test_runs_and_classes_that_are_there_are_not_made_again(recordings, tmp_path, monkeypatch):
    """Another command is another question; what one kind of probe found of boxes stays beside the other's."""
    called = []

    def call(name, parts, threads):
        called.append((name, *parts[:1]))
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "checkpoints" / "final.pt").touch()
        if parts[0] == "eval":
            key = f"semseg/{parts[parts.index('--probe') + 1]}/test"
            old = json.loads((run / "probe.json").read_text()) if (run / "probe.json").is_file() else {}
            (run / "probe.json").write_text(json.dumps(old | {key: {"step": 300}}))

    def main(*flags):
        called.clear()
        place = ["--realdata", str(tmp_path), "--out", str(tmp_path), "--only", "unipad-lidar"]
        monkeypatch.setattr("sys.argv", ["recordings.py", *place, *flags])
        recordings.main()
        return called[:]

    monkeypatch.setattr(recordings.proof, "call", call)
    monkeypatch.setattr(recordings, "boxes", lambda run, mode, asked: {"mode": mode})
    names = ("unipad-lidar", "unipad-lidar-elsewhere")
    assert main("--modes", "linear") == [(name, verb) for name in names for verb in ("pretrain", "eval")]
    assert main() == [(name, "eval") for name in names]  # fine-tuned
    assert main() == []
    assert main("--most", "50") == [(name, "eval") for name in names]
    for name, mode in product(names, ("linear", "finetune")):
        assert json.loads((tmp_path / name / f"detection-{mode}.json").read_text()) == {"mode": mode}
    with pytest.raises(SystemExit, match="was pre-trained for 300 steps, not 7"):
        main("--steps", "7")


def test_streets_without_a_box_on_the_map_are_left_out(recordings, job, streets, tmp_path, monkeypatch):
    grid = recordings.bev_grid(job.build().grid)
    raw = {"folder:a": streets[:2], "folder:b": streets[2:]}
    monkeypatch.setattr(recordings, "LABELLED", tuple(raw))
    stand_in = SimpleNamespace(open_raw=lambda data, count: raw[data], prepare=lambda scenes: scenes)
    found = recordings.labelled_streets(stand_in, tmp_path, grid)
    assert [len(scene.points) for scene in found] == [len(scene.points) for scene in streets]
    small = grid.__class__((-0.2, -0.2, -4.0, 0.2, 0.2, 4.8), (0.1, 0.1, 8.8))
    assert not recordings.labelled_streets(stand_in, tmp_path, small)
    for scene, street in zip(found, streets, strict=True):  # of all classes, in one
        asked = counted_boxes(street, box_labels(streets), grid).rows
        assert torch.equal(counted_boxes(scene, (1,), grid).rows[:, :7], asked[:, :7]) and len(asked)
        assert scene.class_names == ("nothing", "object")
