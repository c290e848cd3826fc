"""KITTI as it is published (https://www.cvlibs.net/datasets/kitti): object, raw and odometry.

Points are x forward, y left, z up. There is no order in time among the frames of the object benchmark.
"""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.reader import Reader, UnreadFrame
from renderpretrain.data.readers.kitti_calibration import COLUMNS, matrix_of, rectified_camera
from renderpretrain.data.readers.kitti_infos import read_infos
from renderpretrain.data.readers.kitti_raw import has_drives, read_raw
from renderpretrain.data.readers.semantickitti import read_sequences
from renderpretrain.data.readers.tables import named_numbers, numbers_in, picture_size, text_of

CAMERAS = ("image_2", "image_3")
"""The colour cameras; their projections are P2 and P3."""

LABEL_WORDS = 15
"""Words of a line of a label; a detection has its score behind them."""

LAYOUTS = {"object": ("split", "infos"), "raw": (), "odometry": ("sequences", "classes")}
"""What can be told of each layout."""


def read_kitti(access: FolderAccess, layout: str | None = None, **told: Any) -> dict[str, Any]:
    """The frames of a folder of KITTI's, as ``frames.json`` would describe them.

    Args:
        access: Of the folder that holds ``training`` and ``testing`` (``object``), ``sequences``
            (``odometry``), or days or drives (``raw``).
        layout: One of these three; ``None`` tells it from what lies in the folder.
        told: Arguments of :func:`read_object` or
            :func:`~renderpretrain.data.readers.semantickitti.read_sequences`.

    Raises:
        SceneFolderError: If there is no such layout, or something is told that it does not have.
    """
    layout = layout or _layout(access)
    for name in told:
        if name not in LAYOUTS[layout]:
            known = ", ".join(LAYOUTS[layout]) or "none"
            raise SceneFolderError(f"{access.path}: expected the options of {layout}: {known}, got {name}")
    if layout == "raw":
        return read_raw(access)
    return read_sequences(access, **told) if layout == "odometry" else read_object(access, **told)


def _layout(access: FolderAccess) -> str:
    """The layout that the folder's names tell."""
    names = access.names("")
    signs = {
        "object": "training" in names or "testing" in names,
        "raw": has_drives(names),
        "odometry": "sequences" in names,
    }
    found = [layout for layout, there in signs.items() if there]
    if len(found) > 1:
        ways = " or ".join(f"?layout={layout}" for layout in found)
        raise SceneFolderError(
            f"{access.path}: expected one of KITTI's layouts, got {', '.join(found)}: say {ways}"
        )
    if not found:
        raise SceneFolderError(
            f"{access.path}: expected training or testing (object), sequences (odometry), or days or drives "
            f"as 2011_09_26 (raw), got {brief(', '.join(names) or 'nothing')}"
        )
    return found[0]


def read_object(access: FolderAccess, split: str = "training", infos: str | None = None) -> dict[str, Any]:
    """The object benchmark's frames, as ``frames.json`` would describe them.

    Args:
        access: Of the folder that holds ``training`` and ``testing``.
        split: One of these two, or the name of a list of training frames: ``train`` for
            ``ImageSets/train.txt``.
        infos: A pickle of OpenPCDet's that says all of the frames, see
            :func:`~renderpretrain.data.readers.kitti_infos.read_infos`.

    Raises:
        SceneFolderError: If there are no such frames.
    """
    folder = split if split == "testing" else "training"
    if infos is not None:
        return read_infos(access, infos, folder)
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
        rectify, to_camera = (
            matrix_of(calibration, key, where, width)
            for key, width in (("R0_rect", 3), ("Tr_velo_to_cam", 4))
        )
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
    """A camera of the rectified rig."""
    key, where = f"P{file.split('/')[1][-1]}", f"{access.path / file}: calibration"
    projection = matrix_of(calibration, key, where)
    size = picture_size(access, file, "picture")
    return rectified_camera(file, size, projection, to_rectified, f"{where}: {key}")


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


def _file(text: str) -> str:
    """The path of a file."""
    if not text:
        raise ValueError
    return text


def _names(text: str) -> tuple[str, ...]:
    """Names of sequences with commas between them."""
    names = tuple(text.split(","))
    if not all(name.isascii() and name.isalnum() for name in names) or len(set(names)) < len(names):
        raise ValueError
    return names


KITTI = Reader(
    "kitti",
    read_kitti,
    "",
    {
        "layout": ({layout: layout for layout in LAYOUTS}.__getitem__, ", ".join(LAYOUTS)),
        "split": (_split, "training, testing, or the name of a list in ImageSets"),
        "infos": (_file, "a file within the folder"),
        "sequences": (_names, "different names with commas, as 00,01"),
        "classes": ({"learning": "learning", "raw": "raw"}.__getitem__, "learning or raw"),
    },
)
