"""Recordings of posed photographs alone, without points and depth: where what they show lies."""

from pathlib import Path

import numpy as np

from renderpretrain.data.folder.access import INDEX, FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.geometry import room_shift
from renderpretrain.data.folder.index import INDEX_BYTES, placed_problems
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.schema import IndoorFolder
from renderpretrain.data.open import folder_arguments
from renderpretrain.data.words import DataWord

PHOTOGRAPHS = ("folder", "nerf", "colmap", "scannet")
"""Formats that may describe photographs alone."""

MARGIN = 1.25
"""How far beyond the outermost camera the box reaches, as a multiple of its distance from the middle."""

PARALLEL = 1e-2
"""How much the middle of the cameras pulls at the point that they look at: parallel ones look at none."""

LEAST = 1e-2
"""How far apart cameras are that say how large a scene is; where they are not, it is one metre each way."""

Box = tuple[float, float, float, float, float, float]
"""x, y, z of the lower corner, then of the upper one."""


def photographed_space(word: DataWord) -> tuple[Box, float] | None:
    """The box that the photographs of a recording show, and how far from a camera it ends.

    The box is the recording's ``extent`` where it says one. Otherwise it is a cube around the point that the
    cameras look at, which is nearest to their optical axes; it reaches a quarter beyond the outermost camera.
    Cameras that look away from each other, in a room, see more than that.

    Args:
        word: Names the recording.

    Returns:
        ``None`` if it is another recording, or its tables cannot be read.
    """
    if word.kind not in PHOTOGRAPHS or not word.is_recording:
        return None
    told = folder_arguments(word)
    reader = told["reader"]
    access = FolderAccess(Path(word.path).expanduser(), told.get("outside", False), table=reader.table)
    index = _photographs(access, reader) if word.kind != "folder" or _may_be_photographs(access) else None
    if index is None:
        return None
    views = [index.frames[view] for view in index.tracked]
    poses = np.array([view.camera_to_world for view in views], dtype=np.float64)
    shifts = {view.scene: room_shift(index, view.scene) for view in views}
    poses[:, :3, 3] -= [shifts[view.scene] for view in views]
    if index.extent is None:
        box = _around_cameras(poses)
    else:
        box = np.array(index.extent) - np.tile(shifts[views[0].scene], 2)
    corners = np.stack(np.meshgrid(*box.reshape(2, 3).T), -1).reshape(-1, 1, 3)
    farthest = np.linalg.norm(corners - poses[:, :3, 3], axis=-1).max()
    x, y, z, right, up, high = box.tolist()
    return (x, y, z, right, up, high), float(farthest)


def _may_be_photographs(access: FolderAccess) -> bool:
    """Whether a ``frames.json`` may be of that format, as far as a look at its bytes tells."""
    try:
        return b'posed_rgb"' in access.read(INDEX, INDEX, INDEX_BYTES)
    except SceneFolderError:
        return False


def _photographs(access: FolderAccess, reader: Reader) -> IndoorFolder | None:
    """The index of a recording of photographs, without the frames that are wrong."""
    try:
        content = reader.content(access)
    except SceneFolderError:  # which is said where all frames are looked at
        return None
    if not isinstance(content, dict) or content.get("format") != "posed_rgb":
        return None
    index, problems = placed_problems(access, content)
    if index is None and None not in (places := [place for place, _ in problems]):
        index, _ = placed_problems(access, content, skip=[place for place in places if place is not None])
    return index if isinstance(index, IndoorFolder) else None


def _around_cameras(poses: np.ndarray) -> np.ndarray:
    """The cube around the point that cameras ``(n, 4, 4)`` look at; 6 numbers."""
    centers, axes = poses[:, :3, 3], poses[:, :3, 2] / np.linalg.norm(poses[:, :3, 2], axis=1, keepdims=True)
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    pull = PARALLEL * len(poses) * np.eye(3)
    towards = (across @ centers[..., None]).sum((0, 2)) + pull @ centers.mean(0)
    middle = np.linalg.solve(across.sum(0) + pull, towards)
    reach = float(np.linalg.norm(centers - middle, axis=1).max())
    half = MARGIN * reach if reach > LEAST else 1.0
    return np.concatenate([middle - half, middle + half])
