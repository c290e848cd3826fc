"""Tables of Apache Arrow: ``.feather`` (version 2) and ``.parquet``, with the extra ``av2``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.formats.arrow_messages import unpacked_bytes

MOST_ROWS = 2**27
"""Of a table."""

STREAMED = 2**20
"""Bytes that are read at a time where one row is wanted of many."""

ROWS_AT_ONCE = 8
"""Rows that are decoded at a time where one is wanted."""

MOST_BYTES = 2**31
"""Of a feather file's buffers when they are decompressed."""

BEFORE_MESSAGES = 8
"""Bytes of a feather file before its first message."""

MOST_VALUES = 2**28
"""Of all columns that are asked for: compression makes rows that are alike cost nothing."""


TEXTS = ("string", "binary", "large_string", "large_binary")
"""Types of columns of which a file may hold each value once."""


def _arrow() -> Any:
    """The library that reads these files."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except Exception:
        raise ValueError(
            'expected pyarrow to read this file, got none: pip install "renderpretrain[av2]"'
        ) from None
    return pyarrow


def read_feather(raw: bytes, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The columns of a feather file: numbers as they are stored, texts as an array of objects.

    Args:
        raw: The file.
        columns: Which columns, in this order; all where nobody says.

    Raises:
        ValueError: If it is no such file, lacks a column, or misses values; if pyarrow is not installed.
    """
    arrow = _arrow()
    if not raw.startswith(b"ARROW1"):
        raise ValueError(f"expected a feather file of version 2, got {len(raw)} bytes that are none")
    with _OneLine(arrow, "a feather file"):
        _check_unpacked(arrow, raw)
        # The messages one after the other: the table at the end may name others than were looked at.
        reader = arrow.ipc.open_stream(arrow.py_buffer(raw).slice(BEFORE_MESSAGES))
        _check_names(reader.schema.names, columns)
        batches = list(reader)
        _check_size(sum(batch.num_rows for batch in batches), len(reader.schema.names))
        table = arrow.Table.from_batches(batches, reader.schema)
        table.validate(full=True)
        return _columns(table if columns is None else table.select(list(columns)))


def read_parquet(raw: Any, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The columns of a parquet file: numbers as they are stored; texts, bytes and lists as objects.

    Args:
        raw: The file's bytes, or the file, open: then only these columns are read.
        columns: Which columns, in this order; all where nobody says.

    Raises:
        ValueError: If it is no such file, lacks a column, or misses values; if pyarrow is not installed.
    """
    arrow = _arrow()
    with _OneLine(arrow, "a parquet file"):
        stream = arrow.BufferReader(raw) if isinstance(raw, bytes) else raw
        known = arrow.parquet.ParquetFile(stream)
        _check_names(known.schema_arrow.names, columns)
        wanted = known.schema_arrow.names if columns is None else list(columns)
        _check_size(known.metadata.num_rows, len(wanted))
        # A text that millions of rows have in common stays one: of them the file has numbers alone.
        texts = [field.name for field in known.schema_arrow if str(field.type) in TEXTS]
        file = arrow.parquet.ParquetFile(stream, read_dictionary=texts)
        table = file.read(columns=wanted, use_threads=False)
        table.validate(full=True)
        return _columns(table.select(wanted))


def parquet_row(stream: Any, row: int, columns: Sequence[str]) -> list[Any]:
    """What a row of a parquet file holds in some columns: bytes, numbers, or arrays for lists of numbers.

    Rows before it in its group are passed over: they have no index.

    Args:
        stream: The file, open.
        row: Its number, from 0 on.
        columns: Which columns.

    Raises:
        ValueError: As :func:`read_parquet`, or if there is no such row.
    """
    arrow = _arrow()
    with _OneLine(arrow, "a parquet file"):
        file = arrow.parquet.ParquetFile(stream, buffer_size=STREAMED)
        _check_names(file.schema_arrow.names, columns)
        group, before = 0, row
        while group < file.num_row_groups and before >= file.metadata.row_group(group).num_rows:
            before -= file.metadata.row_group(group).num_rows
            group += 1
        if group == file.num_row_groups:
            raise ValueError(f"expected a row {row}, got {file.metadata.num_rows} rows")
        options = {"row_groups": [group], "columns": list(columns), "use_threads": False}
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, **options):
            if before < batch.num_rows:
                found = batch.slice(before, 1)
                found.validate(full=True)
                return [_cell(found.column(name)) for name in columns]
            before -= batch.num_rows
        raise ValueError(f"expected a row {row}, got fewer")


def _cell(column: Any) -> Any:
    """The only value of a column; lists of numbers as arrays."""
    value = column.to_numpy(zero_copy_only=False)[0]
    if value is None:
        raise ValueError("expected a value, got none")
    return value


class _OneLine:
    """Turns what pyarrow raises into one line."""

    def __init__(self, arrow: Any, what: str) -> None:
        self.arrow, self.what = arrow, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, ValueError) and str(error).startswith("expected"):
            return
        faults = (self.arrow.ArrowException, OSError, ValueError, MemoryError, TypeError, OverflowError)
        if isinstance(error, faults):
            raise ValueError(f"expected {self.what}, got: {brief(str(error))}") from None


def _check_unpacked(arrow: Any, raw: bytes) -> None:
    """Refuse a file whose buffers are larger, when they are decompressed, than any sweep."""
    stream = arrow.BufferReader(raw)
    stream.seek(BEFORE_MESSAGES)
    left = MOST_BYTES
    try:
        while left >= 0:
            message = arrow.ipc.read_message(stream)
            left -= unpacked_bytes(message.metadata.to_pybytes(), memoryview(message.body or b""))
    except EOFError:
        return
    raise ValueError(f"expected at most {MOST_BYTES} bytes when decompressed, got more")


def _check_names(there: Sequence[str], columns: Sequence[str] | None) -> None:
    """Refuse a table that lacks a column, or has two of one name."""
    missing = [name for name in columns or () if name not in there]
    if missing:
        raise ValueError(f"expected a column {brief(missing[0])}, got {brief(', '.join(there))}")
    if len(set(there)) < len(there):
        raise ValueError(f"expected columns of different names, got {brief(', '.join(there))}")


def _check_size(rows: int, columns: int) -> None:
    """Refuse a table that is larger than any sweep's."""
    if not 0 <= rows <= MOST_ROWS or rows * columns > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} values, got {rows} rows of {columns}")


def _columns(table: Any) -> dict[str, np.ndarray]:
    """The columns of a table of Arrow's as arrays."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            raise ValueError(f"expected no missing values in {brief(name)}, got {column.null_count}")
        found[name] = _shared(column) if str(column.type).startswith("dictionary") else column.to_numpy()
    return found


def _shared(column: Any) -> np.ndarray:
    """The values of a column of numbers of texts: equal ones are one object."""
    parts = [np.zeros(0, object)]
    for chunk in column.chunks:
        texts = np.empty(len(chunk.dictionary), object)
        texts[:] = chunk.dictionary.to_pylist()
        parts.append(texts[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)
