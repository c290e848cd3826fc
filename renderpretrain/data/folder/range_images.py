"""Sweeps that are rows of a table of range images."""

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import CLASS_COLUMN, ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.lidar_entry import LidarEntry, RangeImageEntry
from renderpretrain.data.formats.range_image import points_of_range_image

MOST_PIXELS = 2**24
"""Of a range image: the largest sensor has two hundred thousand."""


def range_image_columns(access: FolderAccess, entry: LidarEntry, where: str) -> dict[str, np.ndarray]:
    """The points of a sweep's range images, in the vehicle's frame at the time of the frame.

    The columns are ``x``, ``y``, ``z``, ``intensity``, squashed into [0, 1] by tanh because some returns are
    thousands of times as bright as others, ``elongation``, ``beam``, the row, and ``semseg``, the stored
    class number, 0 where the sensor has none.

    Args:
        access: How the folder's files are read.
        entry: What the index says of the sweep.
        where: Frame and field, for messages.

    Raises:
        SceneFolderError: If the index says nothing of a range image, a table has no such row, or its values
            are no image.
    """
    if entry.range_image is None:
        raise SceneFolderError(f"{access.path / entry.file}: {where}: expected range_image, got nothing")
    images = [
        _columns(access, entry.file, told, where) for told in (entry.range_image, *entry.further_images)
    ]
    return {name: np.concatenate([columns[name] for columns in images]) for name in images[0]}


def _columns(access: FolderAccess, file: str, told: RangeImageEntry, where: str) -> dict[str, np.ndarray]:
    """The points of one range image."""
    image = _image(access, file, told.row, told.column, where)
    poses = None
    if told.poses is not None:
        poses = _image(access, told.poses, told.poses_row, told.poses_column, where)
    sensor = np.array(told.sensor_to_vehicle)
    pose = None if told.frame_pose is None else np.array(told.frame_pose)
    try:
        if image.shape[2] < 3:
            raise ValueError(
                f"expected range, intensity and elongation, got {image.shape[2]} numbers a pixel"
            )
        points = points_of_range_image(image[..., 0], np.array(told.inclinations), sensor, poses, pose)
    except ValueError as error:
        raise SceneFolderError(f"{access.path / file}: {where}: row {told.row}: {error}") from None
    hit = image[..., 0] > 0
    columns = dict(zip("xyz", np.moveaxis(points[hit], -1, 0), strict=True))
    shine, elongation = (image[..., channel][hit] for channel in (1, 2))
    columns |= {"intensity": np.tanh(np.maximum(shine, 0)), "elongation": elongation}
    columns[CLASS_COLUMN] = _classes(access, told, where, hit)
    return {**columns, "beam": np.nonzero(hit)[0] + told.first_beam}


def _classes(access: FolderAccess, told: RangeImageEntry, where: str, hit: np.ndarray) -> np.ndarray:
    """The stored class number of each point: the second number of a pixel, after that of its object."""
    if told.semseg is None:
        return np.zeros(np.count_nonzero(hit))
    numbers = _image(access, told.semseg, told.semseg_row, told.semseg_column, where)
    if numbers.shape != (*hit.shape, 2):
        got = f"expected classes of the shape {(*hit.shape, 2)}, got {numbers.shape}"
        raise SceneFolderError(f"{access.path / told.semseg}: {where}: row {told.semseg_row}: {got}")
    return numbers[..., 1][hit]


def _image(access: FolderAccess, file: str, row: int, column: str, where: str) -> np.ndarray:
    """An image that a row of a table holds, ``(H, W, C)``."""
    names = [f"{column}.values", f"{column}.shape"]
    values, shape = access.row(file, row, names, where)
    try:
        shape, values = [int(n) for n in shape], np.asarray(values, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1 or shape[0] * shape[1] > MOST_PIXELS or values.ndim != 1:
            raise ValueError
        return values.reshape(shape)
    except ODD_VALUES:
        got = f"{brief(shape)} for {np.size(values)}"
        raise SceneFolderError(
            f"{access.path / file}: {where}: row {row}: expected values of a shape, got {got}"
        ) from None
