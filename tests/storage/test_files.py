"""Where no file can be written is said before anything is computed."""

import os

import pytest

from renderpretrain.storage import check_target


def test_a_path_that_can_be_written_passes(tmp_path, monkeypatch):
    (tmp_path / "old").write_text("old")
    monkeypatch.chdir(tmp_path)
    for path in (
        tmp_path / "old",
        tmp_path / "new" / "newer" / "file",
        tmp_path.relative_to(tmp_path) / "here",
    ):
        check_target("out", path)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_path_that_cannot_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=f"^out: expected a file to write, got the folder {tmp_path}$"):
        check_target("out", tmp_path)
    (tmp_path / "old").write_text("old")
    with pytest.raises(
        ValueError, match=r"^out: expected .*/old/a/b to lie in folders, but .*/old is a file$"
    ):
        check_target("out", tmp_path / "old" / "a" / "b")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="who is root may write everywhere")
def test_a_folder_of_others_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match=r"^out: cannot write .*: no permission in "):
        check_target("out", tmp_path / "file")
