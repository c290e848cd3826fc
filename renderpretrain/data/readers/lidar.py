"""Any folder of LiDAR sweeps, with poses where there are some: raw rows, PCD, PLY, LAS or numpy's files."""

import math
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.readers.lidar_columns import lidar_columns
from renderpretrain.data.readers.lidar_poses import Poses, named_stamps, paced_stamps, read_poses

ENDS = {".bin": "bin", ".pcd": "pcd", ".ply": "ply", ".las": "las", ".laz": "las", ".npy": "npy"}
"""Kinds of sweeps by the ends of their names."""

DEEPEST, MOST_FOLDERS = 8, 10_000
"""Folders within folders that are looked into, and how many in all."""


def read_lidar(  # noqa: PLR0913  one keyword per option
    access: FolderAccess,
    *,
    layout: str | None = None,
    columns: tuple[str, ...] | None = None,
    dtype: str = "float32",
    intensity_scale: float | None = None,
    poses: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """The sweeps of a folder and of those within it, as ``frames.json`` would describe them.

    Sweeps of one folder are one recording, in the natural order of their names: ``9`` before ``10``.

    Args:
        access: Of the folder.
        layout: Which files are sweeps, by a kind in :data:`ENDS`; ``None`` where they are of one kind.
        columns: Names of all columns of a file, in their order, ``_`` for one that is not read; ``None``
            takes those that the files name, or recognises raw rows by how they look.
        dtype: Of raw rows, ``float32`` or ``float64``.
        intensity_scale: Intensities are divided by it.
        poses: A file of poses of the LiDAR, see
            :func:`~renderpretrain.data.readers.lidar_poses.read_poses`: beside the sweeps, or in the opened
            folder.
        rate: Sweeps in a second, where neither the file of poses nor their names say their times; it wins.

    Raises:
        SceneFolderError: If there are no sweeps, columns are in doubt, or poses are not of these sweeps.
    """
    folders = _sweeps(access, layout)
    files = [file for names in folders.values() for file in names]
    some = list(dict.fromkeys(files[k] for k in (0, len(files) // 2, -1)))
    known = lidar_columns(access, some, columns, dtype, scaled=intensity_scale is not None)
    known["dtype"] = dtype
    frames: list[dict[str, Any]] = []
    for folder, names in folders.items():
        told = Poses() if poses is None else _poses(access, folder, poses, alone=len(folders) == 1)
        frames += _frames(access, folder, names, known, told, rate)
    named = {frame["lidar"]["file"] for frame in frames if "ego_to_global" in frame["lidar"]}
    if poses is not None and not named:
        raise SceneFolderError(
            f"{access.path / poses}: expected poses of sweeps such as {brief(files[0])}, got none"
        )
    content = {"format": "lidar_sequence", "dataset": "LiDAR sweeps", "frames": frames}
    return content if intensity_scale is None else {**content, "intensity_scale": intensity_scale}


def _kind(name: str) -> str | None:
    """Which kind of sweep a file is by its name; ``None`` for none."""
    return next((kind for end, kind in ENDS.items() if name.lower().endswith(end)), None)


def natural_order(name: str) -> list[str | Decimal]:
    """What names are ordered by so that numbers in them count as numbers."""
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", name)
    return [Decimal(part) if k % 2 else part for k, part in enumerate(parts)]


def _sweeps(access: FolderAccess, layout: str | None) -> dict[str, list[str]]:
    """The sweeps' files by their folder, all of one kind."""
    found: dict[str, dict[str, list[str]]] = {}
    for folder, place in _files(access):
        kind = _kind(place)
        if kind is not None and layout in (None, kind):
            found.setdefault(kind, {}).setdefault(folder, []).append(place)
    if not found:
        ends = ", ".join(end for end, kind in ENDS.items() if layout in (None, kind))
        raise SceneFolderError(f"{access.path}: expected sweeps ({ends}), got none")
    if len(found) > 1:
        kinds = ", ".join(
            f"{sum(map(len, folders.values()))} {kind}" for kind, folders in sorted(found.items())
        )
        way = f"?layout={min(found)} chooses"
        raise SceneFolderError(f"{access.path}: expected sweeps of one kind, got {kinds}: {way}")
    (folders,) = found.values()
    return folders


def _files(access: FolderAccess) -> Iterator[tuple[str, str]]:
    """Every folder with every file that may be a sweep, in natural order."""
    rest, seen = [("", 0)], 0
    while rest:
        folder, depth = rest.pop(0)
        seen += 1
        if seen > MOST_FOLDERS:
            raise SceneFolderError(f"{access.path}: expected at most {MOST_FOLDERS} folders, got more")
        for name in sorted(access.names(folder), key=natural_order):
            place = f"{folder}/{name}" if folder else name
            if _kind(name) is not None:
                yield folder, place
            elif depth < DEEPEST and not name.startswith(".") and (access.path / place).is_dir():
                rest.append((place, depth + 1))


def _poses(access: FolderAccess, folder: str, file: str, *, alone: bool) -> Poses:
    """What is known of where a folder's sweeps were taken."""
    beside = f"{folder}/{file}" if folder else file
    if (access.path / beside).exists():
        return read_poses(access, beside)
    found = read_poses(access, file)
    if found.in_order and not alone:
        what = "poses by the sweeps' names, or a file of poses in each folder of sweeps"
        raise SceneFolderError(f"{access.path / file}: expected {what}, got a list for several folders")
    return found


def _frames(
    access: FolderAccess,
    folder: str,
    files: Sequence[str],
    known: dict[str, Any],
    poses: Poses,
    rate: float | None,
) -> list[dict[str, Any]]:
    """The frames of one folder."""
    if poses.in_order and len(poses.in_order) != len(files):
        what = f"expected {len(files)} poses, one for each sweep, got {len(poses.in_order)}"
        raise SceneFolderError(
            f"{access.path / folder}: poses: {what}: JSON says them by name, {{file: 4x4}}"
        )
    stems = [_stem(file) for file in files]
    stamps: Sequence[dict[str, Any]] | None = [{"timestamp_s": time} for time in poses.stamps]
    if rate is not None:
        stamps = paced_stamps(stems, rate)
    elif not stamps:
        stamps = named_stamps(stems)
    frames = []
    for k, (file, stem) in enumerate(zip(files, stems, strict=True)):
        names = (file, file.rpartition("/")[2], stem)
        pose = next((poses.by_name[name] for name in names if name in poses.by_name), None)
        pose = poses.in_order[k] if poses.in_order else pose
        lidar = {"file": file, **known} | ({} if pose is None else {"ego_to_global": pose})
        frame_id = f"{folder}/{stem}" if folder else stem
        frames.append({"frame_id": frame_id, "scene": folder, "lidar": lidar} | (stamps[k] if stamps else {}))
    return frames


def _stem(file: str) -> str:
    """A sweep's name without its folder and ends."""
    name = file.rpartition("/")[2]
    for _ in range(2):  # nuScenes' end in .pcd.bin
        name = next((name[: -len(end)] for end in ENDS if name.lower().endswith(end)), name)
    return name


def _names(text: str) -> tuple[str, ...]:
    """Names of columns with commas between them."""
    names = tuple(text.split(","))
    if not {"x", "y", "z"} <= set(names) or "" in names:
        raise ValueError
    return names


def _positive(text: str) -> float:
    """A positive number."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _file(text: str) -> str:
    """The path of a file."""
    if not text:
        raise ValueError
    return text


LIDAR = Reader(
    "lidar",
    read_lidar,
    "",
    {
        "layout": (
            {kind: kind for kind in ENDS.values()}.__getitem__,
            ", ".join(dict.fromkeys(ENDS.values())),
        ),
        "columns": (_names, "a name for each column, x, y, z among them, as x,y,z,intensity_0_255,ring"),
        "dtype": ({"float32": "float32", "float64": "float64"}.__getitem__, "float32 or float64"),
        "intensity_scale": (_positive, "a positive number that intensities are divided by"),
        "poses": (_file, "a file of poses within the folder"),
        "rate": (_positive, "a positive number of sweeps in a second"),
    },
)
"""Reads folders of sweeps."""
