"""SUN RGB-D (https://rgbd.cs.princeton.edu): single pictures with depth, of four sensors.

A view is a folder anywhere below ``PATH``: ``image/*.jpg``, ``depth_bfx/*.png`` (or ``depth/*.png``), the
nine numbers of ``intrinsics.txt`` and ``extrinsics/*.txt``, the tilt. As the authors' ``read3dPoints.m`` does
it: a depth is 16 bits, millimetres rotated to the left by three; a point (right, down, forward) of the camera
is ``tilt @ (right, forward, -down)`` in a frame with z up, whose origin is the camera. The principal point
counts pixels from 1, as MATLAB does. Every view is a room of its own.
"""

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.rgbd import stride_of
from renderpretrain.data.readers.tables import numbers_in, picture_size, text_of
from renderpretrain.data.readers.views import Listing

DEPTHS = ("depth_bfx", "depth")
"""Folders of depth images; of the first holes are filled from neighbouring frames."""

DEEPEST = 8
"""Folders between the root and a view: the sensor, the part, the building, the room."""

TO_UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""From (right, down, forward) to (right, forward, up), before the tilt."""


def read_sunrgbd(access: FolderAccess, stride: int = 1) -> dict[str, Any]:
    """The views of a folder, as ``frames.json`` would describe them.

    Args:
        access: Of the folder.
        stride: Every so many-th view.

    Raises:
        SceneFolderError: If there is none.
    """
    listing = Listing(access)
    views = _views(access, listing, "", DEEPEST)[::stride]
    if not views:
        raise SceneFolderError(
            f"{access.path}: expected folders with image, depth_bfx or depth, intrinsics.txt and extrinsics, "
            "got none"
        )
    return {
        "format": "posed_rgbd",
        "dataset": "SUN RGB-D",
        "depth_scale": 1000,
        "depth_rotated": 3,
        "views_per_scene": 1,
        "frames": [_frame(access, listing, view) for view in views],
    }


def _views(access: FolderAccess, listing: Listing, folder: str, deeper: int) -> list[str]:
    """Folders of views, in order."""
    if listing.has(_within(folder, "intrinsics.txt")):
        return [folder]
    if not deeper:
        return []
    names = [name for name in access.names(folder) if (access.path / folder / name).is_dir()]
    return [view for name in names for view in _views(access, listing, _within(folder, name), deeper - 1)]


def _within(folder: str, name: str) -> str:
    """The path of an entry of a folder."""
    return f"{folder}/{name}" if folder else name


def _frame(access: FolderAccess, listing: Listing, view: str) -> dict[str, Any] | UnreadFrame:
    """One view."""
    try:
        color = _only(access, _within(view, "image"), (".jpg", ".png"))
        height, width = picture_size(access, color, "picture")
        folder = next((name for name in DEPTHS if listing.has(_within(view, name))), DEPTHS[-1])
        tilt = _only(access, _within(view, "extrinsics"), (".txt",), last=True)
        return {
            "frame_id": PurePosixPath(view).name or access.path.name,
            "scene": view,
            "color": color,
            "width": width,
            "height": height,
            "depth": _only(access, _within(view, folder), (".png",)),
            "intrinsics": _intrinsics(access, _within(view, "intrinsics.txt")),
            "camera_to_world": _pose(access, tilt),
        }
    except SceneFolderError as error:
        return UnreadFrame(str(error))


def _only(access: FolderAccess, folder: str, ends: tuple[str, ...], *, last: bool = False) -> str:
    """The file of a folder that has one; of extrinsics that were estimated again, the last by its date."""
    names = [name for name in access.names(folder) if name.lower().endswith(ends)]
    if not names or (len(names) > 1 and not last):
        raise SceneFolderError(f"{access.path / folder}: expected one {' or '.join(ends)}, got {len(names)}")
    return _within(folder, names[-1])


def _intrinsics(access: FolderAccess, file: str) -> list[list[float]]:
    """The 3x3 matrix, pixels counted from 0."""
    matrix = np.reshape(numbers_in(text_of(access, file).split(), 9, str(access.path / file)), (3, 3))
    matrix[:2, 2] -= 1
    rows: list[list[float]] = matrix.tolist()
    return rows


def _pose(access: FolderAccess, file: str) -> list[list[float]]:
    """Where the camera looks, in a frame with z up around it."""
    tilt = np.reshape(numbers_in(text_of(access, file).split(), 12, str(access.path / file)), (3, 4))
    pose = np.eye(4)
    pose[:3, :3] = tilt[:, :3] @ TO_UPRIGHT
    rows: list[list[float]] = pose.tolist()
    return rows


SUNRGBD = Reader("sunrgbd", read_sunrgbd, "", {"stride": (stride_of, "a whole number of at least 1")})
