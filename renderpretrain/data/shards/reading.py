"""Scenes in shards, read when asked for: one frame costs one frame's bytes, wherever it lies."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from renderpretrain.data.arranged import arranged
from renderpretrain.data.camera_places import common_places
from renderpretrain.data.folder.access import FolderAccess, file_and_span
from renderpretrain.data.folder.cache import MemoryCache
from renderpretrain.data.folder.fields import ODD_VALUES, SceneFolderError
from renderpretrain.data.folder.index import OUTDOOR, placed_problems
from renderpretrain.data.folder.json_files import json_of_file
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.remote import read_together, remote_files
from renderpretrain.data.folder.scene_folder import CACHE_BYTES, SceneFolder
from renderpretrain.data.folder.schema import IndoorFrame, OutdoorFrame
from renderpretrain.data.folder.validation import file_problems, file_readings, older_readings
from renderpretrain.data.scene import Scene
from renderpretrain.data.shards.index import INDEX_OF_SHARDS, Shard, ShardIndex, parse_shard_index

OPEN_FRAMES = 2**16
"""Frames, of whole shards, that are described in memory at the same time: 200 MB at most."""

PART = 2**24
"""Bytes that are read at once where all of a shard is."""

ASKED_AT_ONCE = 16
"""Shards whose lengths a store is asked for at the same time."""

INDEX_BYTES = 2**29
"""Largest JSON file beside the shards."""


class ShardScenes:
    """The scenes of a prepared recording in tar files, by their numbers.

    Shards are opened when a scene of theirs is asked for, and of a shard the bytes of that scene are read,
    so that the data may be larger than the memory and any order costs the same: a shard's frames are
    described once, in milliseconds each, and their descriptions stay (:data:`OPEN_FRAMES`). Scenes of one
    shard follow each other; those of two do not.

    Attributes:
        path: The folder with ``shards.json``.
        location: The same from anywhere, or a URL.
        options: Arguments of all its shards.
        asked_cameras: Those that were asked for; ``None`` for all there are.
        index: What it says.
        camera_names: Names of the cameras in their places.
        class_names: Names of the classes.
        image_size: ``(height, width)`` of the images.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_size: tuple[int, int] | None = None,
        cameras: tuple[str, ...] | None = None,
        places: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        """Read ``shards.json``; no shard is opened.

        Args:
            path: The folder; or a URL that fsspec opens, of which only what is needed is fetched.
            image_size: ``(height, width)`` all images are brought to; ``None`` keeps their size.
            cameras: Which cameras, and in which order; ``None`` takes all.
            places: Of cameras by their names, as another recording has them.
            options: Further arguments of :class:`SceneFolder`, which every shard is read as.

        Raises:
            SceneFolderError: If there is no such file, or a shard is missing or has another length.
            ValueError: If a camera is asked for that there is not.
        """
        self._sweeps = int(options.get("sweeps") or 1)
        self.path, self.options, self.asked_cameras = Path(path), options, cameras
        self.location = str(path) if "://" in str(path) else str(self.path.expanduser().resolve())
        self.remote = remote_files(str(path))
        access = FolderAccess(self.path, table=INDEX_OF_SHARDS, remote=self.remote)
        raw = access.read(INDEX_OF_SHARDS, "index", INDEX_BYTES)
        self.index = parse_shard_index(self.path / INDEX_OF_SHARDS, raw)
        check_lengths(access, self.index)
        known = tuple(self.index.cameras)
        if cameras is not None and not set(cameras) <= set(known):
            raise ValueError(f"cameras: expected some of {', '.join(known)}, got {', '.join(cameras)}")
        self.camera_names = common_places([known if cameras is None else cameras], places)[0]
        self.class_names = tuple(self.index.class_names)
        self.image_size = image_size or self.index.image_size
        self._open: dict[int, SceneFolder] = {}
        self._stretches: dict[int, np.ndarray] = {}
        self._cache = MemoryCache(CACHE_BYTES)
        self._ends = np.cumsum([self._scenes_of(number) for number in range(len(self.index.shards))])

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it opens shards itself."""
        return {**self.__dict__, "_open": {}, "_stretches": {}}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``; raises ``IndexError`` outside ``range(len(self))``."""
        folder, place, _ = self._found(index)
        with self._few_requests(index, folder, place, pictured=True):
            return arranged(folder[place], self.camera_names)

    def without_images(self, index: int) -> Scene:
        """Scene ``index``; outdoors without its pictures."""
        folder, place, _ = self._found(index)
        with self._few_requests(index, folder, place, pictured=False):
            return folder.without_images(place)

    def frame(self, index: int) -> OutdoorFrame | IndoorFrame:
        """What is described of scene ``index``: its files and calibration, none of which is read."""
        folder, place, _ = self._found(index)
        return folder.index.frames[place]

    def sequence(self, index: int) -> Sequence[int]:
        """Scenes of the same shard that follow each other around one, in order of time."""
        folder, place, first = self._found(index)
        return [first + other for other in folder.sequence(place)]

    def _found(self, index: int) -> tuple[SceneFolder, int, int]:
        """The shard of a scene, the scene's number in it, and the number of the shard's first scene."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: expected an index in [0, {len(self)}), got {index}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[number - 1]) if number else 0
        return self._shard(number), index - first, first

    @contextmanager
    def _few_requests(self, index: int, folder: SceneFolder, place: int, *, pictured: bool) -> Iterator[None]:
        """Within it a store is asked once for what a scene needs of a frame, and of a sweep before it."""
        if self.remote is None:
            yield
            return
        number = int(np.searchsorted(self._ends, index, side="right"))
        sweep_alone, everything = self._stretches[number]
        before = range(max(place - self._sweeps + 1, 0), place)
        own = (everything if pictured else sweep_alone)[folder.frames_of(place)]
        url = f"{self.remote.location}/{self.index.shards[number].file}"
        asked = [*own.tolist(), *sweep_alone[before].tolist()]
        with read_together(url, [(begin, end) for begin, end in asked]):
            yield

    def _shard(self, number: int) -> SceneFolder:
        """A shard as a scene folder; those that were used last stay open."""
        folder = self._open.pop(number, None) or self._opened(number)
        self._open[number] = folder
        described = sum(self.index.shards[other].frames for other in self._open)
        while described > OPEN_FRAMES and len(self._open) > 1:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._stretches.pop(oldest, None)
            described -= self.index.shards[oldest].frames
        return folder

    def _opened(self, number: int) -> SceneFolder:
        """A shard, its frames described but none of them read."""
        shard = self.index.shards[number]
        access = FolderAccess(self.path, table=shard.index, remote=self.remote)
        content = shard_content(access, self.index, shard)
        asked = self.asked_cameras
        if asked is not None:
            there = {name for frame in content["frames"] for name in frame.get("cameras", ())}
            asked = tuple(name for name in asked if name in there) or None
        folder = SceneFolder(
            self.path,
            reader=Reader("shards", partial(_given, content), shard.index, remote=self.remote),
            image_size=self.image_size,
            cameras=asked,
            **self.options,
        )
        folder.remember_in(self._cache.part(number))
        if self.remote is not None:
            known = [
                [
                    stretch_of(list(needed_spans(frame, names, older=self._sweeps > 1)))
                    for frame in content["frames"]
                ]
                for names in ((), self.camera_names)
            ]
            self._stretches[number] = np.array(known)
        return folder

    def _scenes_of(self, number: int) -> int:
        """How many scenes a shard has: outdoors one a frame."""
        outdoors = self.index.format in OUTDOOR
        return self.index.shards[number].frames if outdoors else len(self._shard(number))


def needed_spans(entry: Any, cameras: Collection[str], *, older: bool) -> Iterator[tuple[int, int]]:
    """Offset and length in its shard of each file that a scene needs of a frame.

    Args:
        entry: What the shard's index says of the frame, or of a part of it.
        cameras: Those that are looked at.
        older: Whether sweeps are that the frame names beside its own.
    """
    if isinstance(entry, str):
        span = file_and_span(entry)[1]
        if span is not None:
            yield span
    elif isinstance(entry, dict | list):
        pairs = entry.items() if isinstance(entry, dict) else enumerate(entry)
        for key, part in pairs:
            if key == "cameras" and isinstance(part, dict):
                part = {name: camera for name, camera in part.items() if name in cameras}
            if key != "sweeps" or older:
                yield from needed_spans(part, cameras, older=older)


def stretch_of(spans: list[tuple[int, int]]) -> tuple[int, int]:
    """Where bytes begin and end that hold all files of a frame; nothing if most of them are not needed."""
    begin = min((offset for offset, _ in spans), default=0)
    end = max((offset + length for offset, length in spans), default=0)
    return (begin, end) if 2 * sum(length for _, length in spans) >= end - begin else (0, 0)


def _given(content: Any, _: FolderAccess) -> Any:
    """The content that is known already."""
    return content


def shard_content(access: FolderAccess, index: ShardIndex, shard: Shard) -> dict[str, Any]:
    """A shard's frames as a ``frames.json`` would describe them.

    Raises:
        SceneFolderError: If the JSON file beside it cannot be read, or is another shard's.
    """
    where = access.named(shard.index)
    record = json_of_file(access, shard.index, "index", INDEX_BYTES)
    try:
        same, frames = record["sha256"] == shard.sha256, record["frames"]
    except ODD_VALUES as error:
        raise SceneFolderError(f"{where}: expected sha256 and frames, got: {error}") from error
    if not same or not isinstance(frames, list) or len(frames) != shard.frames:
        raise SceneFolderError(f"{where}: expected the {shard.frames} frames of {shard.file}, got others")
    return {**index.fields, "frames": frames}


def check_lengths(access: FolderAccess, index: ShardIndex) -> None:
    """Raise a :class:`~renderpretrain.data.SceneFolderError` if a shard is missing or has another length."""
    files = [shard.file for shard in index.shards]
    if access.remote is None:
        lengths = [access.length(file, "shard") for file in files]
    else:
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            lengths = list(pool.map(lambda file: access.length(file, "shard"), files))
    for shard, length in zip(index.shards, lengths, strict=True):
        if length != shard.bytes:
            raise SceneFolderError(
                f"{access.named(shard.file)}: shard: expected {shard.bytes} bytes, got {length}"
            )


def shard_problems(path: str | Path) -> Iterator[str]:
    """What is wrong with shards, one line each: every byte is read, its digest compared, every file decoded.

    Args:
        path: The folder or URL.
    """
    access = FolderAccess(Path(path), table=INDEX_OF_SHARDS, remote=remote_files(str(path)))
    try:
        raw = access.read(INDEX_OF_SHARDS, "index", INDEX_BYTES)
        index = parse_shard_index(access.described_in, raw)
    except SceneFolderError as error:
        yield str(error)
        return
    for shard in index.shards:
        try:
            check_lengths(access, index.model_copy(update={"shards": [shard]}))
            content = shard_content(access, index, shard)
            found = _digest(access, shard)
        except SceneFolderError as error:
            yield str(error)
            continue
        if found != shard.sha256:
            where = f"{access.named(shard.file)}: shard"
            yield f"{where}: expected the digest {shard.sha256}, got {found}: it is damaged"
            continue
        yield from _frame_problems(replace(access, table=shard.index), content)


def _frame_problems(access: FolderAccess, content: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the frames of a shard that is whole: its pictures were packed without a look."""
    index, problems = placed_problems(access, content)
    yield from (line for _, line in problems)
    if index is None:
        return
    for position in range(len(index.frames)):
        for readings in (file_readings, older_readings):
            yield from file_problems(readings(access, index, position))


def _digest(access: FolderAccess, shard: Shard) -> str:
    """The digest of a shard's bytes, read in parts."""
    digest = hashlib.sha256()
    for offset in range(0, shard.bytes, PART):
        length = min(PART, shard.bytes - offset)
        digest.update(access.read(f"{shard.file}#{offset}+{length}", "shard", PART))
    return digest.hexdigest()
