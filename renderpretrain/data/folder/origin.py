"""Where the rays of a recording's sweeps start, and a remark where the points speak against it."""

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.files import Sweep
from renderpretrain.data.folder.schema import OutdoorFrame, frame_name
from renderpretrain.data.lidar_origin import doubtful_origin, fit_lidar_origin


def fitted_origin(sweep: Sweep) -> np.ndarray:
    """Where the beams of a sweep meet; without beams, or where they are no cones, its middle or 0."""
    found = None if sweep.rings is None else fit_lidar_origin(sweep.points[:, :3], sweep.rings)
    return sweep.offset + (np.zeros(3) if found is None else found)


def look_at_origin(access: FolderAccess, frame: OutdoorFrame, sweep: Sweep, origin: np.ndarray) -> bool:
    """Whether rays may start there as far as a sweep can tell; remarks on it where they cannot.

    Args:
        access: How the folder's files are read.
        frame: The sweep's.
        sweep: What was measured.
        origin: ``(3,)`` in the LiDAR frame, metres.
    """
    words = doubtful_origin(sweep.points[:, :3], origin - sweep.offset)
    if words is not None:
        where = f"{frame_name(frame)}: lidar.sensor_origin"
        access.doubt("sensor_origin", frame.lidar.file, where, words)
    return words is None
