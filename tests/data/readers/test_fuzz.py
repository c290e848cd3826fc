"""Recordings of every format, damaged at random: they read, or are refused in one line.

Never another exception, a warning, a read outside of the folder, or a write anywhere; and what is left when
bad frames are skipped can be read.
"""

import logging
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from renderpretrain.data import Needs, SceneFolderError, faults, inspect_folder, open_data
from renderpretrain.data.checking import check_data
from renderpretrain.data.open import folder_arguments
from renderpretrain.data.words import data_words
from tests.data.readers.damages import OUTSIDE, damage, sealed
from tests.data.readers.recordings import NEED_ARROW, RECORDINGS
from tests.data.test_folder_fuzz import check_sensible

SECONDS = 10
"""Of computing for one damaged recording, which takes a few dozen milliseconds; a bomb takes more."""

MEMORY = 3 * 2**30
"""Bytes that a process may ask for beyond what it has: the bounds of all files are below, a bomb is not."""

MOST_REMARKS = 40
"""Lines that are logged about one small recording."""

SWEEPS = re.compile(r"sweeps\.\d+|because sweeps")
"""What is said only where sweeps are merged: of older ones the sizes alone are looked at before."""

OPENED: list[str] = []
"""What was opened or listed since the list was emptied."""

WATCHING = [False]


def watch(event, arguments):
    """Notes what is opened or listed."""
    if (
        WATCHING[0]
        and event in ("open", "os.listdir", "os.scandir")
        and isinstance(arguments[0], str | bytes)
    ):
        OPENED.append(os.fsdecode(arguments[0]))


@pytest.fixture(scope="module")
def watched():
    """Has all that is opened noted."""
    sys.addaudithook(watch)
    WATCHING[0] = True
    yield
    WATCHING[0] = False


@contextmanager
def bounded():
    """Warnings are errors, memory is bounded, and what is logged is one printable line each."""
    lines, logger = [], logging.getLogger("renderpretrain")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        logger.removeHandler(handler)
    assert time.process_time() - started < SECONDS
    assert len(lines) < MOST_REMARKS and all(map(is_line, lines)), lines


def is_line(text):
    """Whether a text is one printable line that no allocation that failed tells of."""
    return "\n" not in text and text.isprintable() and "alloc" not in text and len(text) < 5000


def refused(error, path):
    """A fault is one line that names a file."""
    assert is_line(str(error)) and str(path) in str(error), str(error)
    assert "expected" in str(error), str(error)
    return str(error)


def read_all(word, path, skip=()):
    """Reads all scenes of a recording; the line with which it is refused, or ``None``."""
    try:
        scenes = open_data(word, sweeps=3, image_size=(6, 8), skip={word: skip})
        for number in range(len(scenes)):
            check_sensible(scenes[number])
    except SceneFolderError as error:
        return refused(error, path)
    return None


def read_others(word, path):
    """Reads what is left without the bad frames; the line with which all is refused, or ``None``."""
    (named,) = data_words(word)
    told = folder_arguments(named)
    try:
        facts = inspect_folder(path, reader=told["reader"], sweeps=3)
    except SceneFolderError as error:
        return refused(error, path)
    bad = faults(path / told["reader"].table, facts, Needs(sweeps=True))
    lines = [line for of_frame in bad.values() for line in of_frame]
    assert all(map(is_line, lines)), lines
    if len(bad) == len(facts):
        return lines[0] if lines else "no frames"
    left = read_all(word, path, skip=list(bad))
    assert left is None or SWEEPS.search(left), f"left after {sorted(bad)} were skipped: {left}"
    return lines[0] if lines else None


def content_of(folder):
    """The names of all that lies in a folder, and what it is."""
    return {
        os.fsencode(path): path.lstat()[:1] + path.lstat()[6:7] + (path.lstat().st_mtime_ns,)
        for path in sorted(folder.rglob("*"))
    }


def fuzz(whole, name, draw, *, thorough):
    """One damaged copy of a recording, read in every way."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(os.path.realpath(place)) / "set"
        shutil.copytree(whole, path)
        (path.parent / OUTSIDE).mkdir()
        (path.parent / OUTSIDE / "secret").write_text("1 2 3")
        for _ in range(draw(st.integers(1, 2))):
            note(damage(path, draw))
        if name == "shards" and draw(st.booleans()):
            with_new_digests(path)
        before = content_of(path.parent)
        word = RECORDINGS[name][1].format(path)
        OPENED.clear()
        with bounded():
            line = read_all(word, path)
            if name != "shards":
                others = read_others(word, path)
                assert line is None or others is not None or SWEEPS.search(line), line
            if thorough:
                problems = [text for _, found in check_data(word, workers=1) for text in found.problems]
                assert all(map(is_line, problems)), problems
                assert line is None or problems or SWEEPS.search(line), line
        opened = {os.path.realpath(file) for file in OPENED}
        strange = [file for file in opened if file.startswith(place) and not is_within(file, path)]
        assert not strange and "/etc/passwd" not in opened, strange
        assert content_of(path.parent) == before


def is_within(file, path):
    """Whether a file is the folder or lies in it."""
    return file == str(path) or file.startswith(f"{path}/")


def with_new_digests(path):
    """Tells the digests of damaged shards anew, where they still can be told."""
    try:
        sealed(path)
    except (OSError, MemoryError, ValueError, KeyError, TypeError, AttributeError):
        return


QUICK = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=1500, derandomize=False)


@pytest.fixture
def whole(request, tmp_path):
    """The recording of the test's format."""
    name = request.getfixturevalue("name")
    if name in NEED_ARROW:
        pytest.importorskip("pyarrow", reason="the extra av2 is not installed")
    folder = tmp_path / "whole"
    folder.mkdir()
    RECORDINGS[name][0](folder)
    return folder


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", RECORDINGS)
def test_damaged_recordings_are_one_line_or_read(whole, name):
    word = RECORDINGS[name][1].format(whole)
    assert read_all(word, whole) is None

    @QUICK
    @given(st.data())
    def damaged(data):
        fuzz(whole, name, data.draw, thorough=False)

    damaged()


@pytest.mark.long
@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("name", RECORDINGS)
def test_many_damaged_recordings_are_one_line_or_read(whole, name):
    @LONG
    @given(st.data())
    def damaged(data):
        fuzz(whole, name, data.draw, thorough=True)

    damaged()
