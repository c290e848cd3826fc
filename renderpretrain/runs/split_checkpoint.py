"""Checkpoints in parts: each process writes and reads its own, by PyTorch's ``torch.distributed.checkpoint``.

Such a checkpoint is a folder of one safetensors file of each process, and ``checkpoint.json``: what it holds
beside tensors, with length and CRC-32 of each file. Nothing in it is unpickled. It is written under another
name, which it loses when the last file is in place.
"""

import json
import math
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from renderpretrain.storage.files import PARTIAL, remove, sync_folder, write_text

INDEX = "checkpoint.json"
"""The file that is written last."""

PART = "shard-{:05d}-model-00001-of-00001.safetensors"
"""What PyTorch calls the file of a process, which it counts from 1."""


def is_split(value: object) -> bool:
    """Whether a tensor is one of which every process keeps a part."""
    return hasattr(value, "placements")


def any_split(tensors: object) -> bool:
    """Whether one of the tensors in a mapping is split."""
    return isinstance(tensors, Mapping) and any(map(is_split, tensors.values()))


@contextmanager
def raised_in_all(together: bool = True) -> Iterator[None]:
    """What one process cannot do in this block, such as write a file, is raised in all of them after it.

    Else the others would wait for one that has left.

    Args:
        together: Whether there are several, all of which come here.
    """
    error: Exception | None = None
    try:
        yield
    except (ValueError, OSError) as raised:
        error = raised
    met = [error]
    if together:
        met *= dist.get_world_size()
        dist.all_gather_object(met, error)
    for each in met:
        if each is not None:
            raise each


def write_parts(path: Path, state: Mapping[str, Any]) -> None:
    """Write a folder to which each process gives what it keeps; all processes come here together.

    Args:
        path: Of the folder; one that is there is replaced when the new one is whole.
        state: As of any checkpoint; of its tensors some are split.

    Raises:
        OSError: In all processes, if one of them cannot write.
    """
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageWriter, save

    partial, rank = path.with_name(path.name + PARTIAL), dist.get_rank()
    tensors, plain = _taken_apart(state)
    with raised_in_all():
        if rank == 0:
            remove(partial)
            partial.mkdir(parents=True)
    try:
        try:
            save(tensors, storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True))
        except CheckpointException as error:
            raise OSError(_reason(error)) from error
        files: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(files, _sums(partial / PART.format(rank + 1)))
        with raised_in_all():
            if rank == 0:
                plain["files"] = {PART.format(k): sums for k, sums in enumerate(files, 1) if sums}
                write_text(partial / INDEX, json.dumps(plain))
                remove(path)
                os.replace(partial, path)
                sync_folder(path.parent)
    finally:
        if rank == 0:
            remove(partial)


def read_parts(path: Path, like: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a folder of parts holds, in the form of any checkpoint, whatever number of processes wrote it.

    Args:
        path: Of the folder.
        like: Weights by name. Where some are split, all processes come here together, and of a tensor of that
            name, and of what the optimiser keeps for it, each reads the same part. Else all is read.

    Raises:
        ValueError: If it is not whole, or another than was written; in all processes that came together.
        OSError: If it cannot be read.
    """
    from torch.distributed import checkpoint

    if not hasattr(checkpoint, "HuggingFaceStorageReader"):
        raise ValueError(f"written in parts, which torch 2.13 reads, and this is {torch.__version__}")
    together = any_split(like)
    with raised_in_all(together):
        rank, count = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        plain = check_parts(path, rank, count)
    reader = checkpoint.HuggingFaceStorageReader(str(path))
    tensors = {
        key: _empty(key, found, like.get(key.partition("/")[2]))
        for key, found in reader.read_metadata().state_dict_metadata.items()
    }
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is meant
            checkpoint.load(tensors, storage_reader=reader, no_dist=not together)
    except checkpoint.CheckpointException as error:
        raise ValueError(_reason(error)) from error
    return _put_together(tensors, plain)


def check_parts(path: Path, rank: int = 0, count: int = 1) -> dict[str, Any]:
    """What a folder of parts holds beside tensors, after every ``count``-th file has been compared with it.

    Args:
        path: Of the folder.
        rank: Which file is the first.
        count: Of processes that share the work.

    Raises:
        ValueError: If a file is missing or another than was written, or one is there that was not.
        OSError: If one cannot be read.
    """
    plain = json.loads((path / INDEX).read_text())
    files = plain.pop("files", None) if isinstance(plain, dict) else None
    if not isinstance(files, dict) or not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in files):
        raise ValueError(f"{INDEX}: expected the files of processes")
    there = {file.name for file in path.glob("*.safetensors")}
    for name in sorted(there ^ set(files)):
        raise ValueError(f"{name} is {'not one of its files' if name in there else 'missing'}")
    for name in sorted(files)[rank::count]:
        if _sums(path / name) != files[name]:
            raise ValueError(f"damaged: {name} is not what was saved (its checksum differs)")
    return plain


def _empty(key: str, found: Any, like: Tensor | None) -> Tensor:
    """Memory for a tensor, or for this process's part of it; a ``ValueError`` if the files lack a part."""
    size, dtype = tuple(found.size), found.properties.dtype
    if sum(math.prod(chunk.sizes) for chunk in found.chunks) != math.prod(size):
        raise ValueError(f"{key}: expected parts that make up a tensor of shape {size}")
    if like is not None and is_split(like) and like.shape == found.size:
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype)


def _taken_apart(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint, by ``model`` or the optimiser's word and by name; and the rest."""
    named = {f"model/{name}": value for name, value in state["model"].items()}
    for name, kept in state["optimizer"]["moments"].items():
        named |= {f"{what}/{name}": value for what, value in kept.items()}
    tensors = {key: value.detach() for key, value in named.items() if isinstance(value, Tensor)}
    plain = {key: value for key, value in state.items() if key not in ("model", "optimizer")}
    plain["optimizer"] = state["optimizer"]["optimizer"]
    plain["numbers"] = {key: value for key, value in named.items() if key not in tensors}
    return tensors, plain


def _put_together(tensors: Mapping[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    """What :func:`_taken_apart` took apart."""
    model: dict[str, Any] = {}
    moments: dict[str, dict[str, Any]] = {}
    for key, value in {**tensors, **plain.pop("numbers", {})}.items():
        what, _, name = key.partition("/")
        if what == "model":
            model[name] = value
        else:
            moments.setdefault(name, {})[what] = value
    return plain | {"model": model, "optimizer": {"optimizer": plain.get("optimizer"), "moments": moments}}


def _sums(path: Path) -> list[int] | None:
    """Length and CRC-32 of a file; ``None`` where a process had nothing to write."""
    if not path.is_file():
        return None
    length = crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            length, crc = length + len(block), zlib.crc32(block, crc)
    return [length, crc]


def _reason(error: Any) -> str:
    """The first of what the processes met, in a line."""
    met = next(iter(error.failures.values()))[0] if error.failures else error
    return (str(met).strip().splitlines() or [type(met).__name__])[0][:200]
