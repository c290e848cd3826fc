"""Tables that are JSON lists of flat objects, up to gigabytes: read row by row, kept as columns."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.readers.tables import TABLE_BYTES, json_of

BLOCK = 2**22
"""Bytes that are read at a time."""

WORDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}
"""What messages call the kinds of JSON's values."""


def streamed_rows(
    access: FolderAccess, name: str, wanted: Callable[[bytes], bool] = lambda row: True
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a large table, some at a time; its objects hold no others, and no text has a brace.

    Args:
        access: Of the folder.
        name: The file.
        wanted: Whether a row is, from its bytes up to the closing brace. What is not is never parsed.

    Raises:
        SceneFolderError: If the file is no such list.
    """
    with access.open(name, "table", TABLE_BYTES) as stream:
        rest, first = b"", True
        while block := stream.read(BLOCK):
            *whole, rest = (rest + block).split(b"}")
            if first and whole:
                if not whole[0].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                    raise _no_rows(access, name)
                first = False
            yield _parsed(access, name, [row for row in whole if wanted(row)])
        ends = not first and rest.strip() == b"]"
        if not ends and not (first and json_of(access, name) == []):
            raise _no_rows(access, name)


def _parsed(access: FolderAccess, name: str, rows: list[bytes]) -> list[dict[str, Any]]:
    """Objects from their texts up to the closing braces, with what lies before the opening ones."""
    text = b"},".join(row[max(row.find(b"{"), 0) :] for row in rows)
    try:
        return json.loads(b"[" + text + b"}]") if rows else []
    except (ValueError, RecursionError):
        raise _no_rows(access, name) from None


def _no_rows(access: FolderAccess, name: str) -> SceneFolderError:
    """The error for another file; raised at once where a parser can say more."""
    got = json_of(access, name)
    what = "others within them, or texts with braces" if isinstance(got, list) else brief(got)
    return SceneFolderError(f"{access.path / name}: table: expected a list of flat objects, got {what}")


def table_rows(access: FolderAccess, name: str) -> list[dict[str, Any]]:
    """All rows of a small table; raises a :class:`~renderpretrain.data.SceneFolderError` for another file."""
    rows = json_of(access, name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SceneFolderError(f"{access.path / name}: table: expected a list of objects, got {brief(rows)}")
    return rows


def value_of(row: dict[str, Any], field: str, kind: type, where: str) -> Any:
    """A row's value of a kind; raises a :class:`~renderpretrain.data.SceneFolderError` about ``where``."""
    value = row.get(field)
    if type(value) is not kind or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        got = "nothing" if field not in row else brief(value)
        raise SceneFolderError(f"{where}: {field}: expected {WORDS[kind]}, got {got}")
    return value


def values_of(rows: Iterable[dict[str, Any]], field: str, kind: type, where: str) -> list[Any]:
    """All rows' values of a kind; a fault names the row by its token."""
    return [value_of(row, field, kind, f"{where}: {brief(row.get('token', ''))}") for row in rows]


def numbers_of(rows: Sequence[dict[str, Any]], field: str, width: int, where: str) -> np.ndarray:
    """All rows' lists of so many numbers, ``(rows, width)`` float64, which need not be finite.

    Raises:
        SceneFolderError: With the first row's token that has another value.
    """
    try:
        found = np.array([row[field] for row in rows], dtype=np.float64)
        if found.shape == (len(rows), width):
            return found
    except ODD_VALUES:
        pass
    for row in rows:
        value = row.get(field)
        if not _is_numbers(value, width):
            token = brief(row.get("token", ""))
            raise SceneFolderError(f"{where}: {token}: {field}: expected {width} numbers, got {brief(value)}")
    return np.array([row[field] for row in rows], dtype=np.float64).reshape(len(rows), width)


def _is_numbers(value: Any, width: int) -> bool:
    """Whether a value is a list of so many numbers."""
    if not isinstance(value, list) or len(value) != width:
        return False
    return all(type(number) in (int, float) and not abs(number) > 1e300 for number in value)
