"""Preparing a recording for training elsewhere, as the command line does it."""

from collections.abc import Callable
from pathlib import Path

from renderpretrain.data import Needs, SceneFolder, faults, inspect_folder, open_data
from renderpretrain.data.open import folder_arguments
from renderpretrain.data.shards.writing import MEGABYTE, SHARD_BYTES, Preparation, prepare_recording
from renderpretrain.data.words import data_words
from renderpretrain.runs import PrintLine


def prepare(  # noqa: PLR0913  one keyword per flag
    data: str,
    out: Path,
    *,
    shards: bool = False,
    shard_megabytes: int = SHARD_BYTES // MEGABYTE,
    limit: int | None = None,
    workers: int = 0,
    resume: bool = False,
    skip_bad: bool = False,
    say: PrintLine = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Write a recording as one scene folder, or as tar files; how many frames it has.

    Args:
        data: One recording, ``NAME:PATH`` with its options.
        out: A new folder, or that of an earlier preparation of the same recording.
        shards: Tar files of many frames each rather than one folder.
        shard_megabytes: Size of each, about; of a folder the part that is written at once.
        limit: Only so many of the first frames.
        workers: Processes that write.
        resume: Go on where an earlier preparation ended.
        skip_bad: Leave frames out that cannot be read, all of which are looked at first.
        say: Told of frames that are left out.
        progress: Told how many frames are written, and of how many.

    Raises:
        ValueError: For other data than a recording, or an output folder that holds something else.
        SceneFolderError: If a frame cannot be read and is not to be left out.
    """
    words = data_words(data)
    if len(words) != 1 or not words[0].is_recording:
        raise ValueError(f"data: expected one recording NAME:PATH, got {data!r}")
    (word,) = words
    skip: dict[str, list[int]] = {}
    if skip_bad:
        told = folder_arguments(word)
        reader, outside = told["reader"], told.get("outside", False)
        facts = inspect_folder(word.path, outside=outside, reader=reader, say=say)
        bad = faults(Path(word.path) / reader.table, facts, Needs())
        for line in (line for of_frame in bad.values() for line in of_frame):
            say(f"left out: {line}")
        skip[str(word.alone)] = list(bad)
    folder = open_data(str(word.alone), skip=skip)
    assert isinstance(folder, SceneFolder)
    preparation = Preparation(
        out, str(word.absolute().alone), shards, shard_megabytes * MEGABYTE, limit, workers, resume
    )
    return prepare_recording(folder, preparation, progress)
