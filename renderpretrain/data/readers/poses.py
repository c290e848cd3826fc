"""From what data sets store for poses and headings to matrices and angles."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.formats.quaternions import pose_from_quaternion


def stored_pose(numbers: Sequence[Any] | np.ndarray, where: str) -> np.ndarray:
    """The 4x4 pose of a quaternion ``w, x, y, z`` and a translation; an error names ``where`` it stands.

    Raises:
        SceneFolderError: If they are not finite, or the quaternion has not about unit length.
    """
    try:
        return pose_from_quaternion(numbers)
    except ValueError as error:
        raise SceneFolderError(f"{where}: {error}") from None


def heading_of(motion: np.ndarray, ahead: Sequence[float]) -> float:
    """The yaw about z of a direction after a motion, radians."""
    x, y, _ = motion[:3, :3] @ np.asarray(ahead)
    return math.atan2(y, x)
