"""Rooms recorded by a hand-held RGB-D camera: the layouts of 7-Scenes and of the TUM RGB-D benchmark."""

import re
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.readers.seven_scenes import read_seven_scenes
from renderpretrain.data.readers.tum import read_tum

LAYOUTS = ("7scenes", "tum")

SEQUENCE = re.compile(r"seq-\d+")
"""Names of the recordings of a room of 7-Scenes."""


def read_rgbd(
    access: FolderAccess,
    layout: str | None = None,
    stride: int = 1,
    registered: bool = False,
    freiburg: int | None = None,
    sequences: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """The views of a room, as ``frames.json`` would describe them.

    Args:
        access: Of the folder: of 7-Scenes a room (``seq-01``, ...) or one recording of it; of TUM's benchmark
            a recording (``rgb.txt``, ``depth.txt``, ``groundtruth.txt``).
        layout: ``7scenes`` or ``tum``; by default what the folder's files say.
        stride: Every so many-th view is read.
        registered: 7-Scenes: whether somebody registered the depth images to the pictures, and the poses are
            those of the colour camera.
        freiburg: TUM: number of the camera, 1 to 3; by default what the tables or the folder's name say.
        sequences: 7-Scenes: recordings of a room; ``None`` for all.

    Raises:
        SceneFolderError: If it is neither, or a table is damaged.
    """
    names = access.names("")
    if layout == "tum" or (layout is None and "rgb.txt" in names):
        return read_tum(access, stride, freiburg)
    folders = [name for name in names if SEQUENCE.fullmatch(name)]
    if layout is None and not folders and not any(name.endswith(".pose.txt") for name in names):
        raise SceneFolderError(
            f"{access.path}: expected seq-01 or frame-000000.pose.txt of 7-Scenes, or rgb.txt of TUM's "
            "benchmark, got none of them"
        )
    lacking = [name for name in sequences or () if name not in folders]
    if lacking:
        known = ", ".join(folders) or "none"
        raise SceneFolderError(f"{access.path}: sequences: expected some of {known}, got {lacking[0]}")
    return read_seven_scenes(access, list(sequences or folders) or [""], stride, registered)


def stride_of(text: str) -> int:
    """A whole number of at least 1; raises a ``ValueError`` for others."""
    value = int(text) if len(text) < 10 else 0
    if value < 1:
        raise ValueError
    return value


def _layout(text: str) -> str:
    """One of the layouts."""
    if text not in LAYOUTS:
        raise ValueError
    return text


def _sequences(text: str) -> tuple[str, ...]:
    """Names of recordings with commas."""
    names = tuple(text.split(","))
    if not all(SEQUENCE.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise ValueError
    return names


RGBD = Reader(
    "rgbd",
    read_rgbd,
    "",
    {
        "layout": (_layout, "7scenes or tum"),
        "stride": (stride_of, "a whole number of at least 1"),
        "registered": ({"0": False, "1": True}.__getitem__, "0 or 1"),
        "freiburg": ({"1": 1, "2": 2, "3": 3}.__getitem__, "1, 2 or 3"),
        "sequences": (_sequences, "different names with commas, as seq-01"),
    },
)
"""Reads both layouts."""
