"""mmdetection3d's infos of ScanNet: intrinsics and poses of pictures that have no files for them."""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError
from renderpretrain.data.formats.pickles import load_pickle
from renderpretrain.data.readers.tables import TABLE_BYTES

INFOS = "scannet_infos.pkl"
"""Version 0.x: a list of rooms."""

Known = tuple[list[list[float]], list[list[float]]]
"""Intrinsics, 3x3, and camera to world, 4x4."""


def read_infos(access: FolderAccess) -> dict[str, Known]:
    """What the infos say of pictures, by their paths; nothing but arrays and plain containers is unpickled.

    Raises:
        SceneFolderError: If they are damaged, or hold something else.
    """
    where = access.path / INFOS
    try:
        rooms = load_pickle(access.read(INFOS, "infos", TABLE_BYTES), "a list of rooms")
    except SceneFolderError:
        raise
    except ValueError as error:
        raise SceneFolderError(f"{where}: {error}") from error
    try:
        return {path: known for room in rooms for path, known in _pictures(room)}
    except ODD_VALUES as error:
        raise SceneFolderError(f"{where}: expected rooms with img_paths and poses, got: {error}") from error


def _pictures(room: Any) -> list[tuple[str, Known]]:
    """The pictures of one room."""
    intrinsics = np.asarray(room["intrinsics"], dtype=np.float64)[:3, :3].tolist()
    poses = [np.asarray(pose, dtype=np.float64).tolist() for pose in room["extrinsics"]]
    return [(str(path), (intrinsics, pose)) for path, pose in zip(room["img_paths"], poses, strict=True)]
