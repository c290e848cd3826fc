"""The sweeps beside ``frames.json``; a fault names file, frame and field."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.classes import StoredClasses
from renderpretrain.data.folder.fields import (
    CLASS_COLUMN,
    COLORS,
    FARTHEST,
    NORMALS,
    RING_COLUMNS,
    SCALED,
    TIME_COLUMNS,
    SceneFolderError,
    brief,
    is_read,
)
from renderpretrain.data.folder.geometry import FAR, nearest_rigid
from renderpretrain.data.folder.lidar_entry import LidarEntry
from renderpretrain.data.folder.stored import stored_labels, stored_rows
from renderpretrain.geometry.sensors import COLOR_COLUMNS, NORMAL_COLUMNS, POINT_COLUMNS

UNUSED = (*TIME_COLUMNS, "lag", "_", "label", "class")
"""Columns that nobody takes for a misspelt intensity."""

CLIPPED = 0.01
"""Share of intensities outside of [0, 1] that is no chance: a retroreflector is clipped, a street is not."""

ENOUGH = 100
"""Rows from which on intensities that are all alike say something."""


@dataclass(frozen=True)
class Sweep:
    """One decoded sweep.

    Attributes:
        points: ``(P, 4)`` float32: x, y, z in metres in the LiDAR frame less ``offset``, intensity in [0, 1].
            Finite.
        rings: ``(P,)`` beam numbers, or ``None``.
        labels: ``(P,)`` class numbers, or ``None``.
        offset: ``(3,)`` float64, metres: about the middle of a sweep in map coordinates, which float32 cannot
            hold; 0 for a sweep around its sensor.
        colors: ``(P, 3)`` RGB in [0, 1], or ``None``.
        normals: ``(P, 3)`` unit normals, 0 where the file has none; or ``None``.
        times: ``(P,)`` seconds at which each point was measured, as stored; or ``None``.
    """

    points: np.ndarray
    rings: np.ndarray | None
    labels: np.ndarray | None
    offset: np.ndarray
    colors: np.ndarray | None = None
    normals: np.ndarray | None = None
    times: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """How much memory the sweep holds, in bytes."""
        held = (self.points, self.rings, self.labels, self.colors, self.normals)
        return sum(a.nbytes for a in held if a is not None)

    def chosen(self, rows: np.ndarray) -> "Sweep":
        """Some of its points, by an index or a mask."""
        rings, labels, colors, normals, times = (
            None if held is None else held[rows]
            for held in (self.rings, self.labels, self.colors, self.normals, self.times)
        )
        return Sweep(self.points[rows], rings, labels, self.offset, colors, normals, times)

    def moved(self, motion: np.ndarray, shift: np.ndarray) -> "Sweep":
        """The sweep in another frame whose origin is then moved, normals turned along.

        Args:
            motion: 4x4, from this frame to the other.
            shift: ``(3,)``, where in the other frame the origin comes to lie.
        """
        turn = motion[:3, :3].T
        # In float64, for each of these may be millions of metres; what is left of them is not.
        step = self.offset @ turn + motion[:3, 3] - shift
        points = self.points.copy()
        points[:, :3] = points[:, :3] @ turn + step
        normals = None if self.normals is None else (self.normals @ turn).astype(np.float32)
        return replace(self, points=points, normals=normals, offset=np.zeros(3))


def known_columns(entry: LidarEntry) -> tuple[str, ...]:
    """What is known of a sweep's points, see ``Scene.columns``."""
    colors = {match[1] for match in map(COLORS.fullmatch, entry.columns) if match}
    known = (*POINT_COLUMNS, *(COLOR_COLUMNS if len(colors) == 3 else ()))
    return (*known, *(NORMAL_COLUMNS if set(NORMALS) <= set(entry.columns) else ()))


def read_sweep(access: FolderAccess, entry: LidarEntry, frame: str, classes: StoredClasses) -> Sweep:
    """Decode a sweep and drop rows in which a number in use is not finite.

    Args:
        access: How the folder's files are read.
        entry: What ``frames.json`` says of it.
        frame: How messages call its frame.
        classes: Which stored numbers are classes; the labels of others are -1.

    Raises:
        SceneFolderError: If a file is missing or truncated, or no point is left.
    """
    where = f"{access.path / entry.file}: {frame}: lidar.file"
    table = stored_rows(access, entry, frame)
    used = [entry.columns.index(c) for c in "xyz"]
    scaled = next((i for i, name in enumerate(entry.columns) if SCALED.fullmatch(name)), None)
    chosen = _chosen(table, entry)
    finite = chosen & np.isfinite(table[:, used if scaled is None else [*used, scaled]]).all(-1)
    if not finite.any():
        told = "".join(f" with {brief(name)} {value:g}" for name, value in entry.only.items())
        raise SceneFolderError(f"{where}: expected a finite point{told}, got none in {len(table)} rows")
    coordinates = _in_lidar_frame(table[finite][:, used], entry)
    far = np.abs(coordinates).max()
    if far > FARTHEST:
        raise SceneFolderError(f"{where}: expected x, y, z within {FARTHEST:g} m, got {far:.3g}")
    middle = coordinates[:: 1 + len(coordinates) // 1000].astype(np.float64).mean(0).round()
    offset = middle if np.abs(middle).max() > FAR else np.zeros(3)
    if offset.any() and coordinates.dtype == np.float32:
        step = np.spacing(np.float32(far))
        words = f"expected float64 so far from the origin, got float32, which keeps steps of {step:g} m there"
        access.doubt("far in float32", entry.file, f"{frame}: lidar.dtype", words)
    points = np.zeros((len(coordinates), 4), dtype=np.float32)
    points[:, :3] = coordinates - offset if offset.any() else coordinates
    points[:, 3] = _intensity(access, entry, frame, None if scaled is None else table[finite, scaled])
    labels = row_labels(access, entry, frame, table)
    classes = classes if entry.semseg_map is None else replace(classes, numbers=entry.semseg_map)
    if np.count_nonzero(finite) < np.count_nonzero(chosen):
        bad, count = np.count_nonzero(chosen & ~finite), np.count_nonzero(chosen)
        others = f"expected finite points, got {bad} of {count} that are not; they are left out"
        access.doubt("not finite", entry.file, f"{frame}: lidar.file", others)
    doubt = partial(doubt_labels, access, entry, frame)
    return Sweep(
        points=points,
        rings=_rings(access, entry, frame, table[finite]),
        labels=None if labels is None else classes.of(labels[finite], doubt),
        offset=offset,
        colors=_colors(table[finite], entry, f"{access.path / entry.file}: {frame}"),
        normals=_normals(table[finite], entry),
        times=_times(table[finite], entry),
    )


def row_labels(access: FolderAccess, entry: LidarEntry, frame: str, table: np.ndarray) -> np.ndarray | None:
    """The stored class number of each row of a sweep; ``None`` where none is known.

    Args:
        access: How the folder's files are read.
        entry: What the index says of the sweep.
        frame: How messages call its frame.
        table: ``(P, len(entry.columns))``, its rows.

    Raises:
        SceneFolderError: As :func:`read_sweep`, or if a column holds something else than class numbers.
    """
    if entry.semseg_file is not None:
        return stored_labels(access, entry, frame, len(table))
    if CLASS_COLUMN not in entry.columns:
        return None
    numbers = table[:, entry.columns.index(CLASS_COLUMN)]
    if not ((numbers >= 0) & (numbers < 2**32) & (numbers == np.floor(numbers))).all():
        where = f"{access.path / entry.file}: {frame}: lidar.columns.{CLASS_COLUMN}"
        raise SceneFolderError(f"{where}: expected class numbers from 0 on, got others")
    return numbers.astype(np.uint32)


def _times(table: np.ndarray, entry: LidarEntry) -> np.ndarray | None:
    """When each row was measured; ``None`` where no column tells, or one tells something else."""
    name = next((column for column in TIME_COLUMNS if column in entry.columns), None)
    times = None if name is None else table[:, entry.columns.index(name)].astype(np.float64)
    return None if times is None or not np.isfinite(times).all() else times


def _chosen(table: np.ndarray, entry: LidarEntry) -> np.ndarray:
    """True for the rows that the index wants: a file may hold the points of several sensors."""
    wanted = [table[:, entry.columns.index(name)] == value for name, value in entry.only.items()]
    return np.all(wanted, axis=0) if wanted else np.ones(len(table), bool)


def _in_lidar_frame(coordinates: np.ndarray, entry: LidarEntry) -> np.ndarray:
    """Coordinates of points that are stored in another frame, which may be a map: exact in float64."""
    if entry.file_to_lidar is None:
        return coordinates
    exact = coordinates.astype(np.float64)
    motion = nearest_rigid(entry.file_to_lidar, exact.mean(0))
    return exact @ motion[:3, :3].T + motion[:3, 3]


def doubt_labels(access: FolderAccess, entry: LidarEntry, frame: str, kind: str, words: str) -> None:
    """Remark on a sweep's labels: ``kind`` and what was expected and what came."""
    access.doubt(kind, entry.semseg_file or "", f"{frame}: lidar.semseg_file", words)


def _intensity(
    access: FolderAccess, entry: LidarEntry, frame: str, values: np.ndarray | None
) -> np.ndarray | float:
    """Intensity in [0, 1]; zeros where the file has none."""
    where = f"{frame}: lidar.columns"
    if values is None:
        unread = [c for c in entry.columns if not is_read(c) and c.lower() not in UNUSED]
        if unread:
            access.doubt(
                "no intensity",
                entry.file,
                where,
                f"expected intensity or reflectance among the columns, got neither: {brief(unread[0])} is "
                "skipped and the intensity is 0 everywhere",
            )
        return 0.0
    name = next(column for column in entry.columns if SCALED.fullmatch(column))
    match = SCALED.fullmatch(name)
    scale = entry.intensity_scale or float(match[2] if match and match[2] else 1)
    scaled = values.astype(np.float64) / scale
    words = _doubtful(scaled, values, scale)
    if words is not None:
        access.doubt("intensity", entry.file, f"{where}.{name}", words)
    return np.clip(scaled, 0, 1)


def _doubtful(scaled: np.ndarray, values: np.ndarray, scale: float) -> str | None:
    """What makes intensities look as if they were in another unit."""
    least, most = float(values.min()), float(values.max())
    above, below = float((scaled > 1.001).mean()), float((scaled < -0.001).mean())
    if above > CLIPPED:
        guess = next((top for top in (255, 65535) if top / 2 < most <= top), round(min(most, 1e9)))
        return (
            f"expected values up to {scale:g}, got {above:.0%} above, up to {most:g}: they become 1; "
            f'"intensity_scale": {guess} (the largest that the sensor gives) divides them'
        )
    if below > CLIPPED:
        return f"expected values from 0 on, got {below:.0%} below, down to {least:g}: they become 0"
    if len(values) >= ENOUGH and least == most:
        return f"expected values that differ, got {most:g} only"
    if scale > 1 and 0 < scaled.max() < 0.01:
        return f"expected values up to {scale:g}, got none above {most:g}: divided already?"
    return None


def _rings(access: FolderAccess, entry: LidarEntry, frame: str, table: np.ndarray) -> np.ndarray | None:
    """The beam of each row; ``None`` where no column tells, or one tells something else."""
    name = next((column for column in RING_COLUMNS if column in entry.columns), None)
    if name is None:
        return None
    rings = table[:, entry.columns.index(name)]
    if np.isfinite(rings).all() and np.abs(rings).max() < 2**31:
        return rings.astype(np.int32)
    access.doubt(
        "rings", entry.file, f"{frame}: lidar.columns.{name}", "expected beam numbers, got others too"
    )
    return None


def _colors(table: np.ndarray, entry: LidarEntry, where: str) -> np.ndarray | None:
    """RGB in [0, 1], 0 where it is not finite; ``None`` where a column is missing."""
    found = {
        m[1]: (column, float(m[2] or 1)) for column, m in enumerate(map(COLORS.fullmatch, entry.columns)) if m
    }
    if len(found) < 3:
        return None
    places, scales = zip(*(found[name] for name in "rgb"), strict=True)
    colors = np.nan_to_num((table[:, places] / np.asarray(scales)).astype(np.float32), posinf=0, neginf=0)
    if len(colors) and (colors.min() < 0 or colors.max() > 1 + 1e-6):
        column = entry.columns[places[int(np.abs(colors - 0.5).max(0).argmax())]]
        raise SceneFolderError(
            f"{where}: lidar.columns: {column}: expected colours from 0 to {max(scales):g}, got "
            f"{colors.min() * max(scales):g} to {colors.max() * max(scales):g}; a name such as "
            f"{column[0]}_0_255 says another range"
        )
    return colors


def _normals(table: np.ndarray, entry: LidarEntry) -> np.ndarray | None:
    """Unit normals, 0 where a row has none; ``None`` where a column is missing."""
    if not set(NORMALS) <= set(entry.columns):
        return None
    rows = table[:, [entry.columns.index(name) for name in NORMALS]].astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    known = np.isfinite(length) & (length > 0)
    return np.where(known, rows / np.where(known, length, 1), 0).astype(np.float32)
