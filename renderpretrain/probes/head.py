"""The small head of a probe, and how it is fitted to features that do not change."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.probes.task import ProbeSamples, Task

LEAST_SPREAD = 1e-6
"""Features that spread less are constant, and stay 0."""

HISTORY = 20
"""How many steps L-BFGS remembers."""


@dataclass(frozen=True)
class Budget:
    """What every arm of a probe gets, pre-trained or not.

    Attributes:
        steps: Of a linear probe at most so many iterations; updates in fine-tuning.
        lr: In fine-tuning, of encoders and head: that of AdamW, on a cosine from ``lr`` to 0.
        weight_decay: In fine-tuning.
        places: At most so many per training scene.
        test_places: At most so many per test scene.
        statistics_scenes: Training scenes, whose labels are not looked at, that batch-norm statistics and
            the head's scale come from.
    """

    steps: int = 200
    lr: float = 2e-3
    weight_decay: float = 1e-4
    places: int = 4096
    test_places: int = 16384
    statistics_scenes: int = 16

    def __post_init__(self) -> None:
        for name in ("steps", "places", "test_places", "statistics_scenes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


class Head(nn.Module):
    """Features, each scaled to mean 0 and spread 1, and one linear map.

    The scale is fixed: without it a learning rate or a penalty would suit one encoder's features and not
    another's.

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
        """Answers for feature vectors: scaled, then mapped linearly. Differentiable."""
        return self.linear(self.scaled(features))

    def scaled(self, features: Float[Tensor, "M C"]) -> Float[Tensor, "M C"]:
        """What the linear map gets."""
        return (features - self.mean) / self.spread


def fit_head(head: Head, places: ProbeSamples, task: Task, budget: Budget) -> None:
    """Take a head to the optimum of its loss, on features that do not change.

    The loss, a mean over all places, and half the squared weights over the number of places, as logistic
    regression is usually regularised; L-BFGS, until float32 sees no improvement. A probe must say what the
    features hold, not how fast a gradient finds it: pre-trained features share large common parts, and along
    the rest gradient descent hardly moves.

    Args:
        head: Changed in place.
        places: The labelled ones.
        task: Gives the loss.
        budget: Iterations.
    """
    features = head.scaled(places.features)
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=budget.steps,
        history_size=HISTORY,
        max_eval=2 * budget.steps,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = head.linear.weight.square().sum() / (2 * len(places.answers))
        value = task.loss(head.linear(features), places.answers) + penalty
        value.backward()
        return value.detach()

    optimizer.step(loss)
