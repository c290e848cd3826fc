"""ScanNet's recordings, ``.sens``: views as parts of one file, of which nothing is unpacked to disk."""

from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.formats.sens import index_sens

SENS_BYTES = 2**38
"""Largest recording; those of ScanNet have some gigabytes."""

UNITS = 1000
"""Stored units of depth per metre, as all of ScanNet's recordings have."""


def sens_frames(access: FolderAccess, file: str, room: str) -> list[dict[str, Any] | UnreadFrame]:
    """The views of a recording, as ``frames.json`` would describe them.

    Args:
        access: Of the folder.
        file: Path of the recording.
        room: Its name.

    Raises:
        SceneFolderError: If it is damaged, or its pictures are stored raw.
    """
    try:
        with access.open(file, "recording", SENS_BYTES) as stream:
            found = index_sens(stream)
    except SceneFolderError:
        raise
    except ValueError as error:
        raise SceneFolderError(f"{access.path / file}: {error}") from error
    if found.color_form == "raw":
        raise SceneFolderError(f"{access.path / file}: expected pictures as jpeg or png, got raw ones")
    if found.depth_shift != UNITS:
        got = f"got {found.depth_shift:g}"
        raise SceneFolderError(f"{access.path / file}: expected {UNITS} units of depth per metre, {got}")
    of_all = {
        "scene": room,
        "height": found.color_size[0],
        "width": found.color_size[1],
        "intrinsics": found.color_intrinsics.tolist(),
        "depth_intrinsics": found.depth_intrinsics.tolist(),
        "depth_layout": "zlib16" if found.depth_form == "zlib" else "raw16",
        "depth_height": found.depth_size[0],
        "depth_width": found.depth_size[1],
    }
    return [
        {
            **of_all,
            "frame_id": f"{room}/{frame:06d}",
            "color": _part(file, found.color_spans[frame]),
            "depth": _part(file, found.depth_spans[frame]),
            "camera_to_world": pose.tolist() if np.isfinite(pose[:3]).all() else None,
        }
        for frame, pose in enumerate(found.camera_to_world)
    ]


def _part(file: str, span: np.ndarray) -> str:
    """How an index names a part of a file."""
    return f"{file}#{int(span[0])}+{int(span[1])}"
