"""JSON files of a folder: what is no JSON is one line."""

import json
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError

LONGEST_NUMBER = 30
"""Digits of a whole number: no table has more, and Python takes ages, or refuses, to convert thousands."""


def text_of_file(access: FolderAccess, name: str, where: str, most: int) -> str:
    """A text file's content, with or without a byte order mark.

    Args:
        access: Of the folder.
        name: The file.
        where: What names it, for messages.
        most: Bytes it may have.

    Raises:
        SceneFolderError: If it cannot be read, or is no UTF-8.
    """
    try:
        return access.read(name, where, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SceneFolderError(
            f"{access.named(name)}: byte {error.start}: expected UTF-8 text, got: {error.reason}"
        ) from error


def json_of_file(access: FolderAccess, name: str, where: str, most: int) -> Any:
    """A JSON file's content; arguments and errors as of :func:`text_of_file`, or for another text."""
    text = text_of_file(access, name, where, most)
    try:
        return json.loads(text, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise SceneFolderError(f"{access.named(name)}: {at}: expected JSON, got: {error.msg}") from error
    except RecursionError as error:
        got = "brackets hundreds of levels deep"
        raise SceneFolderError(f"{access.named(name)}: expected JSON, got {got}") from error


def _whole_number(digits: str) -> int | float:
    """A whole number; one of more digits than any is infinite, or nearly so."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)
