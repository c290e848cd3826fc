"""Finished trainings on disk, so that work that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renderpretrain.data import Scene
from renderpretrain.storage.files import write_atomically
from renderpretrain.storage.safetensors_file import pack_tensors, unpack_tensors

SHORT = 12
"""Letters of a digest that tell one from another."""


def digest(*parts: object) -> str:
    """What texts, numbers, tensors by name, and scenes are known by: equal for equal ones, in any process."""
    hashed = hashlib.sha256()
    for part in parts:
        if isinstance(part, Mapping):
            for name in sorted(part):
                hashed.update(f"{name} {tuple(part[name].shape)} {part[name].dtype}".encode())
                hashed.update(_content(part[name]))
        elif isinstance(part, Scene):
            hashed.update(part.name.encode())
            boxes = None if part.boxes is None else part.boxes.centers
            for tensor in (part.points, part.point_labels, part.images, boxes):
                hashed.update(b"none" if tensor is None else _content(tensor))
        else:
            hashed.update(repr(part).encode())
        hashed.update(b"\0")
    return hashed.hexdigest()[:SHORT]


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


def _content(tensor: Tensor) -> bytes:
    """The numbers of a tensor."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
