"""The small head of a probe, and how it is fitted to features that do not change."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.probes.task import Places, Task

LEAST_SPREAD = 1e-6
"""Features that spread less are constant, and stay 0."""


@dataclass(frozen=True)
class Budget:
    """What every arm of a probe gets, pre-trained or not.

    Attributes:
        steps: Updates; AdamW, its learning rate on a cosine from ``lr`` to 0.
        lr: Of the head, and in fine-tuning of the encoders too.
        weight_decay: Of all of them.
        batch: Places in a step of a linear probe; fine-tuning takes a scene.
        places: At most so many per training scene.
        test_places: At most so many per test scene.
        statistics_scenes: Training scenes, whose labels are not looked at, that batch-norm statistics and
            the head's scale come from.
    """

    steps: int = 400
    lr: float = 1e-2
    weight_decay: float = 1e-4
    batch: int = 4096
    places: int = 4096
    test_places: int = 16384
    statistics_scenes: int = 16

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "places", "test_places", "statistics_scenes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


class Head(nn.Module):
    """Features, each scaled to mean 0 and spread 1, and one linear map.

    The scale is fixed: without it a learning rate would suit one encoder's features and not another's.

    Args:
        features: Rows the scale comes from.
        outputs: Numbers per place.
        seed: Of the linear map's weights.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, features: Float[Tensor, "M C"], outputs: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(0))
        spread = features.std(0, correction=0)
        self.register_buffer("spread", torch.where(spread > LEAST_SPREAD, spread, torch.inf))
        self.linear = nn.Linear(features.shape[1], outputs)
        generator, bound = torch.Generator().manual_seed(seed), 1 / math.sqrt(features.shape[1])
        with torch.no_grad():
            for parameter in self.linear.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        self.to(features.device)

    def forward(self, features: Float[Tensor, "M C"]) -> Float[Tensor, "M K"]:
        """Differentiable."""
        return self.linear((features - self.mean) / self.spread)


def fit_head(head: Head, places: Places, task: Task, budget: Budget, seed: int) -> None:
    """Train a head on features that do not change.

    Args:
        head: Changed in place.
        places: The labelled ones.
        task: Gives the loss.
        budget: Steps, rate and batch.
        seed: Of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer, schedule = build_optimizer([{"params": list(head.parameters())}], budget)
    for _ in range(budget.steps):
        rows = torch.randint(len(places.answers), (budget.batch,), generator=generator)
        drawn = places[rows.to(places.answers.device)]
        optimizer.zero_grad()
        task.loss(head(drawn.features), drawn.answers).backward()
        optimizer.step()
        schedule.step()


def build_optimizer(
    groups: list[dict[str, list[nn.Parameter]]], budget: Budget
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW on a cosine."""
    optimizer = torch.optim.AdamW(groups, lr=budget.lr, weight_decay=budget.weight_decay)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
