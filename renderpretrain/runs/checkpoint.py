"""Checkpoints: atomic, read against their checksums and without running code; a good one is always named.

A run keeps its last two in ``checkpoints/step_XXXXXX.pt``; the file ``latest`` holds the newest one's name.
Of a recipe of which every process keeps a part they are folders ``step_XXXXXX``; each process writes its own.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
import torch.distributed as dist
from torch import Tensor

from renderpretrain.runs.split_checkpoint import (
    INDEX,
    any_split,
    check_parts,
    raised_in_all,
    read_parts,
    write_parts,
)
from renderpretrain.storage.files import remove, write_atomically, write_text
from renderpretrain.storage.torch_file import open_torch_file

KEEP = 2
"""Step checkpoints that stay: the newest, and the one to fall back to."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``step_XXXXXX.pt``, point ``latest`` at it, and remove all but the last two.

    Args:
        folder: The run's ``checkpoints``.
        step: Updates done.
        state: Tensors, numbers, strings, and lists, tuples and dicts of them. Where weights are split over
            processes all of them call this together, and it writes the folder ``step_XXXXXX``.

    Raises:
        OSError: If it cannot be written; names the previous one, which is intact.
    """
    split = any_split(state["model"])
    path = folder / f"step_{step:06d}{'' if split else '.pt'}"
    previous = [p.name for p in _newest_first(folder) if p != path]
    try:
        with raised_in_all(split):
            (write_parts if split else _save)(path, state)
            if not split or dist.get_rank() == 0:
                write_text(folder / "latest", path.name + "\n")
                for old in _newest_first(folder)[KEEP:]:
                    remove(old)
    except OSError as error:
        kept = f"the previous one, {previous[0]}, is intact" if previous else "there is no previous one"
        raise OSError(f"checkpoint {path}: cannot be written ({error}); {kept}") from error
    return path


def save_final(folder: Path, state: dict[str, Any]) -> Path:
    """Write ``final.pt``: the trained weights without what only a resumed run needs.

    Raises:
        OSError: If it cannot be written.
    """
    _save(folder / "final.pt", state)
    return folder / "final.pt"


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint ``latest`` names, else the one of the highest step, else ``None``.

    ``latest`` names a file beside it: whatever else it says leads nowhere.
    """
    pointer, steps = folder / "latest", _newest_first(folder)
    named = ""
    if pointer.is_file():
        with open(pointer, errors="replace") as file:
            named = file.read(200).strip()
    return next((path for path in steps if path.name == named), next(iter(steps), None))


def step_checkpoints(folder: Path) -> dict[int, Path]:
    """Checkpoints that runs go on from, by their steps, the oldest first."""
    return {_step(path): path for path in reversed(_newest_first(folder))}


def trained_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]]:
    """What a run has learned: ``final.pt``, unless it went on afterwards; then the newest checkpoint.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    final, newest = folder / "final.pt", newest_checkpoint(folder)
    if final.is_file():
        state = load_checkpoint(final)
        if newest is None or int(state["step"]) >= _step(newest):
            return final, state
    if newest is None:
        raise ValueError(f"expected a checkpoint in {folder}, found none")
    return newest, load_checkpoint(newest)


def has_ended(state: Mapping[str, Any]) -> bool:
    """Whether weights are those of ``final.pt``, with batch norms measured on whole scenes.

    A checkpoint for resuming keeps the optimiser's state beside them, and the statistics of masked scenes.
    """
    return "optimizer" not in state


def load_checkpoint(path: Path, like: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only data is unpickled.

    Args:
        path: A file, or a folder of parts.
        like: Weights by name. Where they are split over processes, each reads its own parts from a folder;
            all processes call this together then.

    Raises:
        ValueError: If it is corrupt, half-written or not a checkpoint; names the newest good one beside it.
    """
    try:
        return _load(path, like or {})
    except _UNREADABLE as error:
        others = [p for p in _newest_first(path.parent) if p != path]
        good = next((p.name for p in others if _readable(p)), None)
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        hint = (
            f"delete it to resume from {good}, which is good" if good else "no other checkpoint is readable"
        )
        raise ValueError(f"checkpoint {path}: corrupt or half-written ({reason}); {hint}") from error


_UNREADABLE = (OSError, ValueError, RecursionError, MemoryError)


def _load(path: Path, like: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a file or a folder and check that it holds what a run needs."""
    if path.is_dir():
        state = read_parts(path, like)
    else:
        with open_torch_file(path, data_only=True) as file:
            state = file.whole()
    missing = {"step", "model"} - set(state) if isinstance(state, dict) else {"step", "model"}
    if missing:
        raise ValueError(f"no {' and no '.join(sorted(missing))} in it")
    step, model = state["step"], state["model"]
    whole = isinstance(model, Mapping) and all(isinstance(value, torch.Tensor) for value in model.values())
    if not (type(step) is int and step >= 0 and whole):
        raise ValueError("expected a number of steps and tensors by name, got something else")
    return state


def _readable(path: Path) -> bool:
    """Whether a checkpoint can be loaded."""
    try:
        check_parts(path) if path.is_dir() else _load(path, {})
    except _UNREADABLE:
        return False
    return True


def _save(path: Path, state: dict[str, Any]) -> None:
    """Write atomically; torch hides what a write met, such as a full disk, behind words of its own."""

    def write(file: BinaryIO) -> None:
        watched = _Watched(file)
        try:
            torch.save(state, cast(BinaryIO, watched))  # it asks for no more
        except RuntimeError as error:
            raise watched.met or OSError(str(error).splitlines()[0]) from error

    write_atomically(path, write)


class _Watched:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.met: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.met = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _newest_first(folder: Path) -> list[Path]:
    """Step checkpoints by falling step; a link that leads elsewhere is none."""
    here = folder.resolve()
    steps = [p for p in folder.glob("step_*") if re.fullmatch(r"step_[0-9]{1,18}(\.pt)?", p.name)]
    whole = [p for p in steps if p.suffix or (p / INDEX).is_file()]
    return sorted((p for p in whole if p.resolve().parent == here), key=lambda p: -_step(p))


def _step(path: Path) -> int:
    """The number in a step checkpoint's name."""
    return int(path.stem.removeprefix("step_"))
