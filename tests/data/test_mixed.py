"""Several data sets as one: who comes when, what is held out, and the word that names a mixture."""

import dataclasses
from collections import Counter

import pytest
import torch

from renderpretrain.data import (
    MixedScenes,
    SceneFolder,
    SyntheticRoom,
    SyntheticStreet,
    collate,
    open_data,
    write_scene_folder,
)
from renderpretrain.data.camera_places import common_places
from renderpretrain.runs import describe_run
from renderpretrain.training.order import MicroBatches


def rooms(count, *, night=False):
    return SyntheticRoom(count, image_size=(8, 8), num_points=9, num_views=1, night=night, with_truth=False)


def places(mixed):
    """What every index shows."""
    return [(scene.domain, scene.name) for scene in (mixed[i] for i in range(len(mixed)))]


def test_every_scene_comes_once_and_says_where_from():
    mixed = MixedScenes([rooms(2), rooms(3, night=True)])
    assert places(mixed) == [
        (0, "room-0-0"),
        (0, "room-0-1"),
        (1, "night-0-0"),
        (1, "night-0-1"),
        (1, "night-0-2"),
    ]
    with pytest.raises(IndexError, match=r"expected an index in \[0, 5\), got 5"):
        mixed[5]


def test_the_last_scenes_of_every_set_are_held_out():
    found = places(MixedScenes([rooms(3), rooms(3, night=True)], holdout=3))
    assert found[-3:] == [(0, "room-0-1"), (1, "night-0-2"), (0, "room-0-2")]
    assert not set(found[:-3]) & set(found[-3:]) and len(found) == 6


def test_shares_are_those_of_an_epoch_without_the_held_out_scenes():
    mixed = MixedScenes([rooms(9), rooms(2, night=True), rooms(8)], holdout=3, shares=[4, 1, 2])
    found = places(mixed)
    training, held_out = found[:-3], set(found[-3:])
    assert Counter(domain for domain, _ in training) == {0: 8, 1: 2, 2: 4}
    # The first set is shown once, the second, of which one scene is left, twice.
    assert len(set(training)) == 8 + 1 + 4 and not held_out & set(training)


def test_training_draws_from_all_sets_and_mixes_them_within_a_batch():
    batches = MicroBatches(MixedScenes([rooms(3), rooms(3, night=True)], holdout=2), 4, seed=3, batch_size=2)
    epoch = [batches[k] for k in range(2)]
    assert sorted(name for batch in epoch for name in batch.names) == [
        "night-0-0",
        "night-0-1",
        "room-0-0",
        "room-0-1",
    ]
    assert any(set(batches[k].domains) == {0, 1} for k in range(6))
    for batch in epoch:
        assert batch.domains == tuple(int(name.startswith("night")) for name in batch.names)


def test_a_mixture_needs_scenes_and_fitting_shares():
    with pytest.raises(ValueError, match=r"left to train on when \[1, 1\] are held out, got \[1, 2\]"):
        MixedScenes([rooms(1), rooms(2)], holdout=2)
    for shares in ([1], [1, 0], [999_999_999, 1]):  # the last made a list of a billion scenes
        with pytest.raises(ValueError, match="shares: expected 2 numbers of at least 1"):
            MixedScenes([rooms(1), rooms(2)], shares=shares)
    with pytest.raises(ValueError, match="datasets: expected some"):
        MixedScenes([])


def test_a_word_mixes_data_sets(tmp_path):
    write_scene_folder(tmp_path / "a+b", [rooms(1)[0]])
    size = {"image_size": (8, 8)}
    plain = open_data(f"folder:{tmp_path}/a+b", **size)
    assert isinstance(plain, SceneFolder) and len(plain) == 1
    mixed = open_data(f"synthetic-room-night@2+folder:{tmp_path}/a+b", num_scenes=4, **size)
    assert isinstance(mixed, MixedScenes) and len(mixed) == 4 + 2
    assert [mixed[i].domain for i in range(6)] == [0, 0, 0, 0, 1, 1]
    # Five scenes in all, one of them held out: four of each kind are left to train on.
    both = open_data("synthetic-room+synthetic-room-night", num_scenes=5, holdout=1, **size)
    assert len(both) == 9 and both[8].name == "room-0-4"
    with pytest.raises(ValueError, match="got 'synthetic-rom'; did you mean synthetic-room"):
        open_data("synthetic-rom+synthetic")


def test_a_job_on_a_mixture_has_norms_for_every_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = describe_run("ponder-indoor", {"data": "synthetic-room+folder:x@3", "scenes": 2}, [], saved={})
    assert job.config.domains == 2 and job.data == f"synthetic-room+folder:{tmp_path}/x?fit=pad@3"
    assert describe_run("ponder-indoor", {}, [], saved={}).config.domains == 1
    plain = describe_run("ponder-indoor", {"data": job.data}, [{"domains": 1}], saved={})
    assert plain.config.domains == 1
    # What a room changes in a preset made for streets, it changes in a mixture.
    outdoor = describe_run("ponder-outdoor", {"data": "synthetic-room+synthetic-room-night"}, [], saved={})
    assert outdoor.config.rays.near_radius == 0


def test_cameras_of_one_name_share_a_place_whatever_their_recordings_list():
    rigs = [("front", "left", "right"), ("right", "front"), ("a", "b"), (), ("left", "a", "c")]
    found = common_places(rigs)
    assert found == [("front", "left", "right"), ("front", "", "right"), ("a", "b"), (), ("a", "left", "c")]


def test_recordings_of_one_rig_have_their_cameras_in_the_same_places(tmp_path):
    scene = SyntheticStreet(1, image_size=(8, 16), num_beams=4, points_per_beam=30, with_truth=False)[0]
    kept = [4, 0, 2]
    chosen = {"images": scene.images[kept], "cameras": scene.cameras[kept]}
    names = tuple(scene.camera_names[n] for n in kept)
    write_scene_folder(tmp_path / "a", [scene])
    write_scene_folder(tmp_path / "b", [dataclasses.replace(scene, **chosen, camera_names=names)])
    mixed = MixedScenes([SceneFolder(tmp_path / "a"), SceneFolder(tmp_path / "b")])
    views = collate([mixed[0], mixed[1]]).views
    assert views.valid.tolist() == [[True] * 6, [n in kept for n in range(5)] + [False]]
    assert torch.equal(views.images[0, kept], views.images[1, kept])
    assert torch.equal(views.cameras[0].camera_to_world[kept], views.cameras[1].camera_to_world[kept])
