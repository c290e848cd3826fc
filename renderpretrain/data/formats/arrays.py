"""Points as raw rows, and as numpy's own files ``.npy`` and ``.npz``."""

import io
from collections.abc import Sequence

import numpy as np

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.formats.unpacking import unzipped

MOST_BYTES = 2**31
"""Of all arrays of an ``.npz`` together."""

NUMBERS = "biuf"
"""Kinds of numpy types that hold real numbers."""

LONGEST_HEADER = 10_000
"""Characters before the numbers of an array."""


def read_rows(raw: bytes, columns: Sequence[str], dtype: str = "float32") -> dict[str, np.ndarray]:
    """The columns of a file that holds nothing but rows of numbers of one type, little-endian.

    Args:
        raw: The file.
        columns: The name of every column.
        dtype: Type of the numbers.

    Raises:
        ValueError: If the file ends within a row.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    width = len(columns) * kind.itemsize
    if not width or len(raw) % width:
        raise ValueError(
            f"expected a multiple of {width} bytes ({len(columns)} columns of {dtype}), got {len(raw)} bytes"
        )
    table = np.frombuffer(raw, kind).reshape(-1, len(columns))
    return {name: table[:, place] for place, name in enumerate(columns)}


def read_npy(raw: bytes, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The columns of an ``.npy`` file: a table ``(points, columns)``, one column, or a structured array.

    Args:
        raw: The file.
        columns: Names of the columns; those of a structured array are its own, and others are ``0``, ``1``
            and so on where nobody names them.

    Raises:
        ValueError: If it is no such file, holds Python objects, or has other columns.
    """
    array = npy_array(raw)
    if array.dtype.names:
        found = {name: array[name] for name in array.dtype.names}
        if array.ndim != 1 or any(c.ndim != 1 or c.dtype.kind not in NUMBERS for c in found.values()):
            raise ValueError(f"expected rows of numbers, got {brief(str(array.dtype))}")
        return found
    table = array[:, None] if array.ndim == 1 else array
    if table.ndim != 2:
        raise ValueError(f"expected a table of points and columns, got the shape {array.shape}")
    names = columns or [str(place) for place in range(table.shape[1])]
    if len(names) != table.shape[1]:
        raise ValueError(f"expected {len(names)} columns, got {table.shape[1]}")
    return {name: table[:, place] for place, name in enumerate(names)}


def read_npz(raw: bytes, most: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """The columns of an ``.npz`` file: its arrays by their names, ``name_0`` and so on where one is a table.

    Raises:
        ValueError: If it is no such file, its arrays differ in length, or they are larger than ``most``.
    """
    columns: dict[str, np.ndarray] = {}
    for name, content in unzipped(raw, most):
        label = name.removesuffix(".npy")
        try:
            found = read_npy(content)
        except ValueError as error:
            raise ValueError(f"{brief(label)}: {error}") from None
        alone = list(found) == ["0"]
        columns |= {label if alone else f"{label}_{column}": values for column, values in found.items()}
    if len({len(values) for values in columns.values()}) > 1:
        lengths = {name: len(values) for name, values in columns.items()}
        raise ValueError(f"expected arrays of one length, got {brief(lengths)}")
    return columns


def npy_array(raw: bytes) -> np.ndarray:
    """The array of an ``.npy`` file, whose numbers are not copied.

    Raises:
        ValueError: If it is no such file, holds Python objects, or promises more than there is.
    """
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, kind = reader[version](stream, max_header_size=LONGEST_HEADER)
    except Exception:  # the header is an expression of Python's, and anything may be wrong with one
        raise ValueError("expected a header of numpy's .npy, got none that can be read") from None
    if kind.hasobject or not kind.itemsize:
        raise ValueError(f"expected an array of numbers, got one of {brief(str(kind))}")
    if kind.names is None and kind.kind not in NUMBERS:
        raise ValueError(f"expected an array of numbers, got one of {brief(str(kind))}")
    count = 1
    for n in shape:
        if n < 0:
            raise ValueError(f"expected a shape, got {brief(shape)}")
        count *= n
    if count * kind.itemsize > len(raw) - stream.tell():
        raise ValueError(f"expected {count * kind.itemsize} bytes, got {len(raw) - stream.tell()}")
    if max(shape, default=0) > 2**40 or len(shape) > 8:
        raise ValueError(f"expected a shape that can be, got {brief(shape)}")
    return np.frombuffer(raw, kind, count, stream.tell()).reshape(shape, order="F" if fortran else "C")
