"""The word of a data set opens the same data set again."""

import pytest

from renderpretrain.data import (
    Miscalibrated,
    MixedScenes,
    SceneFolder,
    SyntheticRoom,
    SyntheticStreet,
    write_scene_folder,
)
from renderpretrain.data.open import open_data
from renderpretrain.data.opened import word_of

SIZE = (32, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a+folder:b@2"  # what a word would otherwise end at
    scenes = SyntheticStreet(3, image_size=SIZE, points_per_beam=20, with_truth=False)
    write_scene_folder(path, [scenes[i] for i in range(3)])
    return path


OPTIONS = [
    {},
    {"sensor_origin": (0.0, 0.5, 1.8), "max_points": 50, "max_gap": 3.5},
    {"cameras": ("front", "back"), "outside": True},
    {"fit": "crop"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options))
def test_a_folder_is_opened_with_its_options(folder, options):
    first = SceneFolder(folder, image_size=SIZE, **options)
    again = open_data(word_of(first), image_size=SIZE)
    assert again.path == first.path and again.arguments == first.arguments


@pytest.mark.parametrize("shares", [None, (3, 1)])
def test_folders_that_are_mixed_are_mixed_again(folder, shares):
    both = MixedScenes([SceneFolder(folder, image_size=SIZE) for _ in range(2)], shares=shares)
    again = open_data(word_of(both), image_size=SIZE)
    assert len(again) == len(both) and tuple(again.shares or ()) == tuple(shares or ())


@pytest.mark.parametrize("kind", ["synthetic", "synthetic-room", "synthetic-room-night"])
def test_synthetic_scenes_have_their_word(kind):
    dataset = open_data(kind, image_size=SIZE, num_scenes=3)
    assert word_of(dataset) == kind
    assert open_data(word_of(dataset), image_size=SIZE, num_scenes=3) == dataset


def test_what_no_word_opens_has_none(folder):
    street = SyntheticStreet(2, image_size=SIZE)
    others = (
        SyntheticStreet(2, seed=3, image_size=SIZE),
        SyntheticStreet(2, image_size=SIZE, frames_per_street=2),
        SyntheticRoom(2, num_views=2),
        Miscalibrated(street),
        MixedScenes([street, SceneFolder(folder, image_size=SIZE)]),
        [street[0]],
    )
    assert [word_of(dataset) for dataset in others] == [None] * len(others)
    assert word_of(others[1], frames_per_street=2) == "synthetic"
