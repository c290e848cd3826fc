"""Batch-norm statistics of whole inputs, for encoders that were trained on masked ones."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

BatchNorm = nn.modules.batchnorm._BatchNorm


def evaluate_by_force(model: nn.Module) -> None:
    """Put every module into evaluation mode, those too whose own ``train`` would keep them out of it."""
    model.eval()
    for module in model.modules():
        module.training = False


@torch.no_grad()
def estimate_statistics(model: nn.Module, passes: Iterable[object]) -> None:
    """Take the running statistics of all batch norms anew, as plain means over some passes.

    Training leaves those of masked inputs; a network that was never trained has 0 and 1. Neither belongs to
    what the network is used for. Norms without trained weights are frozen and stay as they are, and so do
    those that no pass reaches. The model is left in evaluation mode.

    Args:
        model: Whose norms.
        passes: Runs the model once per item, such as ``(model.encode(batch) for batch in batches)``.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and not _frozen(m)]
    kept = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    evaluate_by_force(model)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the passes
        norm.train()
    try:
        for _ in passes:
            pass
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, buffers in zip(norms, kept, strict=True):
        if norm.num_batches_tracked is not None and not norm.num_batches_tracked:
            _restore(norm, buffers)
    evaluate_by_force(model)


@contextmanager
def statistics_of(model: nn.Module, passes: Iterable[object]) -> Iterator[None]:
    """:func:`estimate_statistics` for a while; afterwards statistics and mode are as they were."""
    was_training = model.training
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        estimate_statistics(model, passes)
        yield
    finally:
        _restore(model, kept)
        model.train(was_training)


def _restore(module: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Give buffers their former values."""
    for name, buffer in module.named_buffers():
        buffer.copy_(kept[name])


def _frozen(norm: nn.Module) -> bool:
    """Whether its weights are not trained."""
    return any(not parameter.requires_grad for parameter in norm.parameters())
