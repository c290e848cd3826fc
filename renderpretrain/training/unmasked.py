"""Passes over a few training scenes with nothing hidden, on which batch norms are measured before use."""

from collections.abc import Iterator

import torch
from torch import nn

from renderpretrain.data import SceneDataset
from renderpretrain.recipes.recipe import EncodesScenes
from renderpretrain.training.order import held_out_batch

STATISTICS_SCENES = 4
"""How many training scenes are encoded, evenly spread over them all."""


def encode_unmasked(
    recipe: nn.Module, dataset: SceneDataset, *, training: int, batch_size: int, device: torch.device
) -> Iterator[object]:
    """Encode a few training scenes with nothing hidden, as encoders are used.

    For :func:`~renderpretrain.encoders.norms.estimate_statistics`, which runs it.

    Args:
        recipe: Its ``encode`` is called; without one nothing happens.
        dataset: Where the scenes are.
        training: The first so many scenes are trained on.
        batch_size: As many as in a step: some norms need more than one.
        device: Where the recipe is.
    """
    if not isinstance(recipe, EncodesScenes):
        return
    chosen = range(training)[:: -(-training // STATISTICS_SCENES)]
    for start in range(0, max(len(chosen) - batch_size + 1, 1), batch_size):
        indices = (chosen[(start + k) % len(chosen)] for k in range(batch_size))
        yield recipe.encode(held_out_batch(dataset, *indices).to(device))
