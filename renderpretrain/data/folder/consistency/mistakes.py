"""Mistakes that people make with matrices, each as the change that mends it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from renderpretrain.data.formats.quaternions import quaternion_of, rotations

Change = Callable[[np.ndarray], np.ndarray]

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""The motion from a camera with y up that looks along -z to one with y down that looks along +z, and back."""

BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
"""Leads from x forward, y left, z up to a camera's x right, y down, z forward."""


@dataclass(frozen=True)
class Mistake:
    """What might be wrong, and how things would be were it mended.

    Attributes:
        name: Completes "expected ...".
        pose: From the 4x4 pose as given to the right one.
        own_axes: 4x4 from the sensor's axes as given to the right ones.
        lidar_axes: 4x4 from the right axes of the LiDAR to those as given.
        intrinsics: What the intrinsics must be multiplied with.
        depth: What depths must be multiplied with.
    """

    name: str
    pose: Change = lambda pose: pose
    own_axes: np.ndarray = field(default_factory=lambda: np.eye(4))
    lidar_axes: np.ndarray = field(default_factory=lambda: np.eye(4))
    intrinsics: int | float = 1.0
    depth: int | float = 1.0


def inverted(pose: np.ndarray) -> np.ndarray:
    """The inverse of a rigid motion, 4x4."""
    return np.linalg.inv(pose)


def transposed(pose: np.ndarray) -> np.ndarray:
    """The rotation transposed, the translation as it is."""
    changed = pose.copy()
    changed[:3, :3] = pose[:3, :3].T
    return changed


def scaled(factor: int | float) -> Change:
    """A change of the translation's unit."""

    def change(pose: np.ndarray) -> np.ndarray:
        changed = pose.copy()
        changed[:3, 3] *= factor
        return changed

    return change


def reordered(*places: int) -> Change:
    """A change of the order in which the numbers of the rotation's quaternion were read.

    Args:
        places: Of the right w, x, y, z among those that were taken for them.
    """

    def change(pose: np.ndarray) -> np.ndarray:
        changed = pose.copy()
        changed[:3, :3] = rotations(quaternion_of(pose[:3, :3])[None, places])[0]
        return changed

    return change


def turned(degrees: int | float) -> np.ndarray:
    """A 4x4 rotation about the z axis, counter-clockwise."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    pose = np.eye(4)
    pose[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return pose


AS_GIVEN = Mistake("what is given")

OF_RIGID_POSES = (
    Mistake("poses inverted", inverted),
    Mistake("rotations transposed", transposed),
    Mistake("quaternions read as x, y, z, w, where w, x, y, z was read", reordered(3, 0, 1, 2)),
    Mistake("quaternions read as w, x, y, z, where x, y, z, w was read", reordered(1, 2, 3, 0)),
)
"""Any pose may have these, whatever its unit."""

OF_POSES = (
    *OF_RIGID_POSES,
    Mistake("translations a thousandth, from millimetres", scaled(1e-3)),
)
"""And these, where metres are expected."""

OF_CAMERAS = (
    Mistake("axes changed from OpenGL's (y up, z back) to x right, y down, z forward", own_axes=OPENGL),
    Mistake("axes changed from x forward, y left, z up to x right, y down, z forward", own_axes=BODY),
    Mistake("intrinsics halved", intrinsics=0.5),
    Mistake("intrinsics doubled", intrinsics=2.0),
)
"""Mistakes that are made with a camera."""

OF_LIDAR_AXES = tuple(
    Mistake(f"LiDAR axes turned by {degrees} degrees about z", lidar_axes=turned(degrees))
    for degrees in (90, -90, 180)
)
"""And these what is relative to a LiDAR: x forward in some data sets, y forward in others."""


def spread(count: int, most: int) -> list[int]:
    """At most so many of ``range(count)``, evenly over all of it, in order."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
