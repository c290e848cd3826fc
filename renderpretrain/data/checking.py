"""Everything that is wrong with what a word names, recording by recording."""

import os
from collections.abc import Iterator
from pathlib import Path

from renderpretrain.data.folder.validation import Checked, check_scene_folder
from renderpretrain.data.open import KINDS, folder_arguments, open_data
from renderpretrain.data.shards.reading import shard_problems
from renderpretrain.data.words import SHARDS, DataWord, data_words


def recordings_of(spec: str) -> tuple[DataWord, ...]:
    """The data sets that a text names; a folder without the name of a format is one with ``frames.json``.

    ``synthetic`` names what is made, even beside a folder that is called so.

    Raises:
        ValueError: For an unknown word.
    """
    if spec not in KINDS and Path(spec).expanduser().is_dir():
        return (DataWord("folder", spec),)
    words = data_words(spec)
    for word in words:
        if word.kind != SHARDS and not word.is_recording:
            open_data(str(word.alone), num_scenes=1)
    return words


def check_data(spec: str, *, workers: int | None = None) -> Iterator[tuple[str, Checked]]:
    """Each data set that a text names, and what a look at all of it found: every frame is opened once.

    Of shards every byte is read. Synthetic scenes are made when they are asked for, and have no problems.

    Args:
        spec: As for :func:`~renderpretrain.data.open_data`, or the path of a folder with ``frames.json``.
        workers: How many frames are read at the same time; by default as many as there are processors.

    Raises:
        ValueError: For an unknown word.
    """
    for word in dict.fromkeys(word.alone for word in recordings_of(spec)):
        found = Checked([], [])
        if word.kind == SHARDS:
            found = Checked(list(shard_problems(os.path.expanduser(word.path))), [])
        if word.is_recording:
            told = folder_arguments(word)
            found = check_scene_folder(
                Path(word.path).expanduser(),
                outside=told.get("outside", False),
                reader=told["reader"],
                workers=workers,
            )
        yield str(word), found
