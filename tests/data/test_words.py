"""Words that name data sets: paths with the characters that join, share and ask."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_folders import save, write_street

from renderpretrain.data import open_data
from renderpretrain.data.words import DataWord, data_words, folder_options, joined

LOG = "n000-2030-01-02-03-04-05+0800"


def read(spec):
    return [(word.path or word.kind, word.options, word.share) for word in data_words(spec)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("synthetic", [("synthetic", "", None)]),
        ("synthetic@2+folder:a?x=1@3", [("synthetic", "", 2), ("a", "x=1", 3)]),
        (f"folder:/gone/{LOG}", [(f"/gone/{LOG}", "", None)]),
        ("folder:/gone/drive@10+folder:b", [("/gone/drive", "", 10), ("b", "", None)]),
        ("folder:/gone/drive%4010@3+folder:b", [("/gone/drive@10", "", 3), ("b", "", None)]),
        ("folder:/gone/a%2bsynthetic%3Fx=1%2525?y=2", [("/gone/a+synthetic?x=1%25", "y=2", None)]),
        ("synthetic-rom+synthetic", [("synthetic-rom", "", None), ("synthetic", "", None)]),
        ("folder", [("folder", "", None)]),
    ],
)
def test_without_folders_the_characters_mean_what_is_documented(spec, expected):
    assert read(spec) == expected


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        (LOG, ""),
        ("drive@10", ""),
        ("drive@10", "@4"),
        ("why?=1", ""),
        ("why?=1", "?max_points=5"),
        ("why?=1", "?max_points=5@2"),
        ("a+folder:b", ""),
        ("a+synthetic@3", "@5"),
        ("a%40b", ""),
        ("all+synthetic?x=1@3%2B", "?max_points=7@2"),
    ],
)
def test_a_folder_that_exists_wins(tmp_path, name, behind):
    (tmp_path / name).mkdir()
    ((found, options, share),) = read(f"folder:{tmp_path}/{name}{behind}")
    assert found == f"{tmp_path}/{name}"
    assert (options, share) == read(f"folder:x{behind}")[0][1:]
    # So does the text that a run keeps, wherever and whenever it is read.
    (word,) = data_words(f"folder:{tmp_path}/{name}{behind}")
    (tmp_path / name).rmdir()
    assert data_words(str(word)) == (word,)


def test_a_folder_that_exists_does_not_swallow_the_next(tmp_path):
    for name in (LOG, "b"):
        (tmp_path / name).mkdir()
    both = f"folder:{tmp_path}/{LOG}?max_points=5@2+folder:{tmp_path}/b"
    assert read(both) == [(f"{tmp_path}/{LOG}", "max_points=5", 2), (f"{tmp_path}/b", "", None)]
    assert joined(data_words(both)) == both


PARTS = st.sampled_from(
    ["+", "@", "?", "%", "=", "&", "2B", "40", "7", "a", "synthetic", "folder:", "/", "~x"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=8).map("".join), st.sampled_from([None, 1, 12]))
def test_any_path_comes_back_from_its_word(path, share):
    """None of these folders exists. A tilde is somebody's home only at the start."""
    word = DataWord("folder", f"/no-such-place/{path}", "max_points=5", share)
    assert data_words(f"{word}+synthetic") == (word, DataWord("synthetic"))


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS | st.characters(), max_size=8).map("".join))
def test_any_text_is_read_or_refused_in_one_line(text):
    for word in data_words(text):
        assert isinstance(word.kind, str)
    try:
        folder_options(text)
    except ValueError as error:
        assert "expected name=value" in str(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sensor_origin=nan,0,0", "sensor_origin: expected x,y,z in metres, got 'nan,0,0'"),
        ("sensor_origin=1e999,0,0", "sensor_origin: expected x,y,z in metres"),
        ("sensor_origin=1,2", "sensor_origin: expected x,y,z in metres, got '1,2'"),
        ("sensor_origin=", "sensor_origin: expected x,y,z in metres, got ''"),
        ("max_points=-5", "max_points: expected a whole number of at least 1, got '-5'"),
        ("max_points=0", "max_points: expected a whole number of at least 1"),
        ("max_points=" + "9" * 5000, "max_points: expected a whole number of at least 1"),
        ("views_per_scene=2.5", "views_per_scene: expected a whole number of at least 1"),
        ("held_out_every=1", "held_out_every: expected a whole number of at least 2"),
        ("sweeps=5", "sweeps: expected --set sweeps=5, or open_data"),
        ("colour=red", "expected the options sensor_origin, .*, got 'colour'"),
        ("max_points=5&max_points=6", "options: expected name=value&name=value, each once"),
        ("max_points", "options: expected name=value"),
    ],
)
def test_nonsense_behind_a_path_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^data: {message}") as caught:
        open_data(f"folder:{tmp_path}?{options}")
    assert "\n" not in str(caught.value)


def test_a_comma_within_a_cameras_name_is_written_so(tmp_path):
    content = write_street(tmp_path)
    for frame in content["frames"]:
        frame["cameras"] = {name: frame["cameras"]["front"] for name in ("a,b", "c d", "e&=%2C", "f")}
    save(tmp_path, content)
    folder = open_data(f"folder:{tmp_path}?cameras=f,a%2Cb,e%26%3D%252C,c%20d")
    assert folder.camera_names == ("f", "a,b", "e&=%2C", "c d")
    with pytest.raises(ValueError, match="cameras: expected different ones of a,b, c d"):
        open_data(f"folder:{tmp_path}?cameras=a,b")
