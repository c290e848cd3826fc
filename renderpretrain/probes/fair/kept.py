"""Finished trainings on disk, so that work that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renderpretrain.storage.files import write_atomically
from renderpretrain.storage.safetensors_file import pack_tensors, unpack_tensors

SHORT = 12
"""Letters of a digest that tell one from another."""

VERSION = 2
"""Of how trainings are done and kept: raised where the same question would find another answer."""


def digest(*parts: object) -> str:
    """What parts are known by, and the version of what is kept: equal for equal ones, in any process.

    Args:
        parts: Texts, numbers, tensors, and any of these by name, in sequences, or in dataclasses such as
            scenes, of which every field counts.
    """
    hashed = hashlib.sha256()
    for part in (VERSION, *parts):
        for piece in _pieces(part):
            hashed.update(piece)
        hashed.update(b"\0")
    return hashed.hexdigest()[:SHORT]


def _pieces(part: object) -> Iterator[bytes]:
    """All that a part holds, with the names and shapes that tell one part from another."""
    if isinstance(part, Tensor):
        yield f"{tuple(part.shape)} {part.dtype} ".encode()
        yield part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    elif is_dataclass(part) and not isinstance(part, type):
        yield from _pieces({field.name: getattr(part, field.name) for field in fields(part)})
    elif isinstance(part, Mapping):
        for name in sorted(part):
            yield f"{name}: ".encode()
            yield from _pieces(part[name])
    elif isinstance(part, tuple | list):
        yield f"{len(part)} of ".encode()
        for item in part:
            yield from _pieces(item)
    else:
        yield f"{part!r}, ".encode()


def keep(path: Path, told: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Write what is told of a training, which JSON can hold, and tensors, as one file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {f"{i:06d}": tensor.detach().cpu().contiguous() for i, tensor in enumerate(tensors)}
    content = pack_tensors(named, {"training": json.dumps(told)})
    write_atomically(path, lambda file: file.write(content))


def kept(path: Path) -> tuple[dict[str, Any], list[Tensor]] | None:
    """What was kept in a file; ``None`` where there is none.

    Raises:
        ValueError: If it is damaged; names the file and says what to do.
    """
    if not path.is_file():
        return None
    try:
        tensors, metadata = unpack_tensors(path)
        return json.loads(metadata["training"]), [tensors[name] for name in sorted(tensors)]
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{path}: expected a finished training ({reason}); remove it to train anew"
        ) from error
