"""What belongs together in a recording: sweeps by their time stamps, cameras by their names."""

import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from renderpretrain.data.cache import MemoryCache
from renderpretrain.data.camera_places import common_places
from renderpretrain.data.folder.fields import FARTHEST, brief
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder, OutdoorFrame

MAX_GAP = 1.5
"""Seconds between frames that follow each other, unless the user says otherwise; one a second do."""

RECENT_BYTES = 2**20
"""Unpacked frames that a folder remembers, by their packed size."""


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
        self._rows = [pickle.dumps(frame, pickle.HIGHEST_PROTOCOL) for frame in frames]
        self._recent = MemoryCache(RECENT_BYTES)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """One frame, or a list of some; raises ``IndexError`` outside."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index]
        return self._recent.get(index, lambda: pickle.loads(row), lambda _: len(row))


def packed(index: OutdoorFolder | IndoorFolder) -> OutdoorFolder | IndoorFolder:
    """The same index with its frames kept as bytes; what was looked up in them stays known."""
    known = {"frames": PackedFrames(index.frames), "first_of_scene": index.first_of_scene}
    return index.model_copy(update=known)


def check_options(
    counts: dict[str, int | None], sensor_origin: Sequence[int | float] | None, max_gap: int | float
) -> None:
    """Raise a ``ValueError`` unless the options of a folder make sense.

    Args:
        counts: Whole numbers by name, ``None`` where not given.
        sensor_origin: Three numbers in metres, or ``None``.
        max_gap: Seconds.
    """
    for name, value in counts.items():
        least = 2 if name == "held_out_every" else 1
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")
    if sensor_origin is not None and not all(abs(value) <= FARTHEST for value in sensor_origin):
        raise ValueError(f"sensor_origin: expected three finite numbers in metres, got {sensor_origin}")
    if not max_gap > 0:
        raise ValueError(f"max_gap: expected a positive number of seconds, got {max_gap}")
