"""What belongs together in a recording: sweeps by their time stamps, cameras by their names."""

import math
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from renderpretrain.data.camera_places import common_places
from renderpretrain.data.folder.access import FolderAccess
from renderpretrain.data.folder.cache import Cache, MemoryCache
from renderpretrain.data.folder.deskewing import check_times
from renderpretrain.data.folder.fields import FARTHEST, SceneFolderError, brief
from renderpretrain.data.folder.fitting import FITS
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder, OutdoorFrame, frame_name

MAX_GAP = 1.5
"""Seconds between frames that follow each other, unless the user says otherwise; one a second do."""

EPOCH, UNITS_APART, SHORTEST = 5e8, 500, 1e-3
"""Seconds from which on a stamp counts from 1970, how many times apart stamps of two units are, and the least
time between sweeps."""

RECENT_BYTES, UNPACKED = 2**24, 32
"""Bytes of unpacked frames that a folder remembers, and how many times larger than packed they are, about."""


class Timeline:
    """Which frames of an outdoor folder follow each other.

    Frames of one ``scene`` are ordered by their time stamps, whatever their order in the list; where one of
    them has none, by the list. What a longer gap than ``max_gap`` parts does not follow each other.

    Args:
        frames: In the order of the list.
        max_gap: Seconds.
    """

    def __init__(self, frames: Iterable[OutdoorFrame], max_gap: int | float) -> None:
        scenes: dict[str, list[tuple[float | None, int]]] = {}
        for index, frame in enumerate(frames):
            scenes.setdefault(frame.scene, []).append((frame.seconds, index))
        parts = [part for scene in scenes.values() for part in _parts(scene, max_gap)]
        count = sum(len(part) for part in parts)
        self._number, self._place = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        for number, part in enumerate(parts):
            self._number[part], self._place[part] = number, np.arange(len(part))
        self._sequences: list[list[int]] = [part.tolist() for part in parts]

    def sequence(self, index: int) -> Sequence[int]:
        """The frames that follow each other around a frame, in order of time."""
        return self._sequences[self._number[index]]

    def up_to(self, index: int, count: int) -> list[int]:
        """A frame and the ones before it in time, the newest first, at most ``count``."""
        place = int(self._place[index])
        return self._sequences[self._number[index]][max(0, place + 1 - count) : place + 1][::-1]


def _parts(frames: list[tuple[float | None, int]], max_gap: int | float) -> list[np.ndarray]:
    """Indices of one scene's frames in order of time, cut at its gaps."""
    indices = np.array([index for _, index in frames])
    stamps = [seconds for seconds, _ in frames if seconds is not None]
    if len(stamps) < len(frames):
        return [indices]
    order = np.argsort(stamps, kind="stable")
    gaps = np.diff(np.array(stamps)[order])
    return np.split(indices[order], np.nonzero(gaps > max_gap)[0] + 1)


def lone_frames(frames: Iterable[OutdoorFrame]) -> list[int]:
    """Indices of frames that are one sweep each: in a ``scene`` without any pose, or alone in theirs.

    One that names ``sweeps`` itself is none of them.
    """
    scenes: dict[str, list[tuple[int, bool, bool]]] = {}
    for index, frame in enumerate(frames):
        told = (index, frame.lidar.ego_to_global is not None, bool(frame.sweeps))
        scenes.setdefault(frame.scene, []).append(told)
    lone = (
        scene
        for scene in scenes.values()
        if (len(scene) == 1 and not scene[0][2]) or not any(posed for _, posed, _ in scene)
    )
    return sorted(index for scene in lone for index, *_ in scene)


def check_moments(access: FolderAccess, folder: OutdoorFolder, sweeps: int, deskew: bool) -> None:
    """Remark on time stamps that cannot be meant; merging needs to know where and when each sweep was taken.

    Frames that have nothing to be merged with are one sweep each, see :func:`lone_frames`: a remark says so.

    Args:
        access: Of the folder.
        folder: Its parsed ``frames.json``.
        sweeps: How many are merged.
        deskew: Whether points are moved to their frame's moment, for which they need a time each.

    Raises:
        SceneFolderError: If several are, and one of a scene's frames has no pose, as others have, or no time.
    """
    for frame, words in stamp_problems(folder.frames):
        access.doubt("stamps", access.table, f"{frame_name(frame)}: timestamp", words)
    if deskew:
        check_times(access, folder.frames)
    if sweeps == 1:
        return
    lone = set(lone_frames(folder.frames))
    if lone:
        words = (
            f"expected frames of one scene with poses because sweeps={sweeps}, got {len(lone)} of "
            f"{len(folder.frames)} alone in their scene or in one without poses: they are one sweep each"
        )
        access.doubt("single sweeps", access.table, "lidar.ego_to_global", words)
    for index, frame in enumerate(folder.frames):
        for field, value in (
            ("lidar.ego_to_global", frame.lidar.ego_to_global),
            ("timestamp", frame.seconds),
        ):
            if value is None and index not in lone:
                raise SceneFolderError(
                    f"{access.described_in}: {frame_name(frame)}: {field}: expected a value because "
                    f"sweeps={sweeps}, got nothing"
                )


def stamp_problems(frames: Iterable[OutdoorFrame]) -> Iterator[tuple[OutdoorFrame, str]]:
    """Time stamps that cannot be meant: a frame of each scene that has some, and what is wrong there.

    Stamps in another unit than the field says: some a thousand times later than others, or all less than a
    millisecond apart. Stamps that some frames of a scene share.
    """
    scenes: dict[str, list[OutdoorFrame]] = {}
    for frame in frames:
        if frame.seconds is not None:
            scenes.setdefault(frame.scene, []).append(frame)
    for scene in scenes.values():
        scene.sort(key=lambda frame: frame.seconds or 0.0)
        stamps = np.array([frame.seconds for frame in scene])
        first, last, gaps = scene[0], scene[-1], np.diff(stamps)
        if stamps[-1] > EPOCH and 0 < stamps[0] < stamps[-1] / UNITS_APART:
            there = f"{stamps[-1]:.17g} s in {frame_name(last)}"
            yield first, f"expected a time near {there}, got {stamps[0]:.17g} s: is it of another unit?"
        elif gaps.any() and not gaps.all():
            place = int(np.argmin(gaps))
            yield scene[place + 1], f"expected another time than that of {frame_name(scene[place])}, got it"
        elif gaps.any() and np.median(gaps) < SHORTEST:
            words = f"expected frames at least {SHORTEST} s apart, got {np.median(gaps):.3g} s in the median"
            yield first, f"{words}: is the unit another?"


def order_notes(frames: Sequence[OutdoorFrame]) -> Iterator[str]:
    """What is odd about the order of frames and harms nothing, one line each.

    Frames that are listed in another order than that of their time stamps, and gaps longer than
    :data:`MAX_GAP`.

    Args:
        frames: In the order of the list.
    """
    timeline = Timeline(frames, math.inf)
    steps = [
        (pair, _seconds_between(frames, pair))
        for k in range(len(frames))
        if len(pair := timeline.up_to(k, 2)) == 2
    ]
    shuffled = [pair for pair, seconds in steps if seconds is not None and pair[0] < pair[1]]
    if shuffled:
        later, before = (frame_name(frames[k]) for k in shuffled[0])
        yield (
            f"time: frames are listed in another order than that of their time stamps ({later} is taken "
            f"after {before}): they are read in order of time"
        )
    gaps = sorted(((s, pair) for pair, s in steps if s is not None and s > MAX_GAP), reverse=True)
    if gaps:
        seconds, pair = gaps[0]
        count = f"{len(gaps)} gap{'s' * (len(gaps) > 1)} longer than {MAX_GAP} s"
        yield (
            f"time: {count}, the longest {seconds:.3g} s after {frame_name(frames[pair[1]])}: no sweep is "
            "merged across a gap (max_gap)"
        )


def _seconds_between(frames: Sequence[OutdoorFrame], pair: Sequence[int]) -> float | None:
    """The time from a frame to the one before it; ``None`` where stamps do not tell."""
    later, before = (frames[k].seconds for k in pair)
    return None if later is None or before is None else later - before


def chosen_cameras(
    frames: Iterable[OutdoorFrame], asked: tuple[str, ...] | None, places: Mapping[str, int] | None
) -> tuple[str, ...]:
    """The cameras in their places: as asked, or all that a frame has, in the order of their first naming.

    Where places are known, those of such a name stand there, and ``""`` at a place that none of them has.

    Raises:
        ValueError: If no frame has one that is asked for, or one is asked for twice.
    """
    known = tuple(dict.fromkeys(name for frame in frames for name in frame.cameras))
    if asked is None:
        return common_places([known], places)[0]
    if not asked or len(set(asked)) < len(asked) or not set(asked) <= set(known):
        names = ", ".join(map(brief, known)) or "none"
        raise ValueError(f"cameras: expected different ones of {names}, got {', '.join(map(brief, asked))}")
    return common_places([asked], places)[0]


class PackedFrames(Sequence[Any]):
    """Frames kept as bytes and unpacked when asked for.

    A recording of hours has ten million numbers, lists and texts in its index; as Python objects they take a
    gigabyte, and every process that prepares batches would get its own.

    Args:
        frames: What to keep.
    """

    def __init__(self, frames: Iterable[Any]) -> None:
        # Three times smaller: names of fields make up most of it.
        self._rows = [zlib.compress(pickle.dumps(frame, pickle.HIGHEST_PROTOCOL), 1) for frame in frames]
        self._recent: Cache = MemoryCache(RECENT_BYTES)

    def __len__(self) -> int:
        return len(self._rows)

    def remember_in(self, cache: Cache) -> None:
        """Keep unpacked frames in this memory from now on."""
        self._recent = cache

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """One frame, or a list of some; raises ``IndexError`` outside."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        return self._recent.get(
            index, lambda: pickle.loads(zlib.decompress(row)), lambda _: UNPACKED * len(row)
        )


def packed(index: OutdoorFolder | IndoorFolder) -> OutdoorFolder | IndoorFolder:
    """The same index with its frames kept as bytes; what was looked up in them stays known."""
    known = {"frames": PackedFrames(index.frames), "first_of_scene": index.first_of_scene}
    return index.model_copy(update=known)


def check_options(
    counts: dict[str, int | None],
    sensor_origin: Sequence[int | float] | None,
    max_gap: int | float,
    fit: str,
) -> None:
    """Raise a ``ValueError`` unless the options of a folder make sense.

    Args:
        counts: Whole numbers by name, ``None`` where not given.
        sensor_origin: Three numbers in metres, or ``None``.
        max_gap: Seconds.
        fit: One of :data:`FITS`.
    """
    if fit not in FITS:
        raise ValueError(f"fit: expected one of {', '.join(FITS)}, got {fit!r}")
    for name, value in counts.items():
        least = 2 if name == "held_out_every" else 1
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if sensor_origin is not None and not all(abs(value) <= FARTHEST for value in sensor_origin):
        raise ValueError(f"sensor_origin: expected three finite numbers in metres, got {sensor_origin}")
    if not max_gap > 0:
        raise ValueError(f"max_gap: expected a positive number of seconds, got {max_gap}")
