import pytest
import torch

from renderpretrain.data import SceneFolder, SyntheticRoom, SyntheticStreet, open_data, write_scene_folder
from renderpretrain.data.readers import READERS


def test_words_name_data_sets():
    street = open_data("synthetic", image_size=(24, 40), seed=3, sweeps=2, num_scenes=5)
    assert street == SyntheticStreet(5, seed=3, image_size=(24, 40), sweeps=2)
    film = open_data("synthetic", num_scenes=6, frames_per_street=3)
    assert [list(film.sequence(k)) for k in (1, 5)] == [[0, 1, 2], [3, 4, 5]]
    assert open_data("synthetic-room") == SyntheticRoom(64)


def test_a_folder_takes_options_after_its_path(tmp_path):
    write_scene_folder(tmp_path, [SyntheticStreet(1, image_size=(24, 40), points_per_beam=60)[0]])
    folder = open_data(f"folder:{tmp_path}?sensor_origin=0,0.5,1.8&max_points=100", image_size=(12, 20))
    assert isinstance(folder, SceneFolder)
    scene = folder[0]
    assert len(scene.points) == 100 and scene.images.shape == (6, 3, 12, 20)
    assert torch.equal(scene.lidar_origin, torch.tensor([0.0, 0.5, 1.8]))


def test_a_path_without_its_kind_is_told_the_word(tmp_path):
    write_scene_folder(tmp_path, [SyntheticStreet(1, image_size=(24, 40), points_per_beam=60)[0]])
    with pytest.raises(ValueError, match=f"did you mean folder:{tmp_path}"):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("sinthetic", "did you mean synthetic?"),
        ("foldr:/data", "did you mean folder:PATH?"),
        ("folder", "did you mean folder:PATH?"),
    ],
)
def test_an_unknown_word_lists_the_kinds_and_the_nearest(spec, hint):
    with pytest.raises(ValueError) as caught:
        open_data(spec)
    kinds = ", ".join(
        ["synthetic", "synthetic-room", "synthetic-room-night", *(f"{n}:PATH" for n in (*READERS, "shards"))]
    )
    assert str(caught.value) == f"data: expected one of {kinds}, got {spec!r}; {hint}"


def test_a_word_like_nothing_gets_no_hint():
    with pytest.raises(ValueError, match=r"got 'qqq'$"):
        open_data("qqq")
