"""Batch-norm statistics of an encoder on the scenes it is probed on."""

from collections.abc import Iterable

import torch
from torch import nn

from renderpretrain.data import Scene
from renderpretrain.probes.task import Places, Task

BatchNorm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def estimate_statistics(recipe: nn.Module, task: Task, scenes: Iterable[Scene], limit: int) -> list[Places]:
    """Take the running statistics of all batch norms anew, as means over whole scenes; no label is read.

    An encoder that was never trained has statistics 0 and 1, which are not those of its activations, and a
    pre-trained one those of masked inputs: either would be judged on numbers that belong to something else.
    Norms that a recipe has frozen stay as they are. The recipe is left in evaluation mode.

    Args:
        recipe: Its encoders are run as the task reads them.
        task: What reads them.
        scenes: Without labels, or with labels that are not looked at.
        limit: Places that are read of each.

    Returns:
        The scenes' places, read with the new statistics.
    """
    scenes = list(scenes)
    norms = [m for m in recipe.modules() if isinstance(m, BatchNorm) and not _frozen(m)]
    momenta = [norm.momentum for norm in norms]
    recipe.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the scenes
        norm.train()
    for scene in scenes:
        task.read(recipe, scene, limit)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    recipe.eval()
    return [task.read(recipe, scene, limit) for scene in scenes]


def _frozen(norm: nn.Module) -> bool:
    """Whether its weights are not trained."""
    return any(not parameter.requires_grad for parameter in norm.parameters())
