"""Whether what a recording says of its geometry agrees with what it measured.

Poses that are inverted, axes of another convention, intrinsics of another image size and depths in another
unit all read without a fault. Each of these mistakes is tried out on a few frames: where one fits what was
measured far better than what the recording says, that is told, with the numbers.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.depth_views import depth_view_findings
from renderpretrain.data.folder.consistency.findings import Finding
from renderpretrain.data.folder.consistency.lidar_images import lidar_image_findings
from renderpretrain.data.folder.consistency.picture_views import picture_view_findings
from renderpretrain.data.folder.consistency.sweep_poses import sweep_pose_findings
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder

__all__ = ["Finding", "geometry_findings"]

STRETCHES, STRETCH = 8, 30
"""Stretches of a long recording that are looked at, evenly over all, and frames of each."""


def geometry_findings(
    access: FolderAccess, index: OutdoorFolder | IndoorFolder, *, seconds: int | float = math.inf
) -> Iterator[Finding]:
    """One line for each mistake that a recording's own measurements speak for, and for what they cannot tell.

    Files that cannot be read are left out.

    Args:
        access: How the folder's files are read; what looks wrong with their values is not remarked again.
        index: Its parsed ``frames.json``.
        seconds: After about so many, what has been seen decides.
    """
    start = time.monotonic()
    index = _excerpt(index)
    silent = replace(access, remark=lambda *_: None)
    if isinstance(index, IndoorFolder):
        with_depth = any(view.depth is not None for view in index.frames)
        of_views = depth_view_findings if with_depth else picture_view_findings
        yield from of_views(silent, index, start + seconds)
    else:
        yield from lidar_image_findings(silent, index, start + seconds / 2)
        yield from sweep_pose_findings(silent, index, start + seconds)


def _excerpt(index: OutdoorFolder | IndoorFolder) -> OutdoorFolder | IndoorFolder:
    """A recording with some stretches of its frames, for a day has too many to look at each."""
    count = len(index.frames)
    if count <= STRETCHES * STRETCH:
        return index
    starts = [round(k * (count - STRETCH) / (STRETCHES - 1)) for k in range(STRETCHES)]
    # Frames of two stretches are no neighbours.
    frames: list[Any] = [
        index.frames[k].model_copy(update={"scene": f"{index.frames[k].scene} {start}"})
        for start in starts
        for k in range(start, start + STRETCH)
    ]
    return index.model_copy(update={"frames": frames})
