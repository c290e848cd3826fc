"""Which sweeps are merged into a frame's points, and how they become one set of rows."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from renderpretrain.data.folder.files import Sweep
from renderpretrain.data.folder.lidar_entry import LidarEntry
from renderpretrain.data.folder.schema import OutdoorFrame, SweepEntry, frame_name


@dataclass(frozen=True)
class SweepAt:
    """A sweep among those that are merged.

    Attributes:
        key: What tells it from all others of its recording: its frame's index, and its place among the
            frame's ``sweeps``, or -1 for the frame's own.
        name: How messages call it.
        scene: The recording that its frame belongs to.
        entry: What the index says of it.
        seconds: When it was taken.
    """

    key: tuple[int, int]
    name: str
    scene: str
    entry: LidarEntry
    seconds: float


def own_sweep(index: int, frame: OutdoorFrame) -> SweepAt:
    """The sweep of a frame's own moment."""
    return SweepAt((index, -1), frame_name(frame), frame.scene, frame.lidar, frame.seconds or 0.0)


def older_sweeps(index: int, frame: OutdoorFrame) -> list[SweepAt]:
    """The sweeps that a frame names beside its own, the newest first."""
    found = [
        SweepAt(
            (index, place),
            f"{frame_name(frame)}: sweeps.{place}",
            frame.scene,
            _entry(frame.lidar, sweep),
            sweep.seconds or 0.0,
        )
        for place, sweep in enumerate(frame.sweeps)
    ]
    return sorted(found, key=lambda sweep: -sweep.seconds)


def _entry(lidar: LidarEntry, sweep: SweepEntry) -> LidarEntry:
    """What is known of an older sweep: as of the frame's own, but for its file and pose; it has no labels."""
    told = {"file": sweep.file, "ego_to_global": sweep.ego_to_global, "semseg_file": None}
    if sweep.lidar_to_ego is not None:
        told["lidar_to_ego"] = sweep.lidar_to_ego
    return lidar.model_copy(update=told)


def sweeps_back(frames: Sequence[OutdoorFrame], indices: Iterable[int], count: int) -> list[SweepAt]:
    """The sweeps that are merged for the first of some frames, the newest first, at most ``count``.

    Each frame's own, then those that it names, then the next frame's. Frames may name the same sweeps: of
    those that are named, only what is older than all before is taken.

    Args:
        frames: Of a recording.
        indices: A frame and the ones before it, the newest first.
        count: How many.
    """
    found: list[SweepAt] = []
    named = math.inf
    for index in indices:
        frame = frames[index]
        own = own_sweep(index, frame)
        if own.seconds < named:
            found.append(own)
        for sweep in older_sweeps(index, frame) if len(found) < count else ():
            if sweep.seconds < min(named, own.seconds):
                found.append(sweep)
                named = sweep.seconds
        if len(found) >= count:
            break
    return found[:count]


def without_own_vehicle(sweep: Sweep, entry: LidarEntry) -> Sweep:
    """An older sweep without the points of the vehicle that carries it, which would leave a trail."""
    if entry.own_vehicle is None:
        return sweep
    x, y = (sweep.points[:, axis] + sweep.offset[axis] for axis in (0, 1))
    left, right, front, back = entry.own_vehicle
    kept = ~((x > left) & (x < front) & (y > right) & (y < back))
    rows = {name: rows[kept] for name, rows in _rows(sweep)}
    return replace(sweep, **rows)


def _rows(sweep: Sweep) -> Iterator[tuple[str, np.ndarray]]:
    """What a sweep knows of each of its points."""
    for name in ("points", "rings", "labels", "colors", "normals"):
        rows = getattr(sweep, name)
        if rows is not None:
            yield name, rows


def joined(sweeps: Sequence[Sweep]) -> dict[str, np.ndarray]:
    """Sweeps in one frame as one: what all of them know of each point, and which are the first's (``key``).

    Labels are kept where the first has them: other points have none, -1.
    """
    rows = {"points": np.concatenate([sweep.points for sweep in sweeps])}
    for name in ("colors", "normals"):
        known = [a for a in (getattr(sweep, name) for sweep in sweeps) if a is not None]
        rows |= {name: np.concatenate(known)} if len(known) == len(sweeps) else {}
    if sweeps[0].labels is not None:
        none = (np.full(len(sweep.points), -1) for sweep in sweeps)
        labels = [blank if s.labels is None else s.labels for s, blank in zip(sweeps, none, strict=True)]
        rows["labels"] = np.concatenate(labels)
    if len(sweeps) > 1:
        rows["key"] = np.arange(len(rows["points"])) < len(sweeps[0].points)
    return rows
