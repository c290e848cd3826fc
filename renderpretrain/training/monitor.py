"""Is my loss healthy? What a run looks at to tell: its encoders' features, and the gradient of each term."""

from collections.abc import Sequence

import torch
from torch import nn

from renderpretrain.data import Batch, SceneDataset
from renderpretrain.recipes.recipe import HasImageFeatures, HasLevels, HasPointFeatures
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.collapse import HEALTH, CollapseWatch, advice_for
from renderpretrain.runs.metrics import Row
from renderpretrain.training.health import Health, encoder_sums
from renderpretrain.training.order import held_out_batch

SCENES = 2
"""How many scenes are looked at, evenly spread over those that are held out, or over all if none is."""

NORMS_EVERY = 5
"""Gradients, which cost a backward pass for each term, are measured with every fifth look."""

DIRECTIONS = (1, 3, 8)
"""The share of the variance in so many directions is kept in the rows."""


def health_due(step: int, optimization: OptimizationConfig) -> bool:
    """Whether features are looked at after a step; evaluations bring a look as well."""
    every = optimization.monitor_every
    return every > 0 and (step in (0, optimization.steps) or step % every == 0)


def norms_due(step: int, optimization: OptimizationConfig) -> bool:
    """Whether a step measures the gradient of each term on each encoder.

    Where processes keep parts of the weights no encoder is ever whole, and the monitor does without.
    """
    asked, every = optimization.gradient_norms_every, optimization.monitor_every
    if asked and step % asked == 0:
        return True
    if not every or optimization.parallel == "fsdp":
        return False
    first = min(every, optimization.steps)
    return step >= first and (step - first) % (NORMS_EVERY * every) == 0


class Monitor:
    """Looks at what the encoders of a run say of scenes, always of the same ones with nothing hidden.

    Attributes:
        watch: Says which encoders are in trouble.
        latest: What the last look has found, by level.

    Args:
        recipe: What is trained.
        dataset: Where the scenes are.
        indices: Among which they are chosen.
    """

    def __init__(self, recipe: nn.Module, dataset: SceneDataset, indices: Sequence[int]) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.chosen = indices[:: -(-len(indices) // SCENES)]
        self.watch = CollapseWatch(advice_for(recipe))
        self.latest: dict[str, Health] = {}
        self.batches: list[Batch] = []

    @property
    def is_able(self) -> bool:
        """Whether the recipe says anything of its features."""
        return isinstance(self.recipe, HasLevels | HasPointFeatures | HasImageFeatures)

    def look(self, device: torch.device) -> Row:
        """The numbers of every level, by their names in ``metrics.jsonl``; waits for a GPU.

        A level whose features are not finite, or of which there are none, is left out.

        Args:
            device: Where the recipe is. Its mode and its buffers stay as they are.
        """
        if not self.batches:
            self.batches = [held_out_batch(self.dataset, index) for index in self.chosen]
        sums = encoder_sums(self.recipe, (batch.to(device) for batch in self.batches))
        self.latest = {name: found.health() for name, found in sums.items() if found.rows and found.is_finite}
        return {
            f"{HEALTH}{level}/{name}": value
            for level, health in self.latest.items()
            for name, value in numbers(health).items()
        }


def numbers(health: Health) -> Row:
    """What a row keeps of a level: the width, the rank, shares of the variance, quantiles of deviations."""
    (low, middle, high), (unit_low, unit_middle, unit_high) = health.std, health.unit_std
    shares = {f"variance_{k}": health.variance_in(k) for k in DIRECTIONS}
    deviations = {"std_low": low, "std": middle, "std_high": high}
    deviations |= {"unit_std_low": unit_low, "unit_std": unit_middle, "unit_std_high": unit_high}
    return {"channels": health.channels, "rank": health.rank, **shares, **deviations, "dead": health.dead}
