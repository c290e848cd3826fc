"""What data sets describe themselves with: JSON, lines of named numbers, rows of numbers, numbered files."""

import math
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.json_files import json_of_file, text_of_file
from renderpretrain.data.folder.pictures import PICTURE_BYTES, PictureFile, opened

TABLE_BYTES = 2**31
"""Largest file of a table: the sample data of all of nuScenes has half of it."""


def text_of(access: FolderAccess, name: str) -> str:
    """A text file's content; raises :class:`~renderpretrain.data.SceneFolderError` for other bytes."""
    return text_of_file(access, name, "table", TABLE_BYTES)


def json_of(access: FolderAccess, name: str) -> Any:
    """A JSON file's content; raises :class:`~renderpretrain.data.SceneFolderError` for another text."""
    return json_of_file(access, name, "table", TABLE_BYTES)


def rows_of(access: FolderAccess, name: str, columns: int) -> np.ndarray:
    """A text file of finite numbers, ``(rows, columns)`` float64; empty lines and those after # are skipped.

    Raises:
        SceneFolderError: If a line has other than so many finite numbers.
    """
    rows = []
    for number, line in enumerate(text_of(access, name).splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            where = f"{access.path / name}: line {number}"
            rows.append(numbers_in(line.replace(",", " ").split(), columns, where))
    return np.array(rows, dtype=np.float64).reshape(-1, columns)


def named_numbers(access: FolderAccess, name: str) -> dict[str, str]:
    """The lines ``name: text`` of a calibration file, by their names; others are skipped."""
    parts = (line.partition(":") for line in text_of(access, name).splitlines())
    return {key.strip(): text.strip() for key, colon, text in parts if colon}


def numbers_in(words: list[str], count: int, where: str) -> list[float]:
    """So many finite numbers; raises a :class:`~renderpretrain.data.SceneFolderError` about ``where``."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise SceneFolderError(f"{where}: expected {count} finite numbers, got {brief(' '.join(words))}")
    return values


def number_of(value: Any, where: str) -> float:
    """A finite number of JSON; raises a :class:`~renderpretrain.data.SceneFolderError` about ``where``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise SceneFolderError(f"{where}: expected a finite number, got {brief(value)}")
    return float(value)


def picture_size(access: FolderAccess, name: str, where: str) -> tuple[int, int]:
    """``(height, width)`` that a picture's header declares; nothing is decoded."""
    entry = PictureFile(access, name, (1, 1), where)
    with access.open(name, where, PICTURE_BYTES, "image") as stream:
        try:
            image = opened(entry, stream)
        except SceneFolderError:
            raise
        except Exception as error:  # of someone else's file, Pillow raises anything
            raise entry.fault(f"expected a readable image, got: {error}") from error
        return image.height, image.width
