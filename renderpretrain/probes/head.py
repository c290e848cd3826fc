"""The small head of a probe, and how it is fitted to features that do not change."""

import copy
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

MOST_ITERATIONS = 100
"""Of L-BFGS. Twice as many take 1.7 times as long and change mIoU by 0.0003 at most (LiDAR levels of
``render-distill-lidar``, 5 and 60 labelled streets); half as many by 0.004."""

LEAST_GAIN = 1e-8
"""An iteration that gains less, or moves weights less, is the last."""

LEAST_VARIANCE = 1e-3
"""Added to variances, which are 1 on average, where features are made to vary alike."""


@dataclass(frozen=True)
class Budget:
    """What every arm of a probe gets, pre-trained or not.

    Attributes:
        steps: Of a linear head at most so many iterations, and :data:`MOST_ITERATIONS`; updates of a task's
            own.
        places: At most so many per training scene.
        fit_places: A linear head is fitted to at most so many of the labelled ones; beyond, more say little.
        test_places: At most so many per test scene.
        statistics_scenes: Training scenes, whose labels are not looked at, that batch-norm statistics and
            the head's scale come from.
        penalties: Of a linear head's squared weights; every head takes the one that does best on validation
            scenes.
    """

    steps: int = 200
    places: int = 4096
    fit_places: int = 65536
    test_places: int = 16384
    statistics_scenes: int = 16
    penalties: tuple[float, ...] = (30.0, 1000.0, 30000.0)

    def __post_init__(self) -> None:
        for name in ("steps", "places", "fit_places", "test_places", "statistics_scenes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.penalties or min(self.penalties) <= 0:
            raise ValueError(f"penalties: expected numbers above 0, got {self.penalties}")


class Head(nn.Module):
    """Features, each scaled to mean 0 and spread 1, and one linear map.

    The scale is fixed: without it a learning rate or a penalty would suit one encoder's features and not
    another's. It is that of a batch norm in evaluation, whose statistics are those of training places, before
    the linear layer, as ScaLR's probe has one; a norm's own factors and offsets would be the linear map's.

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


def fit_heads(head: Head, places: ProbeSamples, task: Task, budget: Budget) -> dict[float, Head]:
    """Heads at the optimum of their loss, on features that do not change: one for every penalty.

    The loss, a mean over all places, and half the squared weights times the penalty over the number of
    places, as logistic regression is usually regularised; L-BFGS, until scores no longer change. A probe
    must say what the features hold, not how fast a gradient finds it: pre-trained features share large common
    parts, and along the rest gradient descent hardly moves. So the search is for weights of features that
    share nothing, which changes how soon the optimum is found, and not where it lies.

    Args:
        head: What the search for the largest penalty begins with.
        places: The labelled ones.
        task: Gives the loss.
        budget: Penalties and iterations.
    """
    features, count = head.scaled(places.features), len(places.answers)
    back = _spreading(features)
    features = features @ back
    weight = (head.linear.weight.detach() @ torch.linalg.pinv(back)).requires_grad_()
    bias = head.linear.bias.detach().clone().requires_grad_()
    found, iterations = {}, min(budget.steps, MOST_ITERATIONS)
    for penalty in sorted(budget.penalties, reverse=True):
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=iterations,
            history_size=HISTORY,
            max_eval=2 * iterations,
            tolerance_change=LEAST_GAIN,
            line_search_fn="strong_wolfe",
        )

        def loss(
            optimizer: torch.optim.Optimizer = optimizer, factor: float = penalty / (2 * count)
        ) -> Tensor:
            optimizer.zero_grad()
            value = task.loss(nn.functional.linear(features, weight, bias), places.answers)
            value = value + factor * (weight @ back.T).square().sum()
            value.backward()
            return value.detach()

        optimizer.step(loss)
        fitted = copy.deepcopy(head)
        with torch.no_grad():
            fitted.linear.weight.copy_(weight @ back.T)
            fitted.linear.bias.copy_(bias)
        found[penalty] = fitted
    return found


def _spreading(features: Float[Tensor, "M C"]) -> Float[Tensor, "C C"]:
    """From features to such that vary alike in all directions, but for those in which they hardly vary."""
    moments = (features.T @ features / len(features)).double()
    values, vectors = torch.linalg.eigh(moments)
    return (vectors / (values.clamp(min=0) + LEAST_VARIANCE).sqrt()).to(features)
