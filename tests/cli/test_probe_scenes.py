"""Which scenes a probe trains on, validates on and tests on: no scene in two parts, no neighbours apart."""

from dataclasses import replace

import pytest
import torch

from renderpretrain.cli.probe_scenes import SceneRequest, open_probe, parts_of, unscored_classes
from renderpretrain.data import SyntheticStreet, write_scene_folder
from renderpretrain.probes import ProbeScenes
from renderpretrain.runs import describe_run

SMALL = [{"image_size": [32, 64], "point_cloud_range": [-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]}]


@pytest.mark.parametrize(("count", "held_out"), [(28, 9), (40, 13), (200, 61), (7, 3), (4, 1)])
def test_parts_of_a_recording_have_gaps_between_them(count, held_out):
    parts = parts_of(count, held_out)
    gap = max(1, round(0.05 * count))
    assert parts.train.start == 0 and parts.validation.start == count - held_out  # what the run has not seen
    assert parts.validation.start - parts.train.stop >= gap
    if held_out >= 2 + gap:
        assert parts.test.start - parts.validation.stop >= gap and parts.test.stop == count
        assert len(parts.test) == len(parts.validation) > 0
    else:
        assert len(parts.test) == 0 and len(parts.validation) == held_out
    few = parts_of(count, held_out, train=1, scored=1)
    assert (len(few.train), len(few.validation)) == (1, 1)


def test_too_many_frames_are_told():
    with pytest.raises(ValueError, match="test_scenes: expected at most 4 frames of the 9 last ones"):
        parts_of(28, 9, scored=5)
    with pytest.raises(ValueError, match=r"scenes: expected .* at most the 18 first of 28.*got 19"):
        parts_of(28, 9, train=19)
    with pytest.raises(ValueError, match="at most the 0 first of 4"):
        parts_of(4, 3)


@pytest.mark.parametrize("recipe", ["unipad-lidar", "uniscene"])
def test_no_synthetic_scene_is_in_two_sets(recipe):
    small = {"image_size": [32, 64]} if recipe == "uniscene" else SMALL[0]
    job = describe_run(recipe, {"scenes": 4, "holdout": 4}, [small], saved={})
    task = "semseg" if recipe == "unipad-lidar" else "depth"
    validated = open_probe(job, SceneRequest(task, "synthetic", 4, 2, "validation"))[1]
    tested = open_probe(job, SceneRequest(task, "synthetic", 4, 2, "test"))[1]
    assert not validated.test and tested.scored is tested.test
    assert [s.name for s in validated.scored] == [s.name for s in tested.validation]
    seen = [s.name for part in (tested.train, tested.validation, tested.test) for s in part]
    seen += [job.open()[i].name for i in (0, 7)]
    assert len(set(seen)) == len(seen) == 10
    worlds = {
        float(s.points[:, :3].double().sum())
        for part in (tested.train, tested.validation, tested.test)
        for s in part
    }
    assert len(worlds) == 8


def test_classes_that_no_scored_scene_has_are_told():
    street = SyntheticStreet(1, image_size=(32, 64))[0]
    there = sorted({street.class_names[k] for k in street.point_labels.unique().tolist() if k > 0} - {"road"})
    road = street.class_names.index("road")
    only_road = street.point_labels.where(street.point_labels == road, torch.zeros_like(street.point_labels))
    bare = replace(street, name="bare", point_labels=only_road)
    again = replace(street, name="again")
    assert len(there) > 2 and bool(only_road.any())
    (line,) = unscored_classes("semseg", ProbeScenes([street], [bare]))
    said = line.removeprefix("no scored scene has ").partition(": what training scenes say")[0]
    assert sorted(said.split(", ")) == there
    assert unscored_classes("semseg", ProbeScenes([bare], [street])) == []
    assert unscored_classes("semseg", ProbeScenes([street], [bare], [again])) == []  # scored are test scenes
    assert unscored_classes("depth", ProbeScenes([street], [bare])) == []


def test_a_recording_is_cut_in_time(tmp_path):
    street = SyntheticStreet(14, frames_per_street=14, image_size=(32, 64), points_per_beam=40)
    write_scene_folder(tmp_path / "data", street, one_recording=True)
    data = f"folder:{tmp_path / 'data'}"
    job = describe_run("unipad-lidar", {"data": data, "holdout": 5}, SMALL, saved={})
    job = describe_run("unipad-lidar", {"data": job.as_seen(data), "holdout": 5}, SMALL, saved={})
    scenes = open_probe(job, SceneRequest("occupancy", job.as_seen(data), None, None, "test"))[1]
    times = [
        [round(2 * s.timestamp) for s in part] for part in (scenes.train, scenes.validation, scenes.test)
    ]
    assert times == [list(range(8)), [9, 10], [12, 13]]
    assert [s.timestamp for s in scenes.scored] == [6.0, 6.5]
    # Of a recording that the run has not seen, as many frames are held out as are scored, twice.
    other = describe_run("unipad-lidar", {"scenes": 4, "holdout": 5}, SMALL, saved={})
    free = open_probe(other, SceneRequest("occupancy", job.as_seen(data), None, None, "validation"))[1]
    assert (len(free.train), len(free.validation), len(free.test)) == (6, 3, 0)


def test_frames_without_point_labels_are_left_out_and_told(tmp_path, capsys):
    """Every other frame has labels; then none has, which is one line."""
    street = SyntheticStreet(
        9, frames_per_street=9, image_size=(32, 64), points_per_beam=30, with_truth=False
    )
    frames = [street[k] for k in range(9)]
    some = [replace(s, point_labels=s.point_labels if k % 2 == 0 else None) for k, s in enumerate(frames)]
    for name, scenes in (("some", some), ("none", [replace(s, point_labels=None) for s in frames])):
        write_scene_folder(tmp_path / name, scenes, one_recording=True)
    job = describe_run("unipad-lidar", {"scenes": 4, "holdout": 3}, SMALL, saved={})

    def opened(name):
        request = SceneRequest("semseg", job.as_seen(f"folder:{tmp_path / name}"), 3, 2, "validation")
        return open_probe(job, request)[1]

    scenes = opened("some")
    line = "labels     left out, for they have none of semseg: 1 of 3 train, 1 of 2 validation scenes"
    assert line in capsys.readouterr().out
    assert [round(2 * s.timestamp) for s in scenes.train] == [0, 2]
    assert [round(2 * s.timestamp) for s in scenes.validation] == [4]
    with pytest.raises(
        ValueError, match=r"train: semseg needs labels, which none of the 3 scenes from .* has$"
    ):
        opened("none")


def test_a_scene_in_two_parts_is_refused():
    street = SyntheticStreet(2, image_size=(32, 64), points_per_beam=20, with_truth=False)
    with pytest.raises(ValueError, match="expected every scene in one part, got 'street-0-1' in two"):
        ProbeScenes([street[0], street[1]], [street[1]])
