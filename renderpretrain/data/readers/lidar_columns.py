"""Which column of a sweep's file is what: as told, as the file names them, or as their numbers look."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.geometry import FAR
from renderpretrain.data.folder.stored import HEADERS, SWEEP_BYTES, layout_of, named_columns

LOOKED_AT = 80 * 2**17
"""Bytes at the beginning of a file of raw rows that are looked at, whole rows of 4 and of 5 numbers."""

SAY = "say what they are, as ?columns=x,y,z,intensity_0_255,ring"
"""The way out where columns are not recognised."""

INTENSITIES = ("intensity", "reflectance", "reflectivity", "scalar_intensity", "i")
RINGS = ("ring", "laser_id", "laser_number", "beam", "channel", "scalar_ring")
COLORS = (("r", "g", "b"), ("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
"""What files call what is read, in small letters."""

UNREAD = "_"
"""The name of a column that is not read."""


def lidar_columns(
    access: FolderAccess, files: Sequence[str], told: tuple[str, ...] | None, dtype: str, *, scaled: bool
) -> dict[str, Any]:
    """``columns`` of the sweeps of a folder as ``frames.json`` says them, and ``fields`` of files with names.

    Args:
        access: Of the folder.
        files: Some of the sweeps; all have the same columns.
        told: Names of all columns of a file, in their order; ``None`` recognises them.
        dtype: Of raw rows.
        scaled: Whether the user says what intensities are divided by.

    Raises:
        SceneFolderError: If they cannot be told, with what the user can say.
    """
    first = str(access.path / files[0])
    if layout_of(files[0]) == "rows":
        return {"columns": list(told or _alike([_of_rows(access, file, dtype) for file in files], first))}
    samples = [
        named_columns(_raw(access, file), layout_of(file), f"{access.path / file}", ()) for file in files
    ]
    fields = list(samples[0])
    if told is None:
        if fields[:1] != ["0"]:
            return _of_names(samples, first, scaled)
        found = [_plausible(np.stack(list(sample.values()), -1)) for sample in samples]
        return {"columns": _alike([_sure(one, access, files[0], "rows") for one in found], first)}
    if len(told) != len(fields):
        what = f"{first}: columns: expected a name for each of {brief(', '.join(fields))}"
        raise SceneFolderError(f"{what}, got {len(told)}")
    if fields[:1] == ["0"]:
        return {"columns": list(told)}
    read = [(name, field) for name, field in zip(told, fields, strict=True) if name != UNREAD]
    return {"columns": [name for name, _ in read], "fields": [field for _, field in read]}


def _raw(access: FolderAccess, file: str) -> bytes:
    """A sweep's file."""
    return access.read(file, "columns", SWEEP_BYTES)


def _of_rows(access: FolderAccess, file: str, dtype: str) -> list[str]:
    """The columns of a file of raw rows of 4 or 5 numbers, by how they look."""
    with access.open(file, "columns", SWEEP_BYTES) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        raw = stream.read(LOOKED_AT)
    header = next((kind for start, kind in HEADERS.items() if raw.startswith(start)), None)
    if header is not None:
        raise SceneFolderError(
            f"{access.path / file}: expected raw rows without a header, got a {header} file"
        )
    kind, found = np.dtype(dtype).newbyteorder("<"), []
    for width in (4, 5):
        if size and size % (width * kind.itemsize) == 0:
            table = np.frombuffer(raw, kind, len(raw) // kind.itemsize // width * width).reshape(-1, width)
            columns = _plausible(table)
            found += [columns] if columns else []
    return _sure(found[0] if len(found) == 1 else None, access, file, f"{size} bytes")


def _sure(columns: list[str] | None, access: FolderAccess, file: str, got: str) -> list[str]:
    """The columns, or the error where they are in doubt."""
    if columns is None:
        raise SceneFolderError(
            f"{access.path / file}: columns: expected rows of 4 or 5 numbers that look like x, y, z, "
            f"intensity and perhaps ring, got {got} that look like something else: {SAY}"
        )
    return columns


def _alike(found: list[list[str]], file: str) -> list[str]:
    """The columns that all samples have; the largest scale of intensities holds for all."""
    scaled = max(found, key=lambda columns: len(columns[3]))
    if any(len(columns) != len(scaled) or columns[4:] != scaled[4:] for columns in found):
        ways = " and ".join(dict.fromkeys(",".join(columns) for columns in found))
        raise SceneFolderError(f"{file}: columns: expected the same in all sweeps, got {ways}: {SAY}")
    return scaled


def _plausible(table: np.ndarray) -> list[str] | None:
    """What the columns of a table are, if they look like ``x, y, z, intensity`` and perhaps a fifth."""
    if table.shape[1] not in (4, 5) or not len(table):
        return None
    finite = np.isfinite(table).all(-1)
    if finite.mean() < 0.9:
        return None
    table = table[finite].astype(np.float64)
    least, most = table.min(0), table.max(0)
    if max(np.abs(least[:3]).max(), most[:3].max()) > FAR or (most - least)[:2].min() < 1:
        return None
    # Whole numbers that end below 128 may be beams: a sweep's brightest points are near the largest number.
    if least[3] < 0 or most[3] > 255 or (1 < most[3] < 128 and not np.mod(table[:, 3], 1).any()):
        return None
    columns = ["x", "y", "z", "intensity" if most[3] <= 1 else "intensity_0_255"]
    if table.shape[1] == 4:
        return columns
    whole = not np.mod(table[:, 4], 1).any()
    if least[4] == most[4]:
        return [*columns, UNREAD]
    if whole and least[4] >= 0 and 1 < most[4] < 256:
        return [*columns, "ring"]
    return [*columns, "t"] if not whole and np.abs(table[:, 4]).max() <= 1 else None


def _of_names(samples: list[dict[str, np.ndarray]], where: str, scaled: bool) -> dict[str, Any]:
    """The columns of files that name them."""
    fields = {name.lower(): name for name in reversed(samples[0])}
    if not {"x", "y", "z"} <= set(fields):
        raise SceneFolderError(f"{where}: columns: expected x, y and z, got {brief([*samples[0]])}: {SAY}")
    found = {axis: fields[axis] for axis in "xyz"}
    for names, ours in ((INTENSITIES, "intensity"), (RINGS, "ring")):
        known = next((fields[name] for name in names if name in fields), None)
        if known is not None:
            scale = _scale(samples, [known], where) if ours == "intensity" and not scaled else ""
            found[ours + scale] = known
    for triples, letters in ((COLORS, "rgb"), (NORMALS, ("nx", "ny", "nz"))):
        three = next(([fields[n] for n in names] for names in triples if set(names) <= set(fields)), None)
        if three is not None:
            scale = _scale(samples, three, where) if letters == "rgb" else ""
            found |= {ours + scale: field for ours, field in zip(letters, three, strict=True)}
    return {"columns": list(found), "fields": list(found.values())}


def _scale(samples: Sequence[Mapping[str, np.ndarray]], names: list[str], where: str) -> str:
    """How the columns' name ends: with the largest number that they could have, told by those they have."""
    values = [sample[name] for sample in samples for name in names if name in sample]
    most = max((float(column[np.isfinite(column)].max(initial=0)) for column in values), default=0.0)
    integers = values[0].dtype.kind in "iu"
    if most <= 1 and not integers:
        return ""
    if most <= 255:
        return "_0_255"
    if most <= 65535:
        return "_0_65535"
    what = f"{where}: columns: {names[0]}: expected numbers up to 65535"
    raise SceneFolderError(f"{what}, got {most:g}: ?intensity_scale={most:.0f} divides them")
