"""What a probe asks: what is read of a scene, what a head is to say of it, and how its answers are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene, collate
from renderpretrain.probes.decoder import PlaceDecoder

PLACES_SEED = 1
"""Seed of the choice among a scene's places; the same for every encoder."""


@dataclass(frozen=True)
class ProbeSamples:
    """What encoders say of a scene, and what a head is to say of that.

    Attributes:
        features: Of the encoders: ``(M, C)``, a row a place, where the task asks place by place; what the
            task's own head reads, such as a map ``(1, C, Y, X)``, where it does not.
        answers: ``(M,)`` classes or metres of the places; what the task's own loss compares with, such as a
            row a box, where the head is its own.
        positions: World positions, metres: of the places where these are points, or what is drawn beside
            answers that are not.
    """

    features: Float[Tensor, "..."]
    answers: Shaped[Tensor, "..."]
    positions: Float[Tensor, "M 3"] | None = None

    def __getitem__(self, rows: Int[Tensor, " K"] | slice) -> "ProbeSamples":
        """The places that an index or a slice chooses."""
        positions = None if self.positions is None else self.positions[rows]
        return ProbeSamples(self.features[rows], self.answers[rows], positions)

    def beside(self, other: "ProbeSamples") -> "ProbeSamples":
        """The same places, with another reading's features behind these."""
        return replace(self, features=torch.cat([self.features, other.features], 1))


Read = Callable[[nn.Module, Scene, int], ProbeSamples]
"""What is asked of a scene, through a recipe, at most so many places."""


@dataclass(frozen=True)
class Drawing:
    """How the answers of a scene look, for a task whose places are no points of classes.

    Attributes:
        picture: Of what was read of a scene, and of what a head says of it; of the true answers where that is
            ``None``.
        legend: What colours mean.
    """

    picture: Callable[[ProbeSamples, Tensor | None], Float[Tensor, "3 H W"]]
    legend: Mapping[str, Float[Tensor, "3"]]


def add_up(sums: Sequence[Tensor]) -> Tensor:
    """The sums of several scenes as one: element by element."""
    return torch.stack(list(sums)).sum(0)


def always(scene: Scene) -> bool:
    """Whether a scene has labels, for tasks whose answers come from sensors."""
    return True


@dataclass(frozen=True)
class Task:
    """A question.

    Most ask place by place: what is read are rows, and any head that maps a row to ``outputs`` numbers will
    do. A task that asks otherwise, such as for the boxes of a scene, says so by ``by_place`` and brings its
    ``make_head``; whoever trains it hands what was read to the head and what the head says to the loss, and
    looks at neither.

    Attributes:
        name: ``semseg``, ``occupancy``, ``depth`` or ``detection``.
        metric: The score that counts, the first of ``scores``.
        less_is_better: Whether it is an error.
        outputs: Numbers a head gives per place.
        read: What is asked of a scene, at most so many places; differentiable in the recipe's encoders. The
            same places for every recipe of one configuration.
        loss: Of outputs ``(M, outputs)`` and answers ``(M,)``; of its own head's where it has one.
        sums: Of outputs and answers of one scene: all that ``scores`` needs to know of the scene.
        scores: Named scores of the sums of any scenes together.
        join: From the sums of several scenes to those of all: element by element, unless they are rows of
            something, which are put behind each other.
        by_place: Whether places are asked one by one, so that a linear head is an answer and single places
            can have labels.
        make_head: A fresh head for features such as these, from a seed; ``None`` where any head of rows does.
        moves_with_world: Whether the answers of a scene whose world was turned, mirrored and scaled are those
            of its labels still. Labels that lie on a grid do not move.
        handmade: Likewise of ``read``, with what is known of the same places without any network in place of
            features (:mod:`~renderpretrain.probes.handmade`); of the recipe only where it looks is asked.
            ``None`` where nothing is known.
        compared: The metric alone of the sums of any scenes together, where ``scores`` takes long.
        is_labeled: Whether a scene has labels at all; one without is to be left out.
        settings: What tells it from tasks of its name: levels, classes, the map.
        notes: What is to be said of the scenes it was made for: a line each.
        drawing: How answers look; ``None`` where they are classes of points, or cannot be drawn.
    """

    name: str
    metric: str
    less_is_better: bool
    outputs: int
    read: Read
    loss: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor], Tensor]
    scores: Callable[[Tensor], dict[str, float]]
    join: Callable[[Sequence[Tensor]], Tensor] = add_up
    by_place: bool = True
    make_head: Callable[[Tensor, int], nn.Module] | None = None
    moves_with_world: bool = True
    drawing: Drawing | None = None
    handmade: Read | None = None
    compared: Callable[[Tensor], float] | None = None
    is_labeled: Callable[[Scene], bool] = always
    settings: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.by_place and self.make_head is None:
            raise ValueError(f"make_head: expected a head of the task {self.name}'s own, got none")

    def score(self, sums: Sequence[Tensor]) -> float:
        """The metric of several scenes together."""
        joined = self.join(sums)
        return self.scores(joined)[self.metric] if self.compared is None else self.compared(joined)

    def by_hand(self) -> "Task":
        """The same question, asked of hand-made numbers.

        Raises:
            ValueError: If there are none.
        """
        if self.handmade is None:
            raise ValueError(f"task: {self.name} has no hand-made numbers")
        return replace(self, read=self.handmade)

    def head(self, features: Tensor, seed: int) -> nn.Module:
        """A fresh decoder for features such as these: the task's own, or a small one for rows."""
        if self.make_head is not None:
            return self.make_head(features, seed).to(features.device)
        return PlaceDecoder(features.shape[1], self.outputs, seed).to(features.device)


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
