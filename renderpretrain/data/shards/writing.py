"""Preparing a recording: shard after shard, each whole or not there, so that a killed process goes on."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

from renderpretrain.data.folder.access import INDEX
from renderpretrain.data.folder.scene_folder import SceneFolder
from renderpretrain.data.shards.index import INDEX_OF_SHARDS, Shard, ShardIndex
from renderpretrain.data.shards.plan import ShardPlan, planned_shards
from renderpretrain.data.shards.portable import PortableFrame, folder_fields, portable_frame
from renderpretrain.storage.files import PARTIAL, write_atomically, write_text

MEGABYTE = 2**20

SHARD_BYTES = 512 * MEGABYTE
"""Bytes of a shard where the user does not say."""

NAMES_FILES = ("file", "semseg_file", "color", "depth", "semseg")
"""Fields of an entry that name files."""


@dataclass(frozen=True)
class Preparation:
    """How a recording is prepared.

    Attributes:
        out: The folder that is written.
        source: The word that opens the recording, which a resumed preparation must have in common.
        packed: Tar files rather than a scene folder.
        size: Bytes of a shard, about.
        limit: Only so many of the first frames.
        workers: Processes that write beside this one; 0 writes here.
        resume: Go on where an earlier preparation ended.
    """

    out: Path
    source: str
    packed: bool = False
    size: int = SHARD_BYTES
    limit: int | None = None
    workers: int = 0
    resume: bool = False


def prepare_recording(
    folder: SceneFolder, preparation: Preparation, say: Callable[[int, int], None] = lambda done, of: None
) -> int:
    """Write a recording as shards or as one scene folder; how many frames it has.

    Scenes that are read from it are those of ``folder`` to the bit. A shard that is whole is never written
    again, and one that is not counts for nothing.

    Args:
        folder: Of the options of its word, its cameras and where its rays start are written; others are said
            when the result is opened.
        preparation: How.
        say: Told after every shard how many frames are written, and of how many.

    Raises:
        ValueError: If the folder holds something else than an earlier preparation of the same recording, or
            holds one that is not to be resumed.
        SceneFolderError: If a frame cannot be read; shards that are whole stay.
    """
    plans = planned_shards(folder, preparation.size, preparation.limit)
    fields = {
        "version": 1,
        "source": preparation.source,
        "packed": preparation.packed,
        **folder_fields(folder),
    }
    _begin(preparation, fields)
    left = [plan for plan in plans if not _is_written(preparation, plan)]
    total = sum(len(plan.positions) for plan in plans)
    done = total - sum(len(plan.positions) for plan in left)
    say(done, total)
    for count in _written(folder, preparation, left):
        done += count
        say(done, total)
    _finish(folder, preparation, fields, plans)
    return total


def _begin(preparation: Preparation, fields: dict[str, Any]) -> None:
    """Make the folder, or see that it holds the beginning of the same preparation."""
    out, about = preparation.out, preparation.out / "preparing.json"
    if out.is_dir() and any(out.iterdir()):
        if not preparation.resume:
            raise ValueError(f"out: expected a new or empty folder, or --resume, got {out}")
        known = _json_of(about)
        if known != json.loads(json.dumps(fields)):
            differs = "no preparation" if not isinstance(known, dict) else _difference(known, fields)
            raise ValueError(f"out: expected the preparation of {preparation.source} in {out}, got {differs}")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_text(about, json.dumps(fields))


def _json_of(file: Path) -> Any:
    """The content of a JSON file; ``None`` where there is none, or something else."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def _difference(known: dict[str, Any], fields: dict[str, Any]) -> str:
    """The first field in which two preparations differ."""
    name = next((name for name in {**known, **fields} if known.get(name) != fields.get(name)), "another")
    return f"another {name}"


def _is_written(preparation: Preparation, plan: ShardPlan) -> bool:
    """Whether a shard of these very frames is there, whole."""
    name = f"{plan.name}.tar" if preparation.packed else plan.name
    record, whole = _json_of(preparation.out / f"{plan.name}.json"), preparation.out / name
    try:
        same = record["file"] == name and record["digest"] == plan.digest
        known = same and len(record["frames"]) == len(plan.positions)
        return known and (whole.is_dir() or whole.stat().st_size == record["bytes"])
    except (OSError, KeyError, TypeError):
        return False


def _written(folder: SceneFolder, preparation: Preparation, plans: list[ShardPlan]) -> Iterator[int]:
    """Write shards, and yield the number of frames of each."""
    if preparation.workers == 0 or len(plans) < 2:
        for plan in plans:
            yield _write(folder, preparation, plan)
        return
    with ProcessPoolExecutor(
        min(preparation.workers, len(plans)), get_context("spawn"), _remember_folder, (folder, preparation)
    ) as pool:
        yield from pool.map(_write_remembered, plans)


_FOLDER: list[tuple[SceneFolder, Preparation]] = []
"""What a process that writes shards reads from."""


def _remember_folder(folder: SceneFolder, preparation: Preparation) -> None:
    """Keep the recording for all shards that this process writes."""
    _FOLDER[:] = [(folder, preparation)]


def _write_remembered(plan: ShardPlan) -> int:
    """Write a shard in a process of its own."""
    return _write(*_FOLDER[0], plan)


def _write(folder: SceneFolder, preparation: Preparation, plan: ShardPlan) -> int:
    """Write a shard's files and then what says that they are whole."""
    out = preparation.out
    record: dict[str, Any] = {"digest": plan.digest, "frames": []}
    if preparation.packed:
        target = out / f"{plan.name}.tar"
        write_atomically(target, lambda stream: record.update(_tar(folder, plan, target.name, stream)))
    else:
        record |= _directory(folder, plan, out)
    write_text(out / f"{plan.name}.json", json.dumps(record))
    return len(plan.positions)


class _Hashed:
    """A file that knows how much was written to it and its digest."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest, self.length = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.length += len(data)
        return self.stream.write(data)

    def tell(self) -> int:
        return self.length


def _tar(folder: SceneFolder, plan: ShardPlan, file: str, stream: BinaryIO) -> dict[str, Any]:
    """Write a tar file whose members are the same whenever it is written; what its record says."""
    hashed, entries = _Hashed(stream), []
    with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
        for position in plan.positions:
            frame, spans = portable_frame(folder, position), {}
            for short, raw in frame.files.items():
                start = hashed.length + tarfile.BLOCKSIZE
                spans[short] = f"{file}#{start}+{len(raw)}"
                _add(tar, f"{position:08d}.{short}", raw)
            _add(tar, f"{position:08d}.json", json.dumps(frame.entry).encode())
            entries.append(_renamed(frame, spans))
    return {"file": file, "bytes": hashed.length, "sha256": hashed.digest.hexdigest(), "frames": entries}


def _add(tar: tarfile.TarFile, name: str, raw: bytes) -> None:
    """Write a member; no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(raw)
    tar.addfile(member, BytesIO(raw))


def _directory(folder: SceneFolder, plan: ShardPlan, out: Path) -> dict[str, Any]:
    """Write a folder of files beside each other; what its record says."""
    partial, target, entries = out / (plan.name + PARTIAL), out / plan.name, []
    for stale in (partial, target):
        shutil.rmtree(stale, ignore_errors=True)
    partial.mkdir()
    digest, length = hashlib.sha256(), 0
    for position in plan.positions:
        frame, names = portable_frame(folder, position), {}
        for short, raw in frame.files.items():
            names[short] = f"{plan.name}/{position:08d}.{short}"
            (partial / Path(names[short]).name).write_bytes(raw)
            digest.update(raw)
            length += len(raw)
        entries.append(_renamed(frame, names))
    partial.rename(target)
    return {"file": plan.name, "bytes": length, "sha256": digest.hexdigest(), "frames": entries}


def _renamed(frame: PortableFrame, names: dict[str, str]) -> dict[str, Any]:
    """An entry whose files have other names."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: names[item] if key in NAMES_FILES and item in names else renamed(item)
                for key, item in value.items()
            }
        return [renamed(item) for item in value] if isinstance(value, list) else value

    entry: dict[str, Any] = renamed(frame.entry)
    return entry


def _finish(
    folder: SceneFolder, preparation: Preparation, fields: dict[str, Any], plans: list[ShardPlan]
) -> None:
    """Write the index of all shards, or the scene folder's."""
    out = preparation.out
    if preparation.packed:
        shards = []
        for plan in plans:
            record = json.loads((out / f"{plan.name}.json").read_text())
            about = {name: record[name] for name in ("file", "bytes", "sha256")}
            shards.append(Shard(**about, index=f"{plan.name}.json", frames=len(record["frames"])))
        index = ShardIndex(
            version=1,
            format=folder.index.format,
            cameras=list(folder.camera_names),
            image_size=folder.image_size,
            class_names=list(folder.class_names),
            fields={name: value for name, value in fields.items() if name not in ("version", "packed")},
            shards=shards,
        )
        write_text(out / INDEX_OF_SHARDS, index.model_dump_json(indent=1))
        return
    frames = []
    for plan in plans:
        frames += json.loads((out / f"{plan.name}.json").read_text())["frames"]
    write_text(out / INDEX, json.dumps({**fields, "frames": frames}))
