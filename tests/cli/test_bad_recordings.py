"""Damaged recordings of other formats on the command line: one line and 1, or what is left and a count."""

import json
import os

import pytest

from renderpretrain.cli import main
from renderpretrain.data.folder.consistency import Finding
from tests.data.readers.recordings import write_older, write_pandaset, write_views

FEW = ["--steps", "1", "--device", "cpu", "--set", "image_size=[32,64]", "--set", "rays.per_view=8"]


def run(*arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code or 0


def content_of(folder):
    """All files of a folder, with what they hold."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def set_(tmp_path):
    """Two frames of PandaSet, the second of which is cut, in a folder whose name looks like markup."""
    path = tmp_path / "a [b] [" / "set"
    path.mkdir(parents=True)
    write_pandaset(path)
    cut = path / "002/lidar/01.pkl.gz"
    cut.write_bytes(cut.read_bytes()[:-40])
    return path


def test_a_damaged_frame_is_told_by_every_verb(set_, tmp_path, capsys):
    word, before = f"pandaset:{set_}", content_of(set_)
    line = "01.pkl.gz: frame 1 (002/01): lidar.file: expected"
    assert run("data", "check", word) == 1
    said = capsys.readouterr()
    assert sum(line in text for text in said.out.splitlines()) == 1 and not said.err
    assert run("data", "prepare", word, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and line in said and "Traceback" not in said
    assert run("pretrain", "unipad-lidar", "--data", word, "--out", tmp_path / "run", *FEW) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and line in said
    assert content_of(set_) == before and sorted(os.listdir(tmp_path)) == ["a [b] [", "out"]


def test_what_is_left_is_prepared_and_learned_from(set_, tmp_path, capsys, monkeypatch):
    doubts = [Finding("poses: in doubt"), Finding("cameras: not tested", is_problem=False)]
    monkeypatch.setattr("renderpretrain.training.doubts.geometry_findings", lambda *_, **__: doubts)
    word = f"pandaset:{set_}"
    assert run("data", "prepare", word, tmp_path / "out", "--skip-bad") == 0
    said = capsys.readouterr()
    told = [text for text in said.err.splitlines() if "left out" in text]
    assert len(told) == 1 and told[0].startswith(f"left out: {set_}/002/lidar/01.pkl.gz: frame 1 (002/01): ")
    assert "out: 1 frames; read them with --data folder:" in said.out
    assert len(json.loads((tmp_path / "out" / "frames.json").read_text())["frames"]) == 1
    assert run("pretrain", "unipad-lidar", "--data", word, "--skip-bad", "--out", tmp_path / "run", *FEW) == 0
    said = capsys.readouterr()
    assert "01.pkl.gz" in said.out + said.err and "1 of 2" in said.out + said.err
    assert "[0/1] warning: poses: in doubt\n" in said.out and "not tested" not in said.out
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["doubts"][0] == "poses: in doubt"


def test_a_preparation_that_fails_leaves_what_there_is(set_, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    word = f"pandaset:{set_}"
    for options in ((), ("--resume",), ("--skip-bad",), ("--shards", "--resume")):
        assert run("data", "prepare", word, tmp_path / "mine", *options) == 1
        assert "out: expected" in capsys.readouterr().err
    assert content_of(tmp_path / "mine") == {tmp_path / "mine" / "notes.txt": b"kept"}
    (tmp_path / "mine" / "preparing.json").write_text("{")
    assert run("data", "prepare", word, tmp_path / "mine", "--resume") == 1
    assert "out: expected the preparation of" in capsys.readouterr().err


def test_a_record_that_leads_out_of_a_preparation_touches_nothing(tmp_path, capsys):
    """A shard's record that names another folder, as a stranger's preparation may."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "frames.json").write_text(json.dumps(write_older(tmp_path / "set")))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    out, word = tmp_path / "out", f"folder:{tmp_path / 'set'}"
    assert run("data", "prepare", word, out) == 0
    (out / "frames.json").unlink()
    record = json.loads((out / "000000.json").read_text())
    for name in ("../outside", str(outside), "000000/../../outside"):
        (out / "000000.json").write_text(json.dumps(record | {"file": name, "frames": [{}]}))
        assert run("data", "prepare", word, out, "--resume") == 0
        assert len(json.loads((out / "frames.json").read_text())["frames"]) == 2
    assert content_of(outside) == {outside / "kept": b"kept"}
    capsys.readouterr()


def test_a_folder_of_nothing_but_damage_is_one_line(tmp_path, capsys):
    path = tmp_path / "views"
    path.mkdir()
    write_views(path)
    for file in path.rglob("*.png"):
        file.write_bytes(b"")
    for job in (
        ("data", "inspect", f"sunrgbd:{path}"),
        ("data", "prepare", f"sunrgbd:{path}", tmp_path / "out", "--skip-bad"),
        (
            "pretrain",
            "unipad-camera",
            "--data",
            f"sunrgbd:{path}",
            "--skip-bad",
            "--out",
            tmp_path / "run",
            *FEW,
        ),
    ):
        assert run(*job) == 1, job
        said = capsys.readouterr().err
        assert said.count("error: ") == 1 and "Traceback" not in said and "expected" in said
    assert not (tmp_path / "run").exists()
