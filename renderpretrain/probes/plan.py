"""What a probe compares: scenes, sizes, arms, and the labels that each of them gets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.data import Scene
from renderpretrain.probes.head import Budget
from renderpretrain.probes.labels import Rows, choose_places, choose_scenes
from renderpretrain.probes.task import ProbeSamples, Task

Arm = Literal["scratch", "handmade", "pretrained", "scratch+handmade", "pretrained+handmade"]
"""Whose features a head reads: fresh or pre-trained encoders', hand-made numbers, or two side by side."""


@dataclass(frozen=True)
class Plan:
    """What is compared, on encoders that stay as they are: linear heads, or the task's own where it has one.

    Attributes:
        task: The question.
        fractions: Shares of the labels, in (0, 1].
        seeds: Numbers of the repetitions. Each has its own labels, head, order and fresh weights.
        labels: Whether a fraction counts scenes or places.
        budget: What every arm gets.
    """

    task: Task
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    labels: Literal["scenes", "places"] = "scenes"
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions: expected shares in (0, 1], got {self.fractions}")
        if not self.seeds:
            raise ValueError("seeds: expected at least one, got none")
        if not self.task.by_place and self.labels == "places":
            raise ValueError(
                f"task: {self.task.name} does not ask place by place; expected one that does for labels of "
                "places"
            )


@dataclass(frozen=True)
class Trial:
    """One arm, one fraction, one seed.

    Attributes:
        arm: Whose features the head reads.
        fraction: Of the labels.
        labelled: How many scenes or places that was.
        seed: Number of the repetition.
        scores: On the scored scenes.
        penalty: Of a linear head's weights, chosen on validation scenes; ``None`` in fine-tuning.
    """

    arm: Arm
    fraction: float
    labelled: int
    seed: int
    scores: dict[str, float]
    penalty: float | None = None


@dataclass(frozen=True)
class Example:
    """What a trial's head says of the first scored scene, to look at.

    Attributes:
        places: The scene's.
        outputs: Of the head.
    """

    places: ProbeSamples
    outputs: Float[Tensor, "..."]


@dataclass(frozen=True)
class ProbeScenes:
    """Scenes in memory; no scene is in two of them.

    Attributes:
        train: With labels, of which a fraction is looked at.
        validation: What settings are chosen on.
        test: What is scored at the end; without any, validation scenes are.

    Raises:
        ValueError: If there is none to train on or to validate on, or one is there twice.
    """

    train: Sequence[Scene]
    validation: Sequence[Scene]
    test: Sequence[Scene] = ()

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            if not len(getattr(self, name)):
                raise ValueError(f"{name}: expected at least one scene, got none")
        parts = (self.train, self.validation, self.test)
        known = Counter(key for part in parts for key in {(scene.name, scene.timestamp) for scene in part})
        twice = next((name for (name, _), count in known.items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"scenes: expected every scene in one part, got {twice!r} in two")

    @property
    def scored(self) -> Sequence[Scene]:
        """The test scenes, or those of validation where there are none."""
        return self.test or self.validation

    def to(self, device: torch.device | str) -> "ProbeScenes":
        """The same scenes on a device."""
        parts = (self.train, self.validation, self.test)
        return ProbeScenes(*([scene.to(device) for scene in part] for part in parts))


def with_labels(task: Task, scenes: ProbeScenes) -> tuple[ProbeScenes, str]:
    """The scenes that have labels of a task, and a line on how many have none; no line where all have some.

    Raises:
        ValueError: If none of a part has any.
    """
    parts = {"train": scenes.train, "validation": scenes.validation, "test": scenes.test}
    found = {name: [scene for scene in part if task.is_labeled(scene)] for name, part in parts.items()}
    for name, part in parts.items():
        if part and not found[name]:
            raise ValueError(
                f"{name}: {task.name} needs labels, which none of the {len(part)} scenes from "
                f"{part[0].name!r} on has"
            )
    missing = {name: len(part) - len(found[name]) for name, part in parts.items()}
    said = ", ".join(
        f"{missing[name]} of {len(part)} {name}" for name, part in parts.items() if missing[name]
    )
    line = f"labels     left out, for they have none of {task.name}: {said} scenes" if said else ""
    return ProbeScenes(**found), line


def choices(
    plan: Plan, counts: list[int], seeds: tuple[int, ...]
) -> Iterator[tuple[float, int, list[Rows], int]]:
    """Every fraction and seed with its labels."""
    choose = choose_scenes if plan.labels == "scenes" else choose_places
    for fraction in plan.fractions:
        for seed in seeds:
            yield fraction, seed, *choose(counts, fraction, seed)


def check_labels(plan: Plan, counts: list[int]) -> None:
    """There must be something to learn from at every fraction with every seed.

    Args:
        plan: What is compared.
        counts: Of the places that every training scene has.

    Raises:
        ValueError: Naming the first fraction and seed without.
    """
    for fraction, seed, rows, _ in choices(plan, counts, plan.seeds):
        if not any(count for count, row in zip(counts, rows, strict=True) if row is not None):
            raise ValueError(
                f"train: expected {plan.task.name} labels in the scenes chosen to have some, found none at "
                f"{100 * fraction:g} % with seed {seed}"
            )
