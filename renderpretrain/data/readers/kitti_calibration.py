"""KITTI's calibration: matrices in lines ``name: numbers``, and the cameras of its rectified rig."""

from typing import Any

import numpy as np

from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.readers.tables import numbers_in

COLUMNS = ["x", "y", "z", "reflectance_0_1"]
"""Of every sweep of the Velodyne; x forward, y left, z up."""


def matrix_of(calibration: dict[str, str], key: str, where: str, width: int = 4) -> np.ndarray:
    """A matrix of three rows of a calibration file as 4x4.

    Args:
        calibration: Its lines, see :func:`~renderpretrain.data.readers.tables.named_numbers`.
        key: The line's name.
        where: What messages call the file.
        width: Columns of the matrix, 3 or 4.

    Raises:
        SceneFolderError: If there is no such line, or it has other than so many finite numbers.
    """
    words = calibration.get(key, "").split()
    matrix = np.eye(4)
    matrix[:3, :width] = np.reshape(numbers_in(words, 3 * width, f"{where}: {key}"), (3, width))
    return matrix


def rotation_and_translation(calibration: dict[str, str], where: str) -> np.ndarray:
    """The motion of a calibration file with the lines ``R`` and ``T``, 4x4; as :func:`matrix_of`."""
    motion = matrix_of(calibration, "R", where, 3)
    motion[:3, 3] = numbers_in(calibration.get("T", "").split(), 3, f"{where}: T")
    return motion


def rectified_camera(
    file: str, size: tuple[int, int], projection: np.ndarray, to_rectified: np.ndarray, where: str
) -> dict[str, Any]:
    """What ``frames.json`` says of a camera: its projection has the baseline in its last column.

    Args:
        file: The picture.
        size: ``(height, width)`` of the picture.
        projection: 4x4, from the rectified frame of camera 0 to pixels.
        to_rectified: 4x4, from the LiDAR to that frame.
        where: What messages call the projection.

    Raises:
        SceneFolderError: If the projection has no focal length.
    """
    shift = np.eye(4)
    try:
        shift[:3, 3] = np.linalg.solve(projection[:3, :3], projection[:3, 3])
    except np.linalg.LinAlgError:
        rows = projection[:3, :3].tolist()
        raise SceneFolderError(f"{where}: expected an invertible matrix, got {brief(rows)}") from None
    return {
        "file": file,
        "width": size[1],
        "height": size[0],
        "intrinsics": projection[:3, :3].tolist(),
        "lidar_to_camera": (shift @ to_rectified).tolist(),
        "lidar_to_rectified_cam0": to_rectified.tolist(),
    }
