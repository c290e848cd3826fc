"""What is compared in fair fine-tuning: sizes, scenes, trainings and outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from renderpretrain.data.augment import Augmentation, ColorChange, WorldChange
from renderpretrain.probes.fair.bootstrap import DRAWS, PairedGain
from renderpretrain.probes.fair.training import Course, Schedule, Setting
from renderpretrain.probes.task import Task
from renderpretrain.recipes.recipe import HasGrid

FairArm = Literal["scratch", "pretrained", "handmade"]
"""What a head reads: fresh or pre-trained encoders, or hand-made numbers alone."""


Role = Literal["search", "final"]

FRONT_TURN = 45.0
"""Degrees that a world is turned to either side where the grid lies to one side of the sensor."""


@dataclass(frozen=True)
class FairPlan:
    """What is compared, and how much of it.

    Attributes:
        task: The question.
        trains: ``full``: encoders and head; ``decoder``: the head alone, on encoders that stay as they are.
        labeled: Numbers of scenes with labels.
        seeds: Of the repetitions. Each has its own labelled scenes, head, order and fresh weights.
        search_seeds: Those that rates are chosen with; none of ``seeds``.
        lrs: Rates of the grid.
        encoder_rates: Factors of the rate for the encoders, tried with each of them.
        schedule: How long trainings last.
        weight_decay: Of AdamW.
        places, scored_places: At most so many of a scene that is trained on or judges; and of a scored one.
        validation_scenes: At most so many of these scenes judge.
        statistics_scenes: Training scenes, labelled or not, that batch norms' statistics come from.
        augment: How training scenes change; ``None`` turns, mirrors and scales as the recipe's grid allows.
        draws: Of seeds and of scored scenes, which say how sure a gain is.
        streets: For every scored scene a number, the same for those that belong together, such as frames of
            one street: these are drawn together where it is asked how sure a gain is. ``None``: each alone.
    """

    task: Task
    trains: Literal["full", "decoder"] = "full"
    labeled: tuple[int, ...] = (1, 5)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    search_seeds: tuple[int, ...] = (100, 101)
    lrs: tuple[float, ...] = (5e-4, 2e-3, 8e-3)
    encoder_rates: tuple[float, ...] = (1.0, 0.1)
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.01
    places: int = 4096
    scored_places: int = 16384
    validation_scenes: int = 8
    statistics_scenes: int = 4
    augment: Augmentation | None = None
    draws: int = DRAWS
    streets: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("labeled", "seeds", "search_seeds", "lrs", "encoder_rates"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected one or more, each once, got {values}")
        for name in ("labeled", "lrs", "encoder_rates"):
            if min(getattr(self, name)) <= 0:
                raise ValueError(f"{name}: expected numbers above 0, got {getattr(self, name)}")
        both = sorted(set(self.seeds) & set(self.search_seeds))
        if both:
            raise ValueError(f"search_seeds: expected none of seeds, got {both} in both")
        for name in ("places", "scored_places", "validation_scenes", "statistics_scenes", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def settings(self, arm: FairArm) -> list[Setting]:
        """The grid, one for all encoders that are trained; frozen ones and hand-made numbers have no rate."""
        rates = self.encoder_rates if self.trains == "full" and arm != "handmade" else (0.0,)
        return [Setting(lr, rate) for lr in self.lrs for rate in rates]


@dataclass(frozen=True)
class Job:
    """A training that is to be done.

    Attributes:
        arm: Whether the encoders begin with pre-trained weights, or hand-made numbers take their place.
        role: Whether it helps to choose rates, or is scored at its end.
        labeled: Scenes with labels.
        seed: Number of the repetition.
        setting: Rates.
        steps: At the constant rate; ``None`` until the validation score no longer rises.
    """

    arm: FairArm
    role: Role
    labeled: int
    seed: int
    setting: Setting
    steps: int | None = None


@dataclass(frozen=True)
class FairTrial:
    """One training that was done.

    Attributes:
        job: What was to be done.
        course: Its steps and its curve on validation scenes.
        scores: On all scored scenes; of a final training.
        sums: By scored scene, what scores are made from.
    """

    job: Job
    course: Course
    scores: dict[str, float]
    sums: tuple[Tensor, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Outcome:
    """What pre-training changed with so many labelled scenes.

    Attributes:
        labeled: Scenes with labels.
        settings: The rates that were chosen for each arm.
        gain: Of pre-trained over fresh encoders, over the seeds and test scenes.
        trials: All trainings in their order: the arms' searches, scratch's first, then seed by seed.
        over_handmade: The gain of pre-trained encoders over hand-made numbers; ``None`` where there are none.
    """

    labeled: int
    settings: Mapping[FairArm, Setting]
    gain: PairedGain
    trials: tuple[FairTrial, ...]
    over_handmade: PairedGain | None = None

    def finals(self, arm: FairArm) -> list[FairTrial]:
        """The trainings of an arm that were scored, by seed."""
        return [trial for trial in self.trials if (trial.job.role, trial.job.arm) == ("final", arm)]


def augmentation_for(recipe: nn.Module, task: Task) -> Augmentation:
    """How training scenes change where nobody says it: as a recipe's grid allows, and its task's labels.

    A world is mirrored along an axis that the grid spans alike to both sides, and turned all around where
    both are; where the grid lies in front of the sensor, by at most 45 degrees. Where labels lie on a grid,
    only colours change.
    """
    colors = ColorChange(brightness=0.1, contrast=0.1, saturation=0.1)
    if not task.moves_with_world:
        return Augmentation(colors=colors)
    around = [True, True]
    if isinstance(recipe, HasGrid):
        grid = recipe.grid
        around = [
            abs(low + high) <= size
            for low, high, size in zip(grid.lower[:2], grid.upper[:2], grid.voxel_size[:2], strict=True)
        ]
    mirror_x, mirror_y = (0.5 if both else 0.0 for both in around)
    turn = 180.0 if all(around) else FRONT_TURN
    world = WorldChange(turn=turn, scale=(0.95, 1.05), mirror_x=mirror_x, mirror_y=mirror_y)
    return Augmentation(world, colors=colors)


def labeled_scenes(count: int, labeled: int, seed: int) -> list[int]:
    """Which of ``count`` scenes have labels; more of them hold fewer."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:labeled].tolist()
