"""All frames of a recording, looked at before any is learned from: what cannot be read, what is missing."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from renderpretrain.data.folder.access import FolderAccess, file_and_span
from renderpretrain.data.folder.clouds import cloud_name
from renderpretrain.data.folder.fields import SceneFolderError, brief
from renderpretrain.data.folder.index import FRAMES_JSON, placed_problems
from renderpretrain.data.folder.merging import SweepAt, older_sweeps
from renderpretrain.data.folder.order import lone_frames
from renderpretrain.data.folder.reader import Reader
from renderpretrain.data.folder.schema import IndoorFolder, OutdoorFolder, OutdoorFrame, files_of, frame_name
from renderpretrain.data.folder.stored import check_size
from renderpretrain.data.folder.validation import file_readings
from renderpretrain.storage import write_text

VERSION = 3
"""Version of what is remembered about a recording; a recording with another one is inspected again."""

THREADS = 16
"""Most frames that are looked at at the same time."""

ODD_SHARE = 0.05
"""Frames with other cameras than all others have are of another rig where they are less than this share."""


@dataclass(frozen=True)
class Needs:
    """What a recipe learns from, and cannot do without.

    Attributes:
        images: Pictures of cameras.
        points: Points of a LiDAR or of depth images.
        depths: Depth images.
        labels: Classes of points or pixels.
        poses: Where each frame was in a frame common to the recording.
        sweeps: Neighbouring sweeps of frames that have neighbours.
        most_cameras: Places for cameras, and the setting that says how many; ``None`` for any number.
        ways: How to do without one of these, as a setting, by its name.
    """

    images: bool = False
    points: bool = False
    depths: bool = False
    labels: bool = False
    poses: bool = False
    sweeps: bool = False
    most_cameras: tuple[int, str] | None = None
    ways: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameFacts:
    """What a frame of a recording has.

    Attributes:
        position: In ``frames.json``.
        name: How messages call it.
        faults: What cannot be read, one line each.
        files: What it names, as ``frames.json`` says it.
        cameras: Names of its cameras; ``color`` for a view of a room.
        images: Whether it has a picture.
        points: Whether something was measured.
        depths: Whether it has a depth image with a measurement.
        labels: Whether its points or pixels have classes.
        poses: Whether its place and time are known.
        lone: Whether it is one sweep by itself, with nothing to be merged with.
    """

    position: int
    name: str
    faults: Sequence[str] = ()
    files: Sequence[str] = ()
    cameras: Sequence[str] = ()
    images: bool = False
    points: bool = False
    depths: bool = False
    labels: bool = False
    poses: bool = False
    lone: bool = False


def inspect_folder(
    path: str | Path,
    *,
    outside: bool = False,
    reader: Reader = FRAMES_JSON,
    sweeps: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[FrameFacts]:
    """Facts about every frame of a scene folder; all files are decoded, several at a time.

    Of older sweeps that frames name beside their own, which are ten times as many, only the sizes are looked
    at, and only where they will be merged.

    What was found is remembered in the user's cache with the sizes and dates of the tables, of the folders
    that they lie in, and of all files: while these stay, nothing is read again, the tables included. Views
    without a pose are in no scene and left out here, too.

    Args:
        path: The folder.
        outside: Whether ``frames.json`` may name files outside of the folder.
        reader: Of the recording's format.
        sweeps: How many will be merged.
        say: Told what takes time.

    Raises:
        SceneFolderError: If its tables cannot be read, or none of its frames.
    """
    consulted: set[str] = set()
    access = replace(reader.access(Path(path), outside), consulted=consulted)
    memory = _memory(access, reader, sweeps > 1)
    with _alone(memory):
        known = _remembered(memory, access.path)
        if known is None:
            consulted.add(str(access.path))
            content = reader.content(access)
            tables = sorted(map(os.path.abspath, consulted))
            known = _inspected(replace(access, consulted=None), content, sweeps > 1, say)
            _remember(memory, access.path, tables, known)
    return known


def _inspected(
    access: FolderAccess, content: Any, merged: bool, say: Callable[[str], None]
) -> list[FrameFacts]:
    """The facts, from the files; ``merged`` says whether older sweeps are looked at."""
    index, broken = _readable(access, content)
    if isinstance(index, OutdoorFolder):
        whole, lone = list(range(len(index.frames))), set(lone_frames(index.frames))
    else:
        whole, lone = index.tracked, set()
    say(f"checking {len(whole) + len(broken)} frames of {access.path}")
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        seen = pool.map(lambda place: _facts(access, index, place, merged), whole)
        found = [replace(facts, lone=place in lone) for place, facts in zip(whole, seen, strict=True)]
    if isinstance(index, IndoorFolder):
        found = _with_clouds(index, dict(zip(whole, found, strict=True)))
    return sorted([*found, *broken], key=lambda frame: frame.position)


def _with_clouds(index: IndoorFolder, found: Mapping[int, FrameFacts]) -> list[FrameFacts]:
    """The facts of views with what is wrong with the cloud that they share, which was read for the first."""
    faults = {
        name: [line for line in found[first].faults if f": {cloud_name(name)}: " in line]
        for name, first in index.first_of_cloud.items()
    }
    shared = {place: faults.get(str(index.frames[place].cloud), []) for place in found}
    return [
        replace(facts, faults=list(dict.fromkeys([*facts.faults, *shared[place]])))
        for place, facts in found.items()
    ]


def missing(frames: Sequence[FrameFacts], needs: Needs) -> list[str]:
    """What is needed and no frame has, by the names of :class:`Needs`; readers ask for poses themselves."""
    names = ("images", "points", "depths", "labels")
    return [name for name in names if getattr(needs, name) and not any(getattr(f, name) for f in frames)]


def faults(table: str | Path, frames: Sequence[FrameFacts], needs: Needs) -> dict[int, list[str]]:
    """What is wrong with frames of which others are right, one line each, by the frames' positions.

    Args:
        table: The file or folder that describes the frames, for messages.
        frames: Of one recording.
        needs: What is learned from; it is :func:`missing` nothing.
    """
    rig = list(dict.fromkeys(name for frame in frames for name in frame.cameras))
    posed = any(frame.poses for frame in frames)
    needs = replace(needs, poses=needs.poses and posed, sweeps=needs.sweeps and posed)
    strangers = _strangers(frames, needs)
    found = {}
    for frame in frames:
        where = f"{table}: {frame.name}"
        lines = list(frame.faults)
        if not lines:
            lines += [f"{where}: {line}" for line in _lacking(frame, needs, rig)]
        extra = [name for name in frame.cameras if name in strangers]
        if extra:
            usual = ", ".join(brief(name) for name in rig if name not in strangers)
            lines.append(f"{where}: cameras: expected {usual}, as in other frames, got {brief(extra[0])}")
        if lines:
            found[frame.position] = lines
    return found


WORDS = {
    "points": "expected points or measured depths, got none",
    "depths": "depth: expected a depth image with measured pixels, got none",
    "labels": "expected classes (semseg), as other frames have, got none",
    "poses": "expected ego_to_global and a time stamp, as other frames have, got none",
}
"""What is said about a frame that lacks what is needed."""


def _lacking(frame: FrameFacts, needs: Needs, rig: Sequence[str]) -> list[str]:
    """What a frame that can be read lacks."""
    lines = []
    if rig and not frame.images:
        names = ", ".join(map(brief, rig[:8]))
        lines.append(f"cameras: expected at least one of {names}, as in other frames, got none")
    needs = replace(needs, poses=needs.poses or (needs.sweeps and not frame.lone))
    return lines + [
        words for name, words in WORDS.items() if getattr(needs, name) and not getattr(frame, name)
    ]


def _strangers(frames: Sequence[FrameFacts], needs: Needs) -> set[str]:
    """Cameras of another rig: of few frames, which have no others, or where there are more than places."""
    counts = Counter(name for frame in frames for name in frame.cameras)
    few = {name for name, count in counts.items() if count <= max(1, ODD_SHARE * len(frames))}
    if len(few) == len(counts):
        return set()
    if needs.most_cameras and len(counts) > needs.most_cameras[0]:
        return few
    return {name for frame in frames if set(frame.cameras) <= few for name in frame.cameras}


def _readable(access: FolderAccess, content: Any) -> tuple[OutdoorFolder | IndoorFolder, list[FrameFacts]]:
    """The frames that a content describes rightly, and facts about the others."""
    index, problems = placed_problems(access, content)
    lines: dict[int, list[str]] = {}
    for position, line in problems:
        if position is None:
            raise SceneFolderError(line)
        lines.setdefault(position, []).append(line)
    if index is None:
        index, left = placed_problems(access, content, skip=lines)
        if index is None:
            raise SceneFolderError(problems[0][1] if problems else left[0][1])
    return index, [FrameFacts(position, f"frame {position}", faults) for position, faults in lines.items()]


def _facts(access: FolderAccess, index: OutdoorFolder | IndoorFolder, place: int, merged: bool) -> FrameFacts:
    """What reading a frame's files says."""
    frame, lines, measured = index.frames[place], [], False
    for kind, read in file_readings(access, index, place):
        try:
            value = read()
        except SceneFolderError as error:
            lines.append(str(error))
        else:
            measured = measured or kind == "sweep" or (kind == "depth" and bool(np.any(value > 0)))
    files = files_of(index, frame)
    of_frame: dict[str, Any] = {"position": frame.position, "name": frame_name(frame), "faults": lines}
    if isinstance(frame, OutdoorFrame):
        older = older_sweeps(place, frame) if merged else []
        files += [at.entry.file for at in older]
        lines += _sizes_at_fault(access, older)
        of_frame |= {"cameras": list(frame.cameras), "images": bool(frame.cameras), "points": measured}
        of_frame |= {"labels": frame.lidar.has_classes}
        of_frame |= {"poses": frame.lidar.ego_to_global is not None and frame.seconds is not None}
    else:
        cloud = index.cloud_of(frame) if isinstance(index, IndoorFolder) else None
        of_frame |= {"cameras": ["color"], "images": True, "points": measured or cloud is not None}
        labelled = frame.semseg is not None or (cloud is not None and cloud.has_classes)
        of_frame |= {"depths": measured, "labels": labelled, "poses": True}
    return FrameFacts(**of_frame, files=files)


def _sizes_at_fault(access: FolderAccess, older: Sequence[SweepAt]) -> list[str]:
    """Older sweeps whose files are missing or truncated."""
    lines = []
    for at in older:
        try:
            check_size(access, at.entry, at.name)
        except SceneFolderError as error:
            lines.append(str(error))
    return lines


def _memory(access: FolderAccess, reader: Reader, merged: bool) -> Path:
    """Where what is known of a recording is remembered."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    said = f"\n{reader.name} {sorted(reader.values.items())}" if reader != FRAMES_JSON else ""
    said += "\nmerged" if merged else ""
    said += "\noutside" if access.outside else ""
    name = hashlib.sha256(os.fsencode(access.path.resolve()) + said.encode()).hexdigest()[:32]
    return cache / "renderpretrain" / "checked" / f"{name}.json"


@contextmanager
def _alone(memory: Path) -> Iterator[None]:
    """Processes of one run wait for the first that looks, where the system can, and know what it found."""
    try:
        import fcntl

        memory.parent.mkdir(parents=True, exist_ok=True)
        lock = memory.with_suffix(".lock").open("w")
    except (ImportError, OSError):
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(path: Path, tables: Collection[str], files: Collection[str]) -> str:
    """What changes when a table or folder of a recording or a file that it names does."""
    digest = hashlib.sha256()
    for place in [*tables, *(str(path / file_and_span(name)[0]) for name in files)]:
        try:
            told = os.stat(place)
            digest.update(f"{told.st_size} {told.st_mtime_ns}\n".encode())
        except (OSError, ValueError):
            digest.update(b"none\n")
    return digest.hexdigest()


def _remembered(memory: Path, path: Path) -> list[FrameFacts] | None:
    """What was found the last time, if nothing has changed since then."""
    try:
        record = json.loads(memory.read_text())
        if record["version"] != VERSION:
            return None
        facts = [FrameFacts(**frame) for frame in record["frames"]]
        files = [name for frame in facts for name in frame.files]
        return facts if record["digest"] == _digest(path, record["tables"], files) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(memory: Path, path: Path, tables: Collection[str], facts: Sequence[FrameFacts]) -> None:
    """Write down what was found; where that is impossible, it is found again the next time."""
    digest = _digest(path, tables, [name for frame in facts for name in frame.files])
    record = {"version": VERSION, "digest": digest, "tables": list(tables)}
    record |= {"frames": [asdict(frame) for frame in facts]}
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, json.dumps(record))
    except OSError:
        return
