"""Files of sweeps and of their labels, from bytes to one array; a fault names file, frame and field."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import CLASS_COLUMN, SceneFolderError, brief
from renderpretrain.data.folder.lidar_entry import Layout, LidarEntry
from renderpretrain.data.folder.range_images import range_image_columns
from renderpretrain.data.formats.arrays import read_npy, read_npz
from renderpretrain.data.formats.feather import read_feather
from renderpretrain.data.formats.las import read_las
from renderpretrain.data.formats.pcd import read_pcd
from renderpretrain.data.formats.pickles import pickled_columns
from renderpretrain.data.formats.ply import read_ply
from renderpretrain.data.formats.text_rows import read_text

SWEEP_BYTES = 2**30
"""Largest file of a sweep: some fifty million points."""

LAYOUTS: Mapping[str, Layout] = {
    ".npy": "npy",
    ".npz": "npz",
    ".pcd": "pcd",
    ".ply": "ply",
    ".las": "las",
    ".laz": "las",
    ".feather": "feather",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".pkl.gz": "pickle",
}
"""Layout of a file by the end of its name; others are raw rows."""

NAMED_COLUMNS: Mapping[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    "npz": read_npz,
    "pcd": read_pcd,
    "ply": read_ply,
    "las": read_las,
    "feather": read_feather,
    "pickle": pickled_columns,
}
"""What reads the layouts whose files name their columns."""

HEADERS = {
    b"\x93NUMPY": ".npy",
    b"# .PCD": ".pcd",
    b"VERSION ": ".pcd",
    b"ply\n": ".ply",
    b"ply\r": ".ply",
    b"PK\x03\x04": ".npz or .zip",
    b"LASF": ".las",
    b"\x89HDF": ".hdf5",
    b"FEA1": ".feather",
    b"ARROW1": ".feather",
    b"PAR1": ".parquet",
    b"\x89PNG": ".png",
}
"""How files begin that are no raw rows."""


def stored_rows(access: FolderAccess, entry: LidarEntry, frame: str) -> np.ndarray:
    """The rows of a sweep's file as they are stored, ``(P, len(entry.columns))``, float32 or float64.

    Args:
        access: How the folder's files are read.
        entry: What the index says of the sweep.
        frame: How messages call its frame.

    Raises:
        SceneFolderError: If the file is missing, truncated, of another layout, or lacks a column.
    """
    field = f"{frame}: lidar.file"
    where = f"{access.path / entry.file}: {field}"
    layout, names = entry.layout or layout_of(entry.file), entry.fields or entry.columns
    if layout == "range_image":
        columns = range_image_columns(access, entry, field)
    elif layout == "rows":
        return _raw_rows(access.read(entry.file, field, SWEEP_BYTES), entry, where)
    else:
        columns = _gathered(access, entry, layout, field)
    rows = [_column(columns, name, where) for name in names]
    exact = all(column.dtype.itemsize < 4 or column.dtype == np.float32 for column in rows)
    return np.stack(rows, -1, dtype=np.float32 if exact else np.float64, casting="unsafe")


def _gathered(access: FolderAccess, entry: LidarEntry, layout: Layout, field: str) -> dict[str, np.ndarray]:
    """The columns of all files that a sweep's points lie in, of which all but raw rows may be several."""
    elsewhere = {name for beside in entry.beside for name in beside.columns}
    elsewhere |= {CLASS_COLUMN} if entry.parts else set()
    own = [name for name in entry.fields or entry.columns if name not in elsewhere]

    def columns_of(file: str, names: Sequence[str], how: Layout) -> dict[str, np.ndarray]:
        raw = access.read(file, field, SWEEP_BYTES)
        return named_columns(raw, how, f"{access.path / file}: {field}", names)

    if entry.parts:
        tables = [columns_of(part.file, own, layout) for part in entry.parts]
        columns = {name: np.concatenate([_column(t, name, field) for t in tables]) for name in own}
        numbers = [part.semseg for part in entry.parts]
        columns[CLASS_COLUMN] = np.repeat(numbers, [len(table[own[0]]) for table in tables])
    else:
        columns = dict(columns_of(entry.file, own, layout))
    count = len(next(iter(columns.values()), ()))
    for beside in entry.beside:
        further = columns_of(beside.file, beside.columns, layout_of(beside.file))
        columns |= {name: _column(further, name, field) for name in beside.columns}
        got = len(columns[beside.columns[0]]) if beside.columns else count
        if got != count:
            raise SceneFolderError(f"{access.path / beside.file}: {field}: expected {count} rows, got {got}")
    return columns


def check_size(access: FolderAccess, entry: LidarEntry, frame: str) -> None:
    """Raise as :func:`stored_rows` where a look at a file's size tells that it would; nothing is read."""
    with access.open(entry.file, f"{frame}: lidar.file", SWEEP_BYTES) as stream:
        size = stream.seek(0, 2)
    if (entry.layout or layout_of(entry.file)) == "rows":
        _check_rows(size, entry, f"{access.path / entry.file}: {frame}: lidar.file")


def stored_labels(access: FolderAccess, entry: LidarEntry, frame: str, count: int) -> np.ndarray:
    """The stored class number of each point, unsigned integers.

    Args:
        access: How the folder's files are read.
        entry: What the index says of the sweep; it has a ``semseg_file``.
        frame: How messages call its frame.
        count: How many points there are.

    Raises:
        SceneFolderError: As :func:`stored_rows`, or if there is another number of labels.
    """
    name, field = entry.semseg_file or "", f"{frame}: lidar.semseg_file"
    where = f"{access.path / name}: {field}"
    raw = access.read(name, field, SWEEP_BYTES)
    if entry.semseg_column is None:
        labels = _raw_labels(raw, np.dtype(entry.semseg_dtype), count, where)
    else:
        columns = named_columns(raw, layout_of(name), where, [entry.semseg_column])
        labels = _column(columns, entry.semseg_column, where)
        if labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
            raise SceneFolderError(f"{where}: expected class numbers from 0 on, got {labels.dtype}")
    if len(labels) != count:
        raise SceneFolderError(f"{where}: expected {count} labels, one per point, got {len(labels)}")
    if entry.semseg_bits is not None:
        labels = labels & labels.dtype.type((1 << entry.semseg_bits) - 1)
    return labels // labels.dtype.type(entry.semseg_divisor) if entry.semseg_divisor > 1 else labels


def layout_of(file: str) -> Layout:
    """The layout that a file's name tells."""
    name = PurePath(file).name.lower()
    return next((layout for end, layout in LAYOUTS.items() if name.endswith(end)), "rows")


def named_columns(raw: bytes, layout: Layout, where: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns of a file that names them.

    Args:
        raw: The file.
        layout: Of its bytes.
        where: File, frame and field, for messages.
        names: Of the columns of a bare table of numpy's; without any they are ``0``, ``1`` and so on.

    Raises:
        SceneFolderError: If it is no such file.
    """
    try:
        if not raw:
            raise ValueError("expected a file with content, got 0 bytes")
        if layout == "rows":
            raise ValueError(f"expected the end of a name of {', '.join(LAYOUTS)}, got another file")
        if layout in ("npy", "text"):
            return read_npy(raw, names) if layout == "npy" else read_text(raw, names)
        return NAMED_COLUMNS[layout](raw)
    except ValueError as error:
        raise SceneFolderError(f"{where}: {error}") from error


def _column(columns: dict[str, np.ndarray], name: str, where: str) -> np.ndarray:
    """The numbers of one column."""
    if name not in columns:
        raise SceneFolderError(f"{where}: expected a column {brief(name)}, got {brief([*columns])}")
    if columns[name].dtype.kind not in "biuf":
        raise SceneFolderError(f"{where}: expected numbers in {brief(name)}, got {columns[name].dtype}")
    return columns[name]


def _raw_rows(raw: bytes, entry: LidarEntry, where: str) -> np.ndarray:
    """Rows without a header, of one type."""
    header = next((kind for start, kind in HEADERS.items() if raw.startswith(start)), None)
    if header is not None:
        raise SceneFolderError(f"{where}: expected raw rows without a header, got a {header} file")
    _check_rows(len(raw), entry, where)
    return np.frombuffer(raw, dtype=np.dtype(entry.dtype).newbyteorder("<")).reshape(-1, len(entry.columns))


def _check_rows(size: int, entry: LidarEntry, where: str) -> None:
    """Refuse a size that is no whole number of rows."""
    width = len(entry.columns) * np.dtype(entry.dtype).itemsize
    if size == 0:
        raise SceneFolderError(f"{where}: expected a finite point, got none in a file of 0 bytes")
    if size % width:
        raise SceneFolderError(
            f"{where}: expected a multiple of {width} bytes ({len(entry.columns)} columns of "
            f"{entry.dtype}), got {size} bytes"
        )


def _raw_labels(raw: bytes, kind: np.dtype, count: int, where: str) -> np.ndarray:
    """Labels without a header, of one type."""
    if len(raw) != count * kind.itemsize:
        each = "one" if kind.itemsize == 1 else f"{kind.itemsize}"
        raise SceneFolderError(
            f"{where}: expected {count * kind.itemsize} bytes, {each} per point, got {len(raw)}"
        )
    return np.frombuffer(raw, dtype=kind.newbyteorder("<"))
