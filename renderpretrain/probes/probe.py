"""Does pre-training pay? The same probe on a pre-trained encoder and on fresh ones, with few labels and many.

Both arms get the same labels, budget, schedule, seeds, and the same treatment of batch-norm statistics
(:func:`~renderpretrain.encoders.norms.estimate_statistics`).
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.probes.finetune import fine_tune
from renderpretrain.probes.head import Budget, Head, fit_head
from renderpretrain.probes.labels import Rows, choose_places, choose_scenes
from renderpretrain.probes.own_head import kept, restored, train_own_head
from renderpretrain.probes.task import ProbeSamples, Task
from renderpretrain.storage.weights import check_weights

Arm = Literal["scratch", "pretrained"]


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        task: The question.
        mode: ``linear``: the encoders stay as they are, under a linear head, or under the task's own where it
            has one; ``finetune``: they are trained with the head.
        fractions: Shares of the labels, in (0, 1].
        seeds: Numbers of the repetitions. Each has its own labels, head, order and fresh weights.
        labels: Whether a fraction counts scenes or places.
        budget: What every arm gets.
    """

    task: Task
    mode: Literal["linear", "finetune"]
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    labels: Literal["scenes", "places"] = "scenes"
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions: expected shares in (0, 1], got {self.fractions}")
        if not self.seeds:
            raise ValueError("seeds: expected at least one, got none")
        if not self.task.by_place and (self.mode == "finetune" or self.labels == "places"):
            raise ValueError(
                f"task: {self.task.name} does not ask place by place; expected one that does for fine-tuning "
                "and for labels of places"
            )


@dataclass(frozen=True)
class Trial:
    """One arm, one fraction, one seed.

    Attributes:
        arm: Whether the encoders began with pre-trained weights.
        fraction: Of the labels.
        labelled: How many scenes or places that was.
        seed: Number of the repetition.
        scores: On the scored scenes.
    """

    arm: Arm
    fraction: float
    labelled: int
    seed: int
    scores: dict[str, float]


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


def run_probe(
    plan: Plan,
    scenes: ProbeScenes,
    build: Callable[[int], nn.Module],
    weights: dict[str, Tensor],
    say: Callable[[Trial, Example], None] = lambda trial, example: None,
) -> list[Trial]:
    """Probe the pre-trained weights and, for every seed, fresh ones.

    Args:
        plan: What is compared.
        scenes: Never those that the weights were pre-trained on, unless labels are what is new.
        build: A recipe with fresh weights of a seed, on the device of the scenes. It has what the task reads
            (:class:`~renderpretrain.recipes.HasPointFeatures`, or ``HasImageFeatures``), and encoders.
        weights: The pre-trained recipe's state.
        say: Told of every trial, and shown an example of it.

    Raises:
        ValueError: If the weights do not fit, or the recipe or the scenes lack what the task asks for.
    """
    trials = []
    for trial, example in _trials(plan, scenes, build, weights):
        say(trial, example)
        trials.append(trial)
    return trials


def _trials(
    plan: Plan, scenes: ProbeScenes, build: Callable[[int], nn.Module], weights: dict[str, Tensor]
) -> Iterator[tuple[Trial, Example]]:
    """Arm by arm, so that one encoder's features are in memory at a time."""
    pretrained = build(plan.seeds[0])
    pretrained.load_state_dict(check_weights(pretrained, weights, "weights"))
    frozen = _linear if plan.task.by_place else _own_heads
    probe = frozen if plan.mode == "linear" else _finetuned
    yield from probe(plan, scenes, pretrained, ("pretrained", plan.seeds))
    for seed in plan.seeds:
        yield from probe(plan, scenes, build(seed), ("scratch", (seed,)))


def _measure_norms(recipe: nn.Module, plan: Plan, scenes: ProbeScenes) -> None:
    """Take the batch norms' statistics from the probe's own scenes; no label is looked at."""
    seen = scenes.train[: plan.budget.statistics_scenes]
    estimate_statistics(recipe, (plan.task.read(recipe, scene, plan.budget.places) for scene in seen))


def _linear(
    plan: Plan, scenes: ProbeScenes, recipe: nn.Module, arm: tuple[Arm, tuple[int, ...]]
) -> Iterator[tuple[Trial, Example]]:
    """Heads on features that are computed once per scene."""
    task, budget = plan.task, plan.budget
    _measure_norms(recipe, plan, scenes)
    with torch.no_grad():
        train = [task.read(recipe, scene, budget.places) for scene in scenes.train]
        test = [task.read(recipe, scene, budget.test_places) for scene in scenes.scored]
    scale = torch.cat([places.features for places in train[: budget.statistics_scenes]])
    for fraction, seed, rows, labelled in _choices(plan, [len(p.answers) for p in train], arm[1]):
        given = [places[row] for places, row in zip(train, rows, strict=True) if row is not None]
        _check_labels(task, sum(len(places.answers) for places in given))
        both = ProbeSamples(torch.cat([p.features for p in given]), torch.cat([p.answers for p in given]))
        head = Head(scale, task.outputs, seed)
        fit_head(head, both, task, budget)
        scores, example = _scores(task, head, iter(test))
        yield Trial(arm[0], fraction, labelled, seed, scores), example


def _own_heads(
    plan: Plan, scenes: ProbeScenes, recipe: nn.Module, arm: tuple[Arm, tuple[int, ...]]
) -> Iterator[tuple[Trial, Example]]:
    """The task's own heads on features that are computed once per scene."""
    task, budget = plan.task, plan.budget
    _measure_norms(recipe, plan, scenes)
    with torch.no_grad():
        train = [kept(task.read(recipe, scene, budget.places)) for scene in scenes.train]
        scored = [kept(task.read(recipe, scene, budget.test_places)) for scene in scenes.scored]
    for fraction, seed, rows, labelled in _choices(plan, [1] * len(train), arm[1]):
        given = [samples for samples, row in zip(train, rows, strict=True) if row is not None]
        _check_labels(task, sum(len(samples.answers) for samples in given))
        head = train_own_head(task, given, budget.steps, seed)
        scores, example = _scores(task, head, map(restored, scored))
        yield Trial(arm[0], fraction, labelled, seed, scores), example


def _finetuned(
    plan: Plan, scenes: ProbeScenes, recipe: nn.Module, arm: tuple[Arm, tuple[int, ...]]
) -> Iterator[tuple[Trial, Example]]:
    """Heads and encoders trained together, from the same start for every fraction and seed."""
    task, budget = plan.task, plan.budget
    seen = scenes.train[: budget.statistics_scenes]
    _measure_norms(recipe, plan, scenes)
    with torch.no_grad():
        scale = torch.cat([task.read(recipe, scene, budget.places).features for scene in seen])
    counts = [0] * len(scenes.train)
    if plan.labels == "places":
        with torch.no_grad():
            counts = [len(task.read(recipe, scene, budget.places).answers) for scene in scenes.train]
    for fraction, seed, rows, labelled in _choices(plan, counts, arm[1]):
        given = [(scene, row) for scene, row in zip(scenes.train, rows, strict=True) if row is not None]
        _check_labels(task, len(given))
        tuned, head = copy.deepcopy(recipe), Head(scale, task.outputs, seed)
        fine_tune(tuned, head, given, task, budget, seed)
        _measure_norms(tuned, plan, scenes)
        with torch.no_grad():
            test = (task.read(tuned, scene, budget.test_places) for scene in scenes.scored)
            scores, example = _scores(task, head, test)
        yield Trial(arm[0], fraction, labelled, seed, scores), example


def _check_labels(task: Task, count: int) -> None:
    """There must be something to learn from."""
    if not count:
        raise ValueError(f"train: expected {task.name} labels in the scenes chosen to have some, found none")


def _choices(
    plan: Plan, counts: list[int], seeds: tuple[int, ...]
) -> Iterator[tuple[float, int, list[Rows], int]]:
    """Every fraction and seed with its labels."""
    choose = choose_scenes if plan.labels == "scenes" else choose_places
    for fraction in plan.fractions:
        for seed in seeds:
            yield fraction, seed, *choose(counts, fraction, seed)


@torch.no_grad()
def _scores(task: Task, head: nn.Module, test: Iterator[ProbeSamples]) -> tuple[dict[str, float], Example]:
    """Over all scored scenes together; and the first one."""
    places = next(test)
    first = Example(places, head(places.features))
    sums = [task.sums(first.outputs, places.answers)]
    sums += [task.sums(head(places.features), places.answers) for places in test]
    return task.scores(task.join(sums)), first
