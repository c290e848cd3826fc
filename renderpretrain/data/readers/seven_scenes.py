"""7-Scenes (https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes): seven rooms, a Kinect.

Depth images are raw: those of the depth camera, millimetres, 0 or 65535 where nothing was measured. The data
set's page gives that camera a focal length of 585 and a principal point of (320, 240), and ``pose.txt`` is
its pose; it calibrates no colour camera. The usual stand-in is a focal length of 525 with the same principal
point, and the place that ACE (https://github.com/nianticlabs/ace, ``datasets/setup_7scenes.py``) puts it at:
with them depth images of neighbouring views agree to about a centimetre. Depth is registered to the pictures
on reading. No lens is modelled.
"""

import re
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import SceneFolderError
from renderpretrain.data.folder.reader import UnreadFrame
from renderpretrain.data.readers.tables import picture_size, rows_of
from renderpretrain.data.readers.views import say_absent

COLOR = [[525.0, 0.0, 320.0], [0.0, 525.0, 240.0], [0.0, 0.0, 1.0]]
"""Intrinsics of the colour camera."""

DEPTH = [[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]]
"""Intrinsics of the depth camera."""

DEPTH_TO_COLOR = [
    [0.9999651801256764, 0.0026765126468950343, -0.00790410123130009, -0.025558943178152542],
    [-0.00274093112813167, 0.9999630280302759, -0.008150452077801329, 0.00010109636268061706],
    [0.007881994213044533, 0.008171832877189063, 0.9999355455801403, 0.002031832172948704],
    [0.0, 0.0, 0.0, 1.0],
]
"""From the depth camera's frame to the colour camera's, metres."""

NO_DEPTH = 65535
"""What a depth image holds where nothing was measured, besides 0."""

POSE = re.compile(r"(frame-\d+)\.pose\.txt")


def read_seven_scenes(
    access: FolderAccess, sequences: list[str], stride: int, registered: bool
) -> dict[str, Any]:
    """The views of some recordings of one room, as ``frames.json`` would describe them.

    Args:
        access: Of the room's folder.
        sequences: The folders of its recordings; the empty text is the room's own.
        stride: Every so many-th view of a recording is read.
        registered: Whether depth images are registered to the pictures, and poses are the colour camera's.

    Raises:
        SceneFolderError: If there is no view.
    """
    frames, absent, listed = list[dict[str, Any] | UnreadFrame](), 0, 0
    to_depth = np.eye(4) if registered else np.linalg.inv(DEPTH_TO_COLOR)
    for sequence in sequences:
        names, size = set(access.names(sequence)), None
        stems = [match[1] for match in map(POSE.fullmatch, sorted(names)) if match]
        for stem in stems[::stride]:
            color = next(
                (f"{stem}.color{end}" for end in (".png", ".jpg") if f"{stem}.color{end}" in names), None
            )
            listed += 1
            if color is None or f"{stem}.depth.png" not in names:
                absent += 1
                continue
            place = f"{sequence}/" if sequence else ""
            try:
                pose = rows_of(access, f"{place}{stem}.pose.txt", 4)
                size = size or picture_size(access, place + color, "color")
            except SceneFolderError as error:
                frames.append(UnreadFrame(str(error)))
                continue
            frames.append(
                {
                    "frame_id": place + stem,
                    "scene": sequence,
                    "color": place + color,
                    "depth": f"{place}{stem}.depth.png",
                    "height": size[0],
                    "width": size[1],
                    "camera_to_world": _colour_pose(pose, to_depth),
                }
            )
    if not listed:
        raise SceneFolderError(f"{access.path}: expected frame-000000.pose.txt, got none in {sequences}")
    say_absent(access, "", absent, listed, "views")
    content = {"format": "posed_rgbd", "dataset": "7-Scenes", "intrinsics": COLOR, "frames": frames}
    own = {} if registered else {"depth_intrinsics": DEPTH, "depth_to_color": DEPTH_TO_COLOR}
    return {**content, **own, "depth_scale": 1000, "depth_invalid": NO_DEPTH}


def _colour_pose(pose: np.ndarray, to_depth: np.ndarray) -> list[list[float]]:
    """Where the colour camera is; what is no 4x4 matrix is left to be refused."""
    return (pose @ to_depth if pose.shape == (4, 4) else pose).tolist()
