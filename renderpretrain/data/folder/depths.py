"""Depth images and pictures of classes: one integer a pixel; a fault names file, frame and field."""

import numpy as np

from renderpretrain.data.folder.classes import StoredClasses
from renderpretrain.data.folder.fields import MOST_PIXELS, SceneFolderError
from renderpretrain.data.folder.pictures import DEEP, PICTURE_BYTES, PictureFile, of_another_size, opened
from renderpretrain.data.folder.schema import DepthLayout, StoredDepths
from renderpretrain.data.formats.unpacking import inflate


def read_depth(entry: PictureFile, stored: StoredDepths) -> np.ndarray:
    """A depth image as float32 metres along the optical axis; 0 where nothing was measured.

    Its size is its own: any with the shape of ``entry``'s.

    Args:
        entry: The file.
        stored: What its numbers mean.

    Raises:
        SceneFolderError: As :func:`read_image`.
    """
    values = _integers(entry)
    if stored.rotated:
        wide = values.astype(np.uint32)
        values = (wide >> stored.rotated | wide << (16 - stored.rotated)).astype(np.uint16)
    scale, invalid = stored.scale, stored.invalid
    if invalid is None:
        invalid = [255 if values.dtype == np.uint8 else DEEP]
        share = float((values == invalid[0]).mean())
        if share > 0:
            entry.doubt(
                "depth at the largest integer",
                f"expected measurements, got {invalid[0]} in {share:.1%} of the pixels, which is taken for "
                f'"nothing measured"; "depth_invalid": {invalid[0]} says so, "depth_invalid": [] denies it',
            )
    if values.dtype == np.uint8 and scale > 255:
        entry.doubt(
            "depth bits", f"expected 16 bits, got 8: at most {255 / scale:.2g} m; a picture of depth?"
        )
    measured = ~np.isin(values, [0, *invalid])
    if not measured.any():
        entry.doubt(
            "no depth",
            f"expected measured pixels, got {'none' if values.any() else 'zeros only'}",
        )
    return np.where(measured, values, 0).astype(np.float32) / np.float32(scale)


def read_classes(entry: PictureFile, classes: StoredClasses) -> np.ndarray:
    """A picture of class numbers as int64, of any size with the shape of ``entry``'s.

    Args:
        entry: The file.
        classes: Which stored numbers are classes; others become -1.

    Raises:
        SceneFolderError: As :func:`read_image`.
    """
    return classes.of(_integers(entry), entry.doubt)


def _integers(entry: PictureFile) -> np.ndarray:
    """A picture with one integer of at most 16 bits per pixel."""
    if entry.layout is not None:
        return _laid_out(entry, *entry.layout)
    with entry.access.open(entry.name, entry.where, PICTURE_BYTES, "image") as stream:
        try:
            image = opened(entry, stream)
            size = (image.height, image.width)
            if size[0] * size[1] > MOST_PIXELS or not _alike(size, entry.size):
                raise of_another_size(entry, size)
            values = np.asarray(image)
        except SceneFolderError:
            raise
        except Exception as error:  # of someone else's file, Pillow raises anything
            raise entry.fault(f"expected a readable image, got: {error}") from error
    if values.ndim != 2 or values.dtype.kind not in "iu":
        raise entry.fault(f"expected one integer per pixel, got {values.dtype} {values.shape}")
    if values.min() < 0 or values.max() > DEEP:
        raise entry.fault(f"expected integers of 16 bits, got {values.min()} to {values.max()}")
    return values


def _laid_out(entry: PictureFile, layout: DepthLayout, size: tuple[int, int]) -> np.ndarray:
    """Rows of 16-bit integers that are no picture's file."""
    if size[0] * size[1] > MOST_PIXELS or not _alike(size, entry.size):
        raise of_another_size(entry, size)
    raw, count = entry.access.read(entry.name, entry.where, PICTURE_BYTES), 2 * size[0] * size[1]
    try:
        raw = inflate(raw, count) if layout == "zlib16" else raw
    except ValueError as error:
        raise entry.fault(str(error)) from error
    if len(raw) != count:
        raise entry.fault(f"expected {count} bytes, {size[1]} x {size[0]} integers, got {len(raw)}")
    return np.frombuffer(raw, "<u2").reshape(size)


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one is the other resampled: ScanNet's 640 x 480 is 1296 x 968 within half a percent."""
    off = abs(size[0] * other[1] - size[1] * other[0])
    return off <= max(0.02 * size[1] * other[0], *other)
