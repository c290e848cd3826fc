"""KITTI as it is published: the object benchmark (https://www.cvlibs.net/datasets/kitti).

Points are x forward, y left, z up. There is no order in time among the frames of the object benchmark.
"""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.tables import named_numbers, numbers_in, picture_size, text_of

COLUMNS = ["x", "y", "z", "reflectance_0_1"]

CAMERAS = ("image_2", "image_3")
"""The colour cameras; their projections are P2 and P3."""

LABEL_WORDS = 15
"""Words of a line of a label; a detection has its score behind them."""


def read_kitti(access: FolderAccess, split: str = "training") -> dict[str, Any]:
    """The object benchmark's frames, as ``frames.json`` would describe them.

    Args:
        access: Of the folder that holds ``training`` and ``testing``.
        split: One of these two, or the name of a list of training frames: ``train`` for
            ``ImageSets/train.txt``.

    Raises:
        SceneFolderError: If there are no such frames.
    """
    folder = split if split == "testing" else "training"
    if split in ("training", "testing"):
        names = [name[:-4] for name in access.names(f"{folder}/velodyne") if name.endswith(".bin")]
    else:
        names = text_of(access, f"ImageSets/{split}.txt").split()
    if not names:
        raise SceneFolderError(f"{access.path / folder / 'velodyne'}: expected .bin files, got none")
    cameras = [name for name in CAMERAS if (access.path / folder / name).is_dir()]
    return {
        "format": "multicam_lidar",
        "dataset": "KITTI 3D object",
        "frames": [_frame(access, folder, name, cameras) for name in names],
    }


def _frame(access: FolderAccess, folder: str, name: str, cameras: list[str]) -> dict[str, Any] | UnreadFrame:
    """One frame of the object benchmark; frames have no place in time."""
    try:
        calibration = named_numbers(access, f"{folder}/calib/{name}.txt")
        where = f"{access.path / folder / 'calib' / name}.txt"
        rectify, to_camera = (_matrix(calibration, key, where) for key in ("R0_rect", "Tr_velo_to_cam"))
        to_rectified = rectify @ to_camera
        frame: dict[str, Any] = {"frame_id": name, "scene": name}
        frame["lidar"] = {"file": f"{folder}/velodyne/{name}.bin", "columns": COLUMNS}
        frame["cameras"] = {
            camera: _camera(access, f"{folder}/{camera}/{name}.png", calibration, to_rectified)
            for camera in cameras
        }
        if (access.path / folder / "label_2").is_dir():
            frame["boxes_rectified_cam0"] = _boxes(access, f"{folder}/label_2/{name}.txt")
    except SceneFolderError as error:
        return UnreadFrame(str(error))
    return frame


def _camera(
    access: FolderAccess, file: str, calibration: dict[str, str], to_rectified: np.ndarray
) -> dict[str, Any]:
    """A camera of the rectified rig: its projection has the baseline in its last column."""
    projection = _matrix(calibration, f"P{file.split('/')[1][-1]}", f"{access.path / file}: calibration")
    shift = np.eye(4)
    shift[:3, 3] = np.linalg.solve(projection[:3, :3], projection[:3, 3])
    height, width = picture_size(access, file, "picture")
    return {
        "file": file,
        "width": width,
        "height": height,
        "intrinsics": projection[:3, :3].tolist(),
        "lidar_to_camera": (shift @ to_rectified).tolist(),
        "lidar_to_rectified_cam0": to_rectified.tolist(),
    }


def _matrix(calibration: dict[str, str], key: str, where: str) -> np.ndarray:
    """A 3x3 or 3x4 matrix of a calibration file as 4x4."""
    words = calibration.get(key, "").split()
    width = 3 if key == "R0_rect" else 4
    matrix = np.eye(4)
    matrix[:3, :width] = np.reshape(numbers_in(words, 3 * width, f"{where}: {key}"), (3, width))
    return matrix


def _boxes(access: FolderAccess, file: str) -> list[dict[str, Any]]:
    """The labels of a frame, in the rectified frame of camera 0."""
    boxes = []
    for number, line in enumerate(text_of(access, file).splitlines(), 1):
        words, where = line.split(), f"{access.path / file}: line {number}"
        if not words:
            continue
        if len(words) not in (LABEL_WORDS, LABEL_WORDS + 1):
            raise SceneFolderError(f"{where}: expected {LABEL_WORDS} words, got {brief(line)}")
        values = numbers_in(words[8:LABEL_WORDS], 7, where)
        boxes.append(
            {
                "label": words[0],
                "height_width_length": values[:3],
                "bottom_center": values[3:6],
                "rotation_y": values[6],
            }
        )
    return boxes


def _split(text: str) -> str:
    """The name of a list of frames: no path."""
    if not text.replace("_", "").isalnum():
        raise ValueError
    return text


KITTI = Reader(
    "kitti",
    read_kitti,
    "training",
    {"split": (_split, "training, testing, or the name of a list in ImageSets")},
)
