"""Getting the next batches ready while the current one trains; the order stays."""

import os
import pickle
import signal
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_start_method
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from renderpretrain.data import Batch
from renderpretrain.training.order import MicroBatches

DEPTH = 2
"""Batches each process holds ready."""

MOST_WORKERS = 4
"""Processes that prepare batches beside a GPU, where nobody says how many."""


def default_workers(device: torch.device, processes: int, pictures: bool = True) -> int:
    """Processes that prepare batches for one that trains, where nobody says how many.

    A few for a GPU. Beside a CPU's work one where pictures are decoded, there are more cores than processes
    that train, and it can be forked, which takes a moment: a step of ``unipad-camera`` (``tiny``, six JPEG
    files) then waits 1 % of its time instead of 4 %. Sweeps alone and synthetic scenes are not worth one.

    Args:
        device: Of the training.
        processes: How many of them train on this machine.
        pictures: Whether preparing a batch decodes pictures.
    """
    cores = os.cpu_count() or 1
    if device.type == "cpu":
        return int(pictures and cores > processes and get_start_method() == "fork")
    return max(0, min(MOST_WORKERS, cores // processes - 1))


def prefetch(
    batches: MicroBatches, indices: range, workers: int = 0, *, pin: bool = False
) -> Generator[Batch, None, None]:
    """The batches in order, built ahead of their use.

    A scene that cannot be prepared raises here what it raised in its process.

    Args:
        batches: What to draw from; the result does not depend on who draws.
        indices: Which ones.
        workers: 0 builds them between the steps: a thread beside the training would cost a CPU more than it
            saves (measured: 0.9 s a step became 1.4 s, for two teams of OpenMP threads share the cores).
            More starts so many processes, of one thread each.
        pin: In page-locked memory, from which a GPU copies without the host's waiting.
    """
    if workers == 0:
        for index in indices:
            yield batches[index].pin_memory() if pin else batches[index]
        return
    loader = DataLoader(
        _Map(batches),
        sampler=indices,
        batch_size=None,
        num_workers=workers,
        collate_fn=_identity,
        prefetch_factor=DEPTH,
        pin_memory=pin,
        worker_init_fn=_ignore_signals,
    )
    for batch in loader:
        if isinstance(batch, Failure):
            raise batch.error from RuntimeError(f"in a process that prepares batches:\n{batch.trace}")
        yield batch


@dataclass(frozen=True)
class Failure:
    """What comes instead of a batch. ``DataLoader``'s own way puts a traceback into the error's message.

    Attributes:
        error: As it was raised.
        trace: Where, in the other process.
    """

    error: Exception
    trace: str


class _Map(Dataset[Any]):
    """The shape of a data set that ``DataLoader`` sends to its processes."""

    def __init__(self, batches: MicroBatches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch | Failure:
        """Batch ``index``, or why there is none."""
        try:
            return self.batches[index]
        except Exception as error:
            return Failure(_sendable(error), traceback.format_exc())


def _sendable(error: Exception) -> Exception:
    """The error itself where it survives the way to another process, else one that says the same."""
    with suppress(Exception):  # what an error's own constructor may raise
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _ignore_signals(_: int) -> None:
    """Leave signals, which terminals and clusters send to all processes, to the one that trains.

    It ends this one when it has written its checkpoint; torch's own way is to end at once, which is an error
    there.
    """
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _identity(batch: Any) -> Any:
    """The batch itself, because batches come collated."""
    return batch
