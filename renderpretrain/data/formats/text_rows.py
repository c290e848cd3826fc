"""Rows of numbers as text, one line each, of formats whose header says what stands in a row."""

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from renderpretrain.data.folder.fields import brief

LONGEST_NUMBER = 64
"""Characters of a number."""

AT_ONCE = 65536
"""Lines that are split at a time."""


def lines_of(raw: bytes, start: int = 0) -> Iterator[bytes]:
    """The lines with something in them, from a byte on, without copying the whole text."""
    return (match[0] for match in re.compile(rb"[^\r\n]*[^\s][^\r\n]*").finditer(raw, start))


def read_text(raw: bytes, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns of a file that holds nothing but rows of numbers, separated by spaces or commas.

    Args:
        raw: The file.
        names: The name of every column.

    Raises:
        ValueError: If it holds something else, or rows of another width.
    """
    stream = io.BytesIO(raw.replace(b",", b" "))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a file without rows
        try:
            table = np.loadtxt(stream, ndmin=2, comments=None, encoding="latin-1")
        except ValueError as error:
            raise ValueError(f"expected rows of {len(names)} numbers, got: {brief(str(error))}") from None
    if table.shape[1] != len(names) and table.size:
        raise ValueError(f"expected rows of {len(names)} numbers, got {table.shape[1]}")
    table = table.reshape(-1, len(names))
    return {name: table[:, place] for place, name in enumerate(names)}


def text_columns(lines: Iterator[bytes], rows: int, kinds: Sequence[np.dtype], most: int) -> list[np.ndarray]:
    """The columns of so many lines.

    Args:
        lines: Are read as far as they are needed.
        rows: How many lines the header promises.
        kinds: Type of every column.
        most: Bytes that there are: a row has at least two for every column.

    Raises:
        ValueError: If there are fewer lines, or one holds something else than numbers of these types.
    """
    if rows * len(kinds) > most:
        raise ValueError(f"expected {rows} rows of {len(kinds)} numbers, got {most} bytes")
    columns = [np.empty(rows, kind) for kind in kinds]
    done = 0
    while done < rows:
        table = [line.split() for line in itertools.islice(lines, min(AT_ONCE, rows - done))]
        if not table:
            raise ValueError(f"expected {rows} rows of numbers, got {done}")
        _check(table, len(kinds), done)
        for column, words in zip(columns, zip(*table, strict=True), strict=True):
            column[done : done + len(table)] = _numbers(words, column.dtype)
        done += len(table)
    return columns


def _check(table: list[list[bytes]], width: int, done: int) -> None:
    """Refuse rows of another width, and numbers longer than any."""
    wrong = next((row for row, words in enumerate(table) if len(words) != width), None)
    if wrong is not None:
        raise ValueError(f"expected {width} numbers in row {done + wrong}, got {len(table[wrong])}")
    if max(max(map(len, words), default=0) for words in table) > LONGEST_NUMBER:
        raise ValueError(f"expected numbers of at most {LONGEST_NUMBER} characters, got a longer one")


def _numbers(words: Sequence[bytes], kind: np.dtype) -> np.ndarray:
    """Texts as numbers of a type."""
    try:
        if kind.kind == "f":
            with np.errstate(over="ignore"):  # what the type cannot hold is infinite
                return np.array(words).astype(np.float64).astype(kind)
        values = [int(word) for word in words]
    except ValueError:
        wrong = next(word for word in words if not _is_number(word, kind))
        raise ValueError(f"expected {kind.name} numbers, got {brief(wrong.decode('latin-1'))}") from None
    limits = np.iinfo(kind)
    if min(values) < limits.min or max(values) > limits.max:
        raise ValueError(f"expected {kind.name} numbers, got {min(values)} to {max(values)}")
    return np.array(values, kind)


def _is_number(word: bytes, kind: np.dtype) -> bool:
    """Whether a text is a number of a kind."""
    try:
        (float if kind.kind == "f" else int)(word)
    except ValueError:
        return False
    return True
