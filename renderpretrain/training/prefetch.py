"""Getting the next batches ready while the current one trains; the order stays."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from renderpretrain.data import Batch
from renderpretrain.training.order import MicroBatches

DEPTH = 2
"""Batches in flight: one being built, one waiting."""


def prefetch(batches: MicroBatches, indices: range, workers: int = 0) -> Generator[Batch, None, None]:
    """The batches in order, built ahead of their use.

    Args:
        batches: What to draw from; the result does not depend on who draws.
        indices: Which ones.
        workers: 0 builds them in one thread beside the training, which suits scenes that torch generates;
            more starts so many processes, which suits decoding many images.
    """
    if workers == 0:
        yield from _threaded(batches, indices)
        return
    loader = DataLoader(
        _Map(batches),
        sampler=indices,
        batch_size=None,
        num_workers=workers,
        collate_fn=_identity,
        prefetch_factor=DEPTH,
    )
    yield from loader


class _Map(Dataset[Batch]):
    """The shape of a data set that ``DataLoader`` sends to its processes."""

    def __init__(self, batches: MicroBatches) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Batch:
        """Batch ``index``."""
        return self.batches[index]


def _identity(batch: Any) -> Any:
    """Batches come collated."""
    return batch


def _threaded(batches: MicroBatches, indices: range) -> Generator[Batch, None, None]:
    """Build batches in one thread; an exception there is raised here."""
    # A new thread starts with the machine's thread count, not with the one the user set.
    pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
    waiting: deque[Future[Batch]] = deque()
    try:
        for index in indices:
            waiting.append(pool.submit(batches.__getitem__, index))
            if len(waiting) > DEPTH:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
