"""Poses as most formats store them: a quaternion and a translation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from renderpretrain.data.folder.fields import brief

OFF = 0.01
"""How far the length of a quaternion may be from 1: published ones are rounded, others are none."""


def pose_from_quaternion(numbers: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The 4x4 pose of a unit quaternion ``w, x, y, z`` and a translation ``x, y, z``.

    Args:
        numbers: These seven.

    Raises:
        ValueError: If they are not finite numbers, or the quaternion has not about unit length.
    """
    try:
        values = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    length = float(np.linalg.norm(np.clip(values[:4], -2, 2))) if values.shape == (7,) else 0.0
    if not abs(length - 1) <= OFF or not np.isfinite(values).all():
        raise ValueError(f"expected a unit quaternion and a translation, got {brief(list(numbers))}")
    pose = np.eye(4)
    pose[:3, :3] = rotations(values[None, :4])[0]
    pose[:3, 3] = values[4:]
    return pose


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """The unit quaternion ``(4,)`` w, x, y, z of a rotation ``(3, 3)``, up to its sign."""
    m = rotation
    # The eigenvector of the largest eigenvalue of this matrix (Bar-Itzhack 2000); eigh reads the lower half.
    rows = [
        [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
        [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
        [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
    ]
    return np.roll(np.linalg.eigh(np.array(rows)).eigenvectors[:, -1], 1)


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Rotations ``(N, 3, 3)`` of quaternions ``(N, 4)`` w, x, y, z of any length; that of 0 is not finite."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)).T
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    return np.moveaxis(np.array(rows), -1, 0)
