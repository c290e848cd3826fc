"""The raw files beside ``frames.json``: sweeps, pictures, depth images; a fault names file and frame."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from renderpretrain.data.folder_schema import LidarEntry, SceneFolderError

RING_COLUMNS = ("ring", "laser_number", "laser_id", "beam")
"""Columns that say which beam measured a point."""

SCALED = re.compile(r"(intensity|reflectance)(?:_0_([0-9.]+))?")
"""The column name carries the scale: ``intensity_0_255``, ``reflectance_0_1``."""

COLORS = re.compile(r"([rgb])(?:_0_([0-9.]+))?")
"""The same for colours: ``r``, ``g``, ``b`` in [0, 1], ``r_0_255``."""


@dataclass(frozen=True)
class Sweep:
    """One decoded sweep.

    Attributes:
        points: ``(P, 4)`` float32: x, y, z in metres in the LiDAR frame, intensity in [0, 1]. Finite.
        rings: ``(P,)`` beam numbers, or ``None``.
        labels: ``(P,)`` class numbers, or ``None``.
        dropped: Rows that were left out because a coordinate is not finite.
        colors: ``(P, 3)`` RGB in [0, 1], or ``None``.
        normals: ``(P, 3)`` unit normals, 0 where the file has none; or ``None``.
    """

    points: np.ndarray
    rings: np.ndarray | None
    labels: np.ndarray | None
    dropped: int
    colors: np.ndarray | None = None
    normals: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        held = (self.points, self.rings, self.labels, self.colors, self.normals)
        return sum(a.nbytes for a in held if a is not None)

    def moved(self, motion: np.ndarray) -> "Sweep":
        """The sweep in another frame, normals turned along; ``motion`` is 4x4."""
        points, turn = self.points.copy(), motion[:3, :3].T
        points[:, :3] = points[:, :3] @ turn + motion[:3, 3]
        normals = None if self.normals is None else (self.normals @ turn).astype(np.float32)
        return replace(self, points=points, normals=normals)


@dataclass(frozen=True)
class PictureFile:
    """A picture as ``frames.json`` declares it.

    Attributes:
        file: Where it lies.
        size: ``(height, width)``, pixels.
        frame: How messages call its frame.
    """

    file: Path
    size: tuple[int, int]
    frame: str

    def check(self, image: Image.Image) -> None:
        """Raise unless the picture has the declared size."""
        if (image.height, image.width) != self.size:
            raise SceneFolderError(
                f"{self.file}: {self.frame}: expected {self.size[1]} x {self.size[0]} pixels as frames.json "
                f"declares, got {image.width} x {image.height}"
            )

    def unreadable(self, error: Exception) -> SceneFolderError:
        """The error for a file that Pillow cannot read."""
        reason = _reason(error)
        return SceneFolderError(f"{self.file}: {self.frame}: expected a readable image, got: {reason}")


def read_sweep(folder: Path, entry: LidarEntry, frame: str) -> Sweep:
    """Decode a sweep and drop what is not finite.

    Raises:
        SceneFolderError: If a file is missing or truncated, or no point is left.
    """
    file = folder / entry.file
    where = f"{file}: {frame}"
    raw = _bytes(file, frame, "lidar.file")
    width = len(entry.columns) * np.dtype(entry.dtype).itemsize
    if len(raw) % width:
        raise SceneFolderError(
            f"{where}: lidar.file: expected a multiple of {width} bytes ({len(entry.columns)} columns of "
            f"{entry.dtype}), got {len(raw)} bytes"
        )
    table = np.frombuffer(raw, dtype=entry.dtype).reshape(-1, len(entry.columns))
    finite = np.isfinite(table).all(-1)
    if not finite.any():
        raise SceneFolderError(f"{where}: lidar.file: expected a finite point, got none in {len(table)} rows")
    points = np.concatenate([_coordinates(table, entry), _intensity(table, entry)[:, None]], -1)
    rings = next((table[:, entry.columns.index(c)] for c in RING_COLUMNS if c in entry.columns), None)
    labels = None if entry.semseg_file is None else _labels(folder / entry.semseg_file, frame, len(table))
    colors, normals = _colors(table, entry, where), _normals(table, entry)
    return Sweep(
        points=points[finite].astype(np.float32),
        rings=None if rings is None else rings[finite].astype(np.int32),
        labels=None if labels is None else labels[finite],
        dropped=int((~finite).sum()),
        colors=None if colors is None else colors[finite],
        normals=None if normals is None else normals[finite],
    )


def read_image(entry: PictureFile, image_size: tuple[int, int]) -> np.ndarray:
    """An RGB picture as uint8 ``(H, W, 3)``, averaged down (or interpolated up) to ``image_size``.

    Raises:
        SceneFolderError: If the picture is missing, broken or of another size than declared.
    """
    height, width = image_size
    try:
        with Image.open(entry.file) as image:
            entry.check(image)
            # JPEG decodes at 1/2, 1/4 or 1/8 for less work; only an exact division keeps the image edge to
            # edge.
            for factor in (8, 4, 2):
                whole = not image.height % factor and not image.width % factor
                if whole and image.height >= 2 * factor * height and image.width >= 2 * factor * width:
                    image.draft("RGB", (image.width // factor, image.height // factor))
                    break
            shrinks = height <= image.height and width <= image.width
            method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
            picture = image.convert("RGB")
            same = picture.size == (width, height)
            return np.array(picture if same else picture.resize((width, height), method))
    except (OSError, SyntaxError) as error:
        raise entry.unreadable(error) from error


def read_depth(entry: PictureFile, scale: float) -> np.ndarray:
    """A 16-bit depth image as float32 metres along the optical axis; 0 where nothing was measured.

    Raises:
        SceneFolderError: As :func:`read_image`.
    """
    return _integers(entry).astype(np.float32) / np.float32(scale)


def read_classes(entry: PictureFile) -> np.ndarray:
    """A picture of class numbers as int16.

    Raises:
        SceneFolderError: As :func:`read_image`.
    """
    return _integers(entry).astype(np.int16)


def _integers(entry: PictureFile) -> np.ndarray:
    """A picture with one integer per pixel."""
    try:
        with Image.open(entry.file) as image:
            entry.check(image)
            values = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise entry.unreadable(error) from error
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise SceneFolderError(
            f"{entry.file}: {entry.frame}: expected one integer per pixel, got {values.dtype} {values.shape}"
        )
    return values


def _reason(error: Exception) -> str:
    """Why a file could not be read, without its path."""
    return "nothing" if isinstance(error, FileNotFoundError) else str(error).replace("\n", " ")


def _bytes(file: Path, frame: str, field: str) -> bytes:
    """A file's content."""
    try:
        return file.read_bytes()
    except OSError as error:
        reason = _reason(error)
        raise SceneFolderError(
            f"{file}: {frame}: {field}: expected a readable file, got: {reason}"
        ) from error


def _coordinates(table: np.ndarray, entry: LidarEntry) -> np.ndarray:
    """x, y, z."""
    return table[:, [entry.columns.index(c) for c in "xyz"]]


def _intensity(table: np.ndarray, entry: LidarEntry) -> np.ndarray:
    """Intensity in [0, 1]; zeros where the file has none."""
    for column, name in enumerate(entry.columns):
        match = SCALED.fullmatch(name)
        if match:
            return np.clip(table[:, column] / float(match[2] or 1.0), 0, 1)
    return np.zeros(len(table), dtype=table.dtype)


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
    if not {"nx", "ny", "nz"} <= set(entry.columns):
        return None
    rows = table[:, [entry.columns.index(name) for name in ("nx", "ny", "nz")]].astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    known = np.isfinite(length) & (length > 0)
    return np.where(known, rows / np.where(known, length, 1), 0).astype(np.float32)


def _labels(file: Path, frame: str, count: int) -> np.ndarray:
    """One byte per point."""
    labels = np.frombuffer(_bytes(file, frame, "lidar.semseg_file"), dtype=np.uint8)
    if len(labels) != count:
        raise SceneFolderError(
            f"{file}: {frame}: lidar.semseg_file: expected {count} bytes, one per point, got {len(labels)}"
        )
    return labels.astype(np.int64)
