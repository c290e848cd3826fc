"""What a probe asks: places, their answers, and how a linear head's answers are judged."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene, collate

PLACES_SEED = 1
"""Seed of the choice among a scene's places; the same for every encoder."""


@dataclass(frozen=True)
class ProbeSamples:
    """Rows of features and what a head is to say of them.

    Attributes:
        features: Of the encoders.
        answers: Classes, or metres.
        positions: World positions, metres, where a place is a point.
    """

    features: Float[Tensor, "M C"]
    answers: Shaped[Tensor, " M"]
    positions: Float[Tensor, "M 3"] | None = None

    def __getitem__(self, rows: Int[Tensor, " K"] | slice) -> "ProbeSamples":
        """The samples that an index or a slice chooses."""
        positions = None if self.positions is None else self.positions[rows]
        return ProbeSamples(self.features[rows], self.answers[rows], positions)


@dataclass(frozen=True)
class Task:
    """A question.

    Attributes:
        name: ``semseg``, ``occupancy`` or ``depth``.
        metric: The score that counts, the first of ``scores``.
        less_is_better: Whether it is an error.
        outputs: Numbers a head gives per place.
        read: Places of a scene, at most so many; differentiable in the recipe's encoders. The same places for
            every recipe of one configuration.
        loss: Of outputs ``(M, outputs)`` and answers ``(M,)``.
        sums: Of outputs and answers; they add up over scenes.
        scores: Named scores of the sums.
    """

    name: str
    metric: str
    less_is_better: bool
    outputs: int
    read: Callable[[nn.Module, Scene, int], ProbeSamples]
    loss: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor], dict[str, float]]


def one_batch(scene: Scene) -> Batch:
    """A scene alone; nothing is drawn from its seed, for nothing is hidden."""
    return collate([scene], torch.zeros(1, dtype=torch.long, device=scene.points.device))


def some(rows: Int[Tensor, " M"], limit: int) -> Int[Tensor, " K"]:
    """Choose at most ``limit`` rows, in order, by a chance that depends on their number alone."""
    if len(rows) <= limit:
        return rows
    generator = torch.Generator().manual_seed(PLACES_SEED)
    chosen = torch.randperm(len(rows), generator=generator)[:limit].sort().values
    return rows[chosen.to(rows.device)]
