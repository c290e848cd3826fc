"""Foreign checkpoints, read without running what they hold."""

import pickle
import struct
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from renderpretrain.transfer.layouts import Tensors

WRAPPERS = ("model_state", "state_dict", "model", "pipeline", "network", "model_state_dict")
"""Where frameworks put the weights beside optimiser state and counters."""

HARMLESS = ("mmengine.", "mmcv.", "numpy", "collections.", "pathlib.", "argparse.", "datetime.")
"""Modules whose objects frameworks leave in checkpoints; they are read as :class:`Inert`."""


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of another framework.

    Attributes:
        tensors: By their keys, without a wrapping ``module.``.
        versions: Version of each module that has one, as ``state_dict`` objects carry it (``_metadata``).
        header: Text beside the tensors of a safetensors file.
    """

    tensors: Tensors
    versions: Mapping[str, int] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)


class Inert:
    """Stands for an object whose class is not imported: it takes whatever it is given and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_foreign(path: Path) -> Foreign:
    """The tensors of a ``.safetensors`` file or of what ``torch.save`` wrote.

    Raises:
        ValueError: If it is no such file, only half of one, would have to run code, or holds no tensors.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no file"
        raise ValueError(f"{path}: expected a checkpoint, found {found}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    loaded = _load(path)
    state = next((loaded[k] for k in WRAPPERS if isinstance(loaded.get(k), dict)), loaded)
    tensors = {str(k): v.detach() for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        got = ", ".join(map(str, list(state)[:5])) or "nothing"
        raise ValueError(f"{path}: expected tensors by name, got {got}")
    metadata = getattr(state, "_metadata", None) or {}
    versions = {_bare(k): int(v["version"]) for k, v in metadata.items() if v.get("version") is not None}
    return Foreign({_bare(k): v for k, v in tensors.items()}, versions)


def _bare(key: str) -> str:
    """A key without what data parallel training puts in front."""
    return key.removeprefix("module.")


def _read_safetensors(path: Path) -> Foreign:
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dictionary
            return Foreign({_bare(k): v for k, v in tensors.items()}, header=file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({_first_line(error)})") from error


def _load(path: Path) -> Mapping[str, Any]:
    """What ``torch.save`` wrote; classes of frameworks become :class:`Inert`, all others are refused."""
    foreign = _foreign_classes(path)
    unknown = [name for name in foreign if not name.startswith(HARMLESS)]
    if unknown:
        raise ValueError(
            f"{path}: refused: reading it would run {unknown[0]}; expected tensors, numbers and text"
        )
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in foreign]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise whatever they lead to
        raise ValueError(f"{path}: {_unreadable(path, error)}") from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: expected a dictionary of tensors, got {type(loaded).__name__}")
    return loaded


def _unreadable(path: Path, error: Exception) -> str:
    """Why ``torch.load`` could not read a file: refused, cut short, or never a checkpoint."""
    with open(path, "rb") as file:
        start = file.read(2)
    ours = start == b"PK" or start.startswith(b"\x80")  # a zip file, a pickle
    if ours and isinstance(error, pickle.UnpicklingError):
        return "refused: it holds more than tensors, numbers and text"
    if not start or (ours and isinstance(error, EOFError | IndexError | struct.error)):
        return "not a whole checkpoint (it ends too early)"
    said = isinstance(error, OSError | RuntimeError)
    return f"not a whole checkpoint ({_first_line(error) if said else 'torch.save did not write it'})"


def _foreign_classes(path: Path) -> list[str]:
    """Names of the classes and functions a file asks for beyond those of tensors."""
    find = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if find is not None:  # torch since 2.5
        with suppress(Exception):  # written before torch 1.6, or no checkpoint at all
            return find(path)
    return []  # whatever is not data alone is refused


def _first_line(error: Exception) -> str:
    """What went wrong, short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:140]
