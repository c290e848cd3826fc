"""Sweeps whose points were measured one after another, moved to one moment by the vehicle's motion."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.fields import TIME_COLUMNS, SceneFolderError
from renderpretrain.data.folder.files import Sweep
from renderpretrain.data.folder.geometry import lidar_to_global
from renderpretrain.data.folder.merging import SweepAt, own_sweep
from renderpretrain.data.folder.schema import OutdoorFolder, OutdoorFrame, frame_name

LONGEST_SWEEP = 10.0
"""Seconds from the frame's time stamp within which all points of a sweep were measured; a turn takes 0.1."""


def check_times(access: FolderAccess, frames: Sequence[OutdoorFrame]) -> None:
    """Raise unless the points of every frame have times, and the frame a pose and a time stamp.

    Args:
        access: Of the folder.
        frames: Its frames.

    Raises:
        SceneFolderError: Naming the first frame and what it lacks.
    """
    for frame in frames:
        lacks = {
            f"lidar.columns: expected a time of every point ({', '.join(TIME_COLUMNS)})": not set(
                TIME_COLUMNS
            ).isdisjoint(frame.lidar.columns),
            "lidar.ego_to_global: expected a value": frame.lidar.ego_to_global is not None,
            "timestamp: expected a value": frame.seconds is not None,
        }
        for words, there in lacks.items():
            if not there:
                where = f"{access.described_in}: {frame_name(frame)}"
                raise SceneFolderError(f"{where}: {words} because deskew=1, got none")


def deskewed(sweep: Sweep, at: SweepAt, folder: OutdoorFolder, neighbors: Sequence[int]) -> Sweep:
    """The sweep with every point where it would have been measured at the sweep's own moment.

    Between two poses the vehicle turns and drives evenly (a screw). Times count from the frame's time stamp,
    or are absolute, in seconds. Where one neighbour is missing, the motion to the other goes on.

    Args:
        sweep: With the times of its points.
        at: Which one it is.
        folder: All frames.
        neighbors: Frames that follow each other around it, in order of time.

    Raises:
        SceneFolderError: If the times are not those of a sweep.
    """
    if sweep.times is None:
        return sweep
    times = _since(sweep.times, at)
    here = lidar_to_global(folder, at.scene, at.entry, sweep.offset)
    others = [own_sweep(index, folder.frames[index]) for index in neighbors]
    before = [other for other in others if other.seconds < at.seconds][-1:]
    after = [other for other in others if other.seconds > at.seconds][:1]
    exact = sweep.points[:, :3].astype(np.float64) + sweep.offset
    normals = sweep.normals
    for other, mine in (((before or after), times <= 0), ((after or before), times > 0)):
        if not other or here is None or not mine.any():
            continue
        pose = lidar_to_global(folder, other[0].scene, other[0].entry, sweep.offset)
        if pose is not None:
            twist = screw(np.linalg.solve(here, pose))
            turns, ways = motions(twist, times[mine] / (other[0].seconds - at.seconds))
            exact[mine] = (turns @ exact[mine, :, None])[..., 0] + ways
            if normals is not None:
                normals = normals.copy()
                normals[mine] = (turns @ normals[mine, :, None])[..., 0]
    points = sweep.points.copy()
    points[:, :3] = exact - sweep.offset
    return replace(sweep, points=points, normals=normals, times=None)


def _since(times: np.ndarray, at: SweepAt) -> np.ndarray:
    """Seconds from the sweep's moment on; times may be absolute."""
    since = times if np.abs(times).max() <= LONGEST_SWEEP else times - at.seconds
    if not np.abs(since).max() <= LONGEST_SWEEP:
        raise SceneFolderError(
            f"{at.entry.file}: {at.name}: lidar.columns: expected times of points within {LONGEST_SWEEP:g} s "
            f"of the time stamp ({at.seconds:.17g} s), got {times.min():.17g} to {times.max():.17g}"
        )
    return since


def screw(motion: np.ndarray) -> np.ndarray:
    """``(6,)``: rotation vector and velocity whose even motion for one unit of time is a 4x4 motion."""
    turn = motion[:3, :3]
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine, cosine = float(np.linalg.norm(axis)), (np.trace(turn) - 1) / 2
    angle = np.arctan2(sine, cosine)
    rotation = axis if sine < 1e-12 else axis * (angle / sine)
    _, ways = motions(np.concatenate([rotation, np.zeros(3)]), np.ones(1), np.eye(3))
    return np.concatenate([rotation, np.linalg.solve(ways[0], motion[:3, 3])])


def motions(
    twist: np.ndarray, shares: np.ndarray, velocity: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations ``(P, 3, 3)`` and translations of a screw after shares of a unit of time.

    Args:
        twist: ``(6,)``, as :func:`screw` gives it.
        shares: ``(P,)``.
        velocity: ``(3, K)`` instead of the twist's own ``(3,)``.
    """
    rate = float(np.linalg.norm(twist[:3]))
    x, y, z = twist[:3] / rate if rate > 1e-12 else np.zeros(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = (rate * shares)[:, None, None]
    versed = 2 * np.sin(angle / 2) ** 2  # 1 - cos, without the loss of digits
    turns = np.eye(3) + np.sin(angle) * cross + versed * (cross @ cross)
    along = shares[:, None, None] * np.eye(3)
    if rate > 1e-12:
        along = along + (versed * cross + (angle - np.sin(angle)) * (cross @ cross)) / rate
    return turns, along @ (twist[3:] if velocity is None else velocity)
