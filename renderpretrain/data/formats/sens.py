"""ScanNet's recordings, ``.sens`` of version 4: pictures, depth images and poses in one file."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from renderpretrain.data.formats.unpacking import inflate

COLOR_FORMS = {0: "raw", 1: "png", 2: "jpeg"}
"""How pictures are stored."""

DEPTH_FORMS = {0: "raw", 1: "zlib"}
"""How depth images of 16-bit integers are stored."""

FRAME_BYTES = 96
"""Before the picture of a frame: the pose, two time stamps, two sizes."""

LONGEST_SIDE = 65535
"""Pixels of a picture."""


@dataclass(frozen=True)
class Sens:
    """Where everything lies in a recording.

    Attributes:
        color_size: ``(height, width)`` of the pictures.
        depth_size: Of the depth images.
        color_intrinsics: 3x3; integer pixel (0, 0) is the first pixel's centre.
        depth_intrinsics: 3x3, of the depth camera.
        color_to_depth: Extrinsics of the colour camera as stored, 4x4.
        depth_to_color: Extrinsics of the depth camera as stored, 4x4.
        color_form: ``raw``, ``png`` or ``jpeg``.
        depth_form: ``raw`` or ``zlib``.
        depth_shift: Stored units of depth per metre.
        camera_to_world: ``(frames, 4, 4)`` float32; infinite where tracking was lost.
        color_times: Microseconds, one per frame.
        depth_times: Microseconds, one per frame.
        color_spans: ``(frames, 2)``: first byte and number of bytes of every picture in the file.
        depth_spans: Of every depth image.
    """

    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    color_intrinsics: np.ndarray
    depth_intrinsics: np.ndarray
    color_to_depth: np.ndarray
    depth_to_color: np.ndarray
    color_form: str
    depth_form: str
    depth_shift: float
    camera_to_world: np.ndarray
    color_times: np.ndarray
    depth_times: np.ndarray
    color_spans: np.ndarray
    depth_spans: np.ndarray

    def __len__(self) -> int:
        return len(self.camera_to_world)

    def depth_image(self, raw: bytes) -> np.ndarray:
        """The stored integers of a depth image, uint16 ``(height, width)``, from its bytes in the file.

        Raises:
            ValueError: If they are damaged or of another size.
        """
        height, width = self.depth_size
        pixels = inflate(raw, 2 * height * width) if self.depth_form == "zlib" else raw
        if len(pixels) != 2 * height * width:
            raise ValueError(f"expected {2 * height * width} bytes of depth, got {len(pixels)}")
        return np.frombuffer(pixels, "<u2").reshape(height, width)


def index_sens(stream: Any) -> Sens:
    """What a recording holds, without its pictures.

    Args:
        stream: The file; has ``read`` and ``seek``.

    Raises:
        ValueError: If it is no such recording, or ends before its last frame does.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    matrices, forms, (width, height, depth_width, depth_height) = _header(stream)
    (shift,) = _numbers(stream, "<f4", 1).tolist()
    if not 1 <= shift <= 1e6:
        raise ValueError(f"expected 1 to 1e6 units of depth a metre, got {shift:g}")
    (count,) = _numbers(stream, "<u8", 1).tolist()
    poses, times, spans = _frames(stream, count, end)
    return Sens(
        color_size=(height, width),
        depth_size=(depth_height, depth_width),
        color_intrinsics=matrices[0, :3, :3],
        depth_intrinsics=matrices[2, :3, :3],
        color_to_depth=matrices[1],
        depth_to_color=matrices[3],
        color_form=COLOR_FORMS[forms[0]],
        depth_form=DEPTH_FORMS[forms[1]],
        depth_shift=shift,
        camera_to_world=poses,
        color_times=times[:, 0],
        depth_times=times[:, 1],
        color_spans=spans[:, 0],
        depth_spans=spans[:, 1],
    )


def _header(stream: Any) -> tuple[np.ndarray, list[int], list[int]]:
    """Four matrices, the codes of two forms of pictures, and their widths and heights."""
    (version,) = _numbers(stream, "<u4", 1)
    if version != 4:
        raise ValueError(f"expected a recording of version 4, got {version}")
    (length,) = _numbers(stream, "<u8", 1)
    if length > 4096:
        raise ValueError(f"expected the name of a sensor, got {length} bytes")
    _bytes(stream, int(length))
    with np.errstate(invalid="ignore"):  # numbers that are none stay so
        matrices = _numbers(stream, "<f4", 64).reshape(4, 4, 4).astype(np.float64)
    forms = _numbers(stream, "<i4", 2).tolist()
    if forms[0] not in COLOR_FORMS or forms[1] not in DEPTH_FORMS:
        raise ValueError(f"expected pictures raw, png or jpeg and depth raw or zlib, got the codes {forms}")
    sizes = _numbers(stream, "<u4", 4).tolist()
    if not all(0 < n <= LONGEST_SIDE for n in sizes):
        raise ValueError(f"expected widths and heights of pictures, got {sizes}")
    return matrices, forms, sizes


def _frames(stream: Any, count: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses, time stamps, and where the pictures lie."""
    place = stream.tell()
    if count * FRAME_BYTES > end - place:
        raise ValueError(f"expected {count} frames, got {end - place} bytes")
    poses = np.empty((count, 4, 4), np.float32)
    times = np.empty((count, 2), np.uint64)
    spans = np.empty((count, 2, 2), np.int64)
    for frame in range(count):
        poses[frame] = _numbers(stream, "<f4", 16).reshape(4, 4)
        numbers = _numbers(stream, "<u8", 4)
        times[frame] = numbers[:2]
        color, depth = (int(n) for n in numbers[2:])
        place += FRAME_BYTES
        if color + depth > end - place:
            raise ValueError(f"expected {color + depth} bytes of frame {frame}, got {end - place}")
        spans[frame] = (place, color), (place + color, depth)
        place += color + depth
        stream.seek(place)
    return poses, times, spans


def _numbers(stream: Any, kind: str, count: int) -> np.ndarray:
    """The next numbers of a stream."""
    return np.frombuffer(_bytes(stream, count * np.dtype(kind).itemsize), kind)


def _bytes(stream: Any, count: int) -> bytes:
    """The next bytes of a stream."""
    found = stream.read(count)
    if len(found) < count:
        raise ValueError(f"expected {count} more bytes of the recording, got its end")
    return found
