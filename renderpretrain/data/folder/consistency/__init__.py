"""Whether what a recording says of its geometry agrees with what it measured.

Poses that are inverted, axes of another convention, intrinsics of another image size and depths in another
unit all read without a fault. Each of these mistakes is tried out on a few frames: where one fits what was
measured far better than what the recording says, that is told, with the numbers.
"""

from collections.abc import Iterator
from dataclasses import replace

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.consistency.depth_views import depth_view_problems
from renderpretrain.data.folder.consistency.lidar_images import lidar_image_problems
from renderpretrain.data.folder.consistency.picture_views import picture_view_problems
from renderpretrain.data.folder.consistency.sweep_poses import sweep_pose_problems
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder

__all__ = ["geometry_problems"]


def geometry_problems(access: FolderAccess, index: OutdoorFolder | IndoorFolder) -> Iterator[str]:
    """One line for each mistake that a recording's own measurements speak for.

    A recording that measured too little to tell has none. Files that cannot be read are left out.

    Args:
        access: How the folder's files are read; what looks wrong with their values is not remarked again.
        index: Its parsed ``frames.json``.
    """
    silent = replace(access, remark=lambda *_: None)
    if isinstance(index, IndoorFolder):
        with_depth = any(view.depth is not None for view in index.frames)
        yield from (depth_view_problems if with_depth else picture_view_problems)(silent, index)
    else:
        yield from lidar_image_problems(silent, index)
        yield from sweep_pose_problems(silent, index)
