"""The recipe of a run, ready to be looked at: its weights, and batch norms of whole scenes."""

from collections.abc import Callable

import torch
from torch import nn

from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.runs import RunDescription, TrainedRun
from renderpretrain.training.unmasked import encode_unmasked


def load_recipe(run: TrainedRun, device: torch.device, *, say: Callable[[str], None]) -> nn.Module:
    """The recipe as the run left it, for whole scenes, on a device.

    Where the run has not ended, batch norms are measured on its training scenes, as they are in
    ``final.pt``; where those are gone, they stay what masked scenes made them. A line says which.

    Args:
        run: See :func:`~renderpretrain.runs.read_run`.
        device: Where to compute.
        say: Told that line.

    Raises:
        ValueError: If the weights are not those of the recipe.
    """
    model = run.recipe().to(device)
    if not run.has_ended:
        measured = _measure(run.description, model, device)
        say(f"batch norms: {measured}, for the run stopped at step {run.step}")
    return model


def fresh_recipe(description: RunDescription, device: torch.device) -> nn.Module:
    """The recipe before its first step, for whole scenes: fresh weights of the run's seed, all of them.

    Encoders that a run began with (``init``) are fresh here, too. Batch norms are measured on the run's
    training scenes, where these are still there, so that features can be compared with those of training.

    Args:
        description: Of the run.
        device: Where to compute.
    """
    model = description.build().to(device)
    _measure(description, model, device)
    return model


def _measure(description: RunDescription, model: nn.Module, device: torch.device) -> str:
    """Take batch norms' statistics from the run's training scenes; says what they are now."""
    try:
        scenes = description.open()
    except ValueError as error:
        return f"of masked scenes ({error})"
    training, size = len(scenes) - description.holdout, description.settings.optimization.batch_size
    passes = encode_unmasked(model, scenes, training=training, batch_size=size, device=device)
    estimate_statistics(model, passes)
    return "measured on whole scenes"
