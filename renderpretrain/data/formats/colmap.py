"""Models of COLMAP, as text and binary: cameras, posed pictures, and points.

Coordinates of pixels are COLMAP's: (0.5, 0.5) is the centre of the first pixel.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from renderpretrain.data.folder.fields import brief
from renderpretrain.data.formats.quaternions import pose_from_quaternion

MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV")
"""Camera models that are read, by their numbers in binary files."""

OTHER_MODELS = ("FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE")
"""Camera models that follow and are not read."""

NUM_PARAMETERS = dict(zip(MODELS, (3, 4, 4, 5, 8, 8, 12), strict=True))
"""Numbers of each model."""

LONGEST_NAME = 4096
"""Bytes of a picture's name."""


@dataclass(frozen=True)
class ColmapCamera:
    """A camera with its lens.

    Attributes:
        model: One of :data:`MODELS`.
        width: Pixels.
        height: Pixels.
        parameters: As COLMAP orders them for the model.
    """

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]

    @property
    def intrinsics(self) -> np.ndarray:
        """3x3, with (0.5, 0.5) in the centre of the first pixel."""
        numbers = list(self.parameters)
        if self.model.startswith("SIMPLE") or self.model == "RADIAL":
            numbers.insert(0, numbers[0])
        fx, fy, cx, cy = numbers[:4]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    @property
    def is_fisheye(self) -> bool:
        """Whether :attr:`distortion` is a fisheye's k1 to k4."""
        return self.model == "OPENCV_FISHEYE"

    @property
    def distortion(self) -> tuple[float, ...]:
        """OpenCV's k1, k2, p1, p2, k3, or k1, k2, k3, k4 of a fisheye; nothing without a lens."""
        if self.model in ("SIMPLE_RADIAL", "RADIAL"):
            return (*self.parameters[3:], *(0.0,) * (8 - len(self.parameters)))
        coefficients = self.parameters[4:] if self.model != "SIMPLE_PINHOLE" else ()
        return coefficients[:5] if len(coefficients) != 4 or self.is_fisheye else (*coefficients, 0.0)


@dataclass(frozen=True)
class ColmapImage:
    """A picture with its pose.

    Attributes:
        name: Its path below the folder of pictures.
        camera: Number of its camera.
        world_to_camera: 4x4.
        keypoints: ``(K, 2)`` pixels.
        point_ids: ``(K,)`` number of the point that each shows, -1 for none.
    """

    name: str
    camera: int
    world_to_camera: np.ndarray
    keypoints: np.ndarray
    point_ids: np.ndarray


@dataclass(frozen=True)
class ColmapPoints:
    """The points of a model.

    Attributes:
        ids: ``(P,)`` their numbers.
        positions: ``(P, 3)`` in the model's world and unit.
        colors: ``(P, 3)`` RGB, uint8.
        errors: ``(P,)`` mean distance of projections from keypoints, pixels.
    """

    ids: np.ndarray
    positions: np.ndarray
    colors: np.ndarray
    errors: np.ndarray


def read_cameras(raw: bytes, *, binary: bool) -> dict[int, ColmapCamera]:
    """The cameras of ``cameras.txt`` or ``cameras.bin`` by their numbers.

    Raises:
        ValueError: If the file is damaged, or a camera has a model that is not read.
    """
    return dict(_binary_cameras(raw) if binary else map(_text_camera, _rows(raw)))


def read_images(raw: bytes, *, binary: bool) -> dict[int, ColmapImage]:
    """The pictures of ``images.txt`` or ``images.bin`` by their numbers.

    Raises:
        ValueError: If the file is damaged, or a pose is none.
    """
    return dict(_binary_images(raw) if binary else _text_images(raw))


def read_points(raw: bytes, *, binary: bool) -> ColmapPoints:
    """The points of ``points3D.txt`` or ``points3D.bin``.

    Raises:
        ValueError: If the file is damaged.
    """
    rows = list(_binary_points(raw) if binary else map(_text_point, _rows(raw)))
    ids, numbers = [row[0] for row in rows], np.array([row[1:] for row in rows], float).reshape(-1, 7)
    if not np.isfinite(numbers).all() or ((numbers[:, 3:6] < 0) | (numbers[:, 3:6] > 255)).any():
        raise ValueError("expected points with finite places and colours from 0 to 255, got others")
    colors = numbers[:, 3:6].astype(np.uint8)
    return ColmapPoints(np.array(ids, np.int64), numbers[:, :3], colors, numbers[:, 6])


def _camera(number: int, model: str, size: tuple[int, int], values: tuple[float, ...]) -> ColmapCamera:
    """A camera, or an error that names what is wrong with it."""
    if model not in MODELS:
        raise ValueError(
            f"camera {number}: expected a model of {', '.join(MODELS)}, got {brief(model)}: undistort first"
        )
    if len(values) != NUM_PARAMETERS[model] or not np.isfinite(values).all():
        raise ValueError(f"camera {number}: expected {NUM_PARAMETERS[model]} numbers, got {brief(values)}")
    if not all(0 < side < 65536 for side in size):
        raise ValueError(f"camera {number}: expected a size in pixels, got {size[0]} x {size[1]}")
    if model == "FULL_OPENCV" and any(values[9:]):
        raise ValueError(
            f"camera {number}: expected k4, k5, k6 of 0, got {brief(values[9:])}: undistort first"
        )
    return ColmapCamera(model, *size, values)


def _image(
    number: int, pose: tuple[float, ...], camera: int, name: bytes, keypoints: np.ndarray, ids: np.ndarray
) -> ColmapImage:
    """A picture, or an error that names what is wrong with it."""
    try:
        motion = pose_from_quaternion(pose)
    except ValueError as error:
        raise ValueError(f"image {number}: {error}") from None
    try:
        return ColmapImage(name.decode(), camera, motion, keypoints, ids)
    except UnicodeDecodeError:
        raise ValueError(f"image {number}: expected a name in UTF-8, got {brief(name)}") from None


def _rows(raw: bytes) -> Iterator[list[bytes]]:
    """The words of every line that is no comment."""
    for line in raw.splitlines():
        words = line.split()
        if words and not words[0].startswith(b"#"):
            yield words


def _whole(word: bytes) -> int:
    """A whole number of at most 18 digits."""
    if len(word) > 18:
        raise ValueError
    return int(word)


def _text_camera(words: list[bytes]) -> tuple[int, ColmapCamera]:
    """A line of ``cameras.txt``."""
    try:
        number, size = _whole(words[0]), (_whole(words[2]), _whole(words[3]))
        values = tuple(map(float, words[4:]))
    except (ValueError, IndexError):
        raise ValueError(
            f"expected number, model, size and numbers of a camera, got {_shown(words)}"
        ) from None
    return number, _camera(number, words[1].decode("latin-1"), size, values)


def _text_images(raw: bytes) -> Iterator[tuple[int, ColmapImage]]:
    """The pairs of lines of ``images.txt``; the second of a pair may be empty."""
    lines = iter(raw.splitlines())
    for line in lines:
        words = line.split(maxsplit=9)
        if not words or words[0].startswith(b"#"):
            continue
        try:
            number, camera = _whole(words[0]), _whole(words[8])
            pose = tuple(map(float, words[1:8]))
            seen = np.array(next(lines, b"").split(), dtype=bytes).reshape(-1, 3)
            keypoints, ids = seen[:, :2].astype(np.float64), seen[:, 2].astype(np.int64)
            name = words[9].rstrip()
        except (ValueError, IndexError, OverflowError):
            raise ValueError(f"expected a picture's pose, name and keypoints, got {_shown(words)}") from None
        yield number, _image(number, pose, camera, name, keypoints, ids)


def _text_point(words: list[bytes]) -> tuple[int | float, ...]:
    """A line of ``points3D.txt``."""
    try:
        values = (_whole(words[0]), *map(float, words[1:8]))
    except ValueError:
        values = ()
    if len(values) != 8 or len(words) % 2:
        raise ValueError(f"expected number, place, colour, error and track of a point, got {_shown(words)}")
    return values


def _shown(words: list[bytes]) -> str:
    """A line as messages show it."""
    return brief(b" ".join(words[:12])[:200].decode("latin-1"))


class _Bytes:
    """A binary file that is read from its start."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.place = raw, 0

    def take(self, form: str) -> tuple:
        """The next numbers."""
        size = struct.calcsize(form)
        self.check(size)
        self.place += size
        return struct.unpack_from(form, self.raw, self.place - size)

    def check(self, size: int) -> None:
        """Refuse to go on where so many bytes are not left."""
        if size > len(self.raw) - self.place:
            raise ValueError(f"expected {size} more bytes, got {len(self.raw) - self.place}")

    def count(self, least: int) -> int:
        """How many things follow, which have so many bytes each at the least."""
        (count,) = self.take("<Q")
        self.check(count * least)
        return count


def _binary_cameras(raw: bytes) -> Iterator[tuple[int, ColmapCamera]]:
    """The cameras of ``cameras.bin``."""
    file = _Bytes(raw)
    for _ in range(file.count(48)):
        number, model, width, height = file.take("<iiQQ")
        names = dict(enumerate((*MODELS, *OTHER_MODELS)))
        name = names.get(model, f"number {model}")
        values = file.take(f"<{NUM_PARAMETERS.get(name, 0)}d")
        yield number, _camera(number, name, (width, height), values)


def _binary_images(raw: bytes) -> Iterator[tuple[int, ColmapImage]]:
    """The pictures of ``images.bin``."""
    file = _Bytes(raw)
    for _ in range(file.count(73)):
        number, *pose, camera = file.take("<i7di")
        end = raw.find(b"\0", file.place, file.place + LONGEST_NAME)
        if end < 0:
            raise ValueError(
                f"image {number}: expected a name that ends, got {brief(raw[file.place :][:90])}"
            )
        name, file.place = raw[file.place : end], end + 1
        seen = np.frombuffer(raw, [("place", "<f8", 2), ("id", "<i8")], file.count(24), file.place)
        file.place += seen.nbytes
        yield number, _image(number, tuple(pose), camera, name, seen["place"], seen["id"])


def _binary_points(raw: bytes) -> Iterator[tuple[int | float, ...]]:
    """The points of ``points3D.bin``."""
    file = _Bytes(raw)
    for _ in range(file.count(51)):
        values = file.take("<q3d3Bd")
        track = file.count(8)
        file.place += 8 * track
        yield values
