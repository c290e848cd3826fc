"""Encoders and head trained together on the labelled places."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.probes.head import Budget, Head
from renderpretrain.probes.task import Task
from renderpretrain.recipes.recipe import HasEncoders, lacking

CLIP_NORM = 10.0
"""L2 norm the gradient is clipped to."""


def fine_tune(
    recipe: nn.Module,
    head: Head,
    labeled: Sequence[tuple[Scene, Int[Tensor, " K"] | slice]],
    task: Task,
    budget: Budget,
    seed: int,
) -> None:
    """Train the encoders that are taken home, and a head, with a scene a step.

    Args:
        recipe: Changed in place; what is not among its ``encoders()`` stays as it is.
        head: Changed in place.
        labeled: Scenes, and which of their places have labels.
        task: Reads the places; gives the loss.
        budget: Steps and rate.
        seed: Of the order, and of what the encoders draw (dropped paths).

    Raises:
        ValueError: If the recipe names no encoders.
    """
    if not isinstance(recipe, HasEncoders):
        raise lacking(recipe, HasEncoders, "fine-tuning")
    generator = torch.Generator().manual_seed(seed)
    encoders = nn.ModuleList(recipe.encoders().values())
    groups = [{"params": [p for p in part.parameters() if p.requires_grad]} for part in (encoders, head)]
    optimizer = torch.optim.AdamW(groups, lr=budget.lr, weight_decay=budget.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    trained = [parameter for group in groups for parameter in group["params"]]
    recipe.train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(budget.steps):
            if step % len(labeled) == 0:
                order = torch.randperm(len(labeled), generator=generator).tolist()
            scene, rows = labeled[order[step % len(labeled)]]
            places = task.read(recipe, scene, budget.places)[rows]
            optimizer.zero_grad()
            task.loss(head(places.features), places.answers).backward()
            nn.utils.clip_grad_norm_(trained, CLIP_NORM)
            optimizer.step()
            schedule.step()
    recipe.eval()
