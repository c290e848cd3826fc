"""An MP4 is whole or not there: a stand-in for ffmpeg notes what it was given."""

import stat
import sys

import pytest
import torch

from renderpretrain.viz.animation import save_animation

FFMPEG = f"""#!{sys.executable}
import sys
with open(sys.argv[-1], "wb") as file:
    file.write(sys.stdin.buffer.read())
if "{{}}":
    print("{{}}", file=sys.stderr)
    sys.exit(1)
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """Puts a program of that name on the path, which fails with a message if one is given."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(message=""):
        program = folder / "ffmpeg"
        program.write_text(FFMPEG.format(message, message))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.mark.untyped
@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")
def test_a_movie_replaces_the_old_one_only_when_it_is_whole(ffmpeg, tmp_path):
    path, frames = tmp_path / "films" / "street.mp4", [[("picture", torch.rand(3, 20, 30))]] * 2
    ffmpeg()
    assert save_animation(path, frames) == path
    whole = path.read_bytes()
    assert whole and len(whole) % (2 * 3) == 0  # two frames of RGB
    ffmpeg("no space left")
    with pytest.raises(ValueError, match=r"animation: ffmpeg cannot write .*street\.mp4: no space left"):
        save_animation(path, frames[:1])
    assert path.read_bytes() == whole and list(path.parent.iterdir()) == [path]
