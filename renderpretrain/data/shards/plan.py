"""Which frames of a recording go into which shard: whole scenes together, as far as they fit."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from renderpretrain.data.folder.access import file_and_span
from renderpretrain.data.folder.merging import older_sweeps
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFrame, files_of
from renderpretrain.data.folder.views import group_views


@dataclass(frozen=True)
class ShardPlan:
    """The frames of one shard.

    Attributes:
        number: Of the shard.
        positions: Of its frames in the recording's index, in the order in which they are written.
        digest: Changes when frames, their description or the sizes of their files do.
    """

    number: int
    positions: tuple[int, ...]
    digest: str

    @property
    def name(self) -> str:
        """What the files of the shard are called, without their endings."""
        return f"{self.number:06d}"


def planned_shards(folder: SceneFolder, size: int, limit: int | None) -> list[ShardPlan]:
    """All shards of a recording.

    A scene stays whole where it fits into a shard, so that its sweeps can be merged; a longer one is cut.

    Args:
        folder: The recording; views of a room without a pose are in no shard.
        size: Bytes of a shard's files, about.
        limit: Only so many of the first frames.
    """
    units = _units(folder)
    kept = list(islice((position for unit in units for position in unit), limit))
    frames = {position: _described(folder, position) for position in kept}
    shards, current, filled = list[list[int]](), list[int](), 0
    for scene in _scenes(folder, units):
        parts = [[position for position in unit if position in frames] for unit in scene]
        weights = [sum(frames[position][1] for position in part) for part in parts]
        whole = filled + sum(weights) <= size
        for place, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            starts_scene = place == 0 and not whole
            if current and part and (starts_scene or filled + weight > size):
                shards.append(current)
                current, filled = [], 0
            current += part
            filled += weight
    shards += [current] if current else []
    return [
        ShardPlan(number, tuple(shard), _digest([frames[position][0] for position in shard]))
        for number, shard in enumerate(shards)
    ]


def _units(folder: SceneFolder) -> list[list[int]]:
    """Positions of frames that are never parted: outdoors one each, of a room the views of a scene."""
    if isinstance(folder.index, IndoorFolder):
        return group_views(folder.index, None, None)
    return [[position] for position in range(len(folder.index.frames))]


def _scenes(folder: SceneFolder, units: list[list[int]]) -> list[list[list[int]]]:
    """The units of each ``scene``, in the order in which scenes begin."""
    scenes: dict[str, list[list[int]]] = {}
    for unit in units:
        scenes.setdefault(folder.index.frames[unit[0]].scene, []).append(unit)
    return list(scenes.values())


def _described(folder: SceneFolder, position: int) -> tuple[str, int]:
    """What tells a frame from what it was before, and the bytes of its files; a missing file has none."""
    frame = folder.index.frames[position]
    older = older_sweeps(position, frame) if isinstance(frame, OutdoorFrame) else []
    names = [*files_of(folder.index, frame), *(at.entry.file for at in older)]
    sizes = [_size(folder, name) for name in names]
    return f"{frame.model_dump_json()} {sizes}", sum(sizes)


ROWS_OF_TABLE = 1000
"""About how many rows a table of pictures or range images has, of which a frame names one."""


def _size(folder: SceneFolder, name: str) -> int:
    """Bytes of a file or of a part of one."""
    file, span = file_and_span(name)
    try:
        whole = os.stat(folder.path / file).st_size if span is None else span[1]
        return whole // ROWS_OF_TABLE if file.endswith(".parquet") else whole
    except (OSError, ValueError):
        return 0


def _digest(described: Sequence[str]) -> str:
    """One number for the frames of a shard."""
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()
