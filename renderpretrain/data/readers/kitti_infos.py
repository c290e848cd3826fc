"""KITTI's object benchmark by the lists of OpenPCDet and mmdetection3d 0.x, ``kitti_infos_*.pkl``."""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError, brief
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.formats.pickles import load_pickle
from renderpretrain.data.readers.kitti_calibration import COLUMNS, rectified_camera
from renderpretrain.data.readers.tables import TABLE_BYTES


def read_infos(access: FolderAccess, infos: str, folder: str) -> dict[str, Any]:
    """The frames of a list of infos, as ``frames.json`` would describe them: no other table is opened.

    Args:
        access: Of the folder that holds ``training`` and ``testing``.
        infos: The pickle; nothing but arrays and plain containers is made of it.
        folder: ``training`` or ``testing``, where the frames' files lie.

    Raises:
        SceneFolderError: If it is no such list.
    """
    try:
        content = load_pickle(access.read(infos, "infos", TABLE_BYTES), "a list of infos")
    except ValueError as error:
        if isinstance(error, SceneFolderError):
            raise
        raise SceneFolderError(f"{access.path / infos}: {error}") from error
    if not isinstance(content, list) or not content:
        got = brief(type(content).__name__ if not isinstance(content, list) else "an empty one")
        raise SceneFolderError(f"{access.path / infos}: expected a list of infos, got {got}")
    frames = [_frame(access, infos, folder, number, info) for number, info in enumerate(content)]
    return {"format": "multicam_lidar", "dataset": "KITTI 3D object", "frames": frames}


def _frame(
    access: FolderAccess, infos: str, folder: str, number: int, info: Any
) -> dict[str, Any] | UnreadFrame:
    """One frame with its left colour camera and its objects."""
    where = f"{access.path / infos}: info {number}"
    try:
        name = _name(info)
        height, width = _array(info["image"]["image_shape"], (2,)).astype(int).tolist()
        p2, rectify, to_camera = (_square(info["calib"][k]) for k in ("P2", "R0_rect", "Tr_velo_to_cam"))
        frame: dict[str, Any] = {"frame_id": name, "scene": name}
        frame["lidar"] = {"file": f"{folder}/velodyne/{name}.bin", "columns": COLUMNS}
        file = f"{folder}/image_2/{name}.png"
        camera = rectified_camera(file, (height, width), p2, rectify @ to_camera, f"{where}: calib: P2")
        frame["cameras"] = {"image_2": camera}
        if "annos" in info:
            frame["boxes_rectified_cam0"] = _boxes(info["annos"])
    except SceneFolderError as error:
        return UnreadFrame(str(error))
    except KeyError as error:
        return UnreadFrame(str(SceneFolderError(f"{where}: expected {error.args[0]}, got nothing")))
    except ODD_VALUES as error:
        return UnreadFrame(str(SceneFolderError(f"{where}: expected an info of OpenPCDet's, got: {error}")))
    return frame


def _name(info: Any) -> str:
    """The name of a frame's files: six digits."""
    index = info["point_cloud"].get("lidar_idx", info["image"]["image_idx"])
    text = str(index).zfill(6)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{brief(index)} in the place of its number")
    return text


def _array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers of a shape, of which -1 is any."""
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != len(shape) or any(-1 != n != m for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"an array of the shape {array.shape} where {shape} is expected")
    if not np.isfinite(array).all():
        raise ValueError("numbers that are not finite")
    return array


def _square(value: Any) -> np.ndarray:
    """A matrix of up to 4x4 as 4x4."""
    matrix, whole = _array(value, (-1, -1)), np.eye(4)
    if not 3 <= min(matrix.shape) <= max(matrix.shape) <= 4:
        raise ValueError(f"a matrix of {matrix.shape}")
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole


def _boxes(annos: Any) -> list[dict[str, Any]]:
    """The labels of a frame in the rectified frame of camera 0; sizes are stored as length, height, width."""
    names = [str(name) for name in annos["name"]]
    sizes = _array(annos["dimensions"], (len(names), 3))[:, [1, 2, 0]].tolist()
    places = _array(annos["location"], (len(names), 3)).tolist()
    turns = _array(annos["rotation_y"], (len(names),)).tolist()
    rows = zip(names, sizes, places, turns, strict=True)
    keys = ("label", "height_width_length", "bottom_center", "rotation_y")
    return [dict(zip(keys, row, strict=True)) for row in rows]
