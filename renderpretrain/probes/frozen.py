"""Heads on features that do not change: those of encoders, hand-made numbers, and both side by side.

Batch norm's statistics come from the training scenes and places' features are computed once. Heads are
linear, and of a small grid of penalties each takes the one that does best on the validation scenes; or they
are the task's own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.probes.head import Head, fit_heads
from renderpretrain.probes.labels import Rows
from renderpretrain.probes.loading import check_same_twice
from renderpretrain.probes.own_head import kept, restored, train_own_head
from renderpretrain.probes.plan import Arm, Example, Plan, ProbeScenes, Trial, check_labels, choices
from renderpretrain.probes.task import ProbeSamples, Task, some

Trials = Iterator[tuple[Trial, Example]]


@dataclass(frozen=True)
class ReadScenes:
    """Places of all scenes with what is said of them.

    Attributes:
        train: Of the training scenes.
        validation: Of the validation scenes.
        test: Of the test scenes; none where validation scenes are scored.
    """

    train: Sequence[ProbeSamples]
    validation: Sequence[ProbeSamples]
    test: Sequence[ProbeSamples]

    @property
    def scored(self) -> Sequence[ProbeSamples]:
        """Of the test scenes, or those of validation where there are none."""
        return self.test or self.validation

    def beside(self, other: "ReadScenes") -> "ReadScenes":
        """The same places, with another reading's features behind these."""
        both = ((getattr(one, name) for one in (self, other)) for name in ("train", "validation", "test"))
        return ReadScenes(*([a.beside(b) for a, b in zip(*parts, strict=True)] for parts in both))


def measure_norms(plan: Plan, scenes: ProbeScenes, recipe: nn.Module) -> None:
    """Take the batch norms' statistics from the probe's own training scenes."""
    seen = scenes.train[: plan.budget.statistics_scenes]
    estimate_statistics(recipe, (plan.task.read(recipe, scene, plan.budget.places) for scene in seen))


@torch.no_grad()
def read_scenes(plan: Plan, scenes: ProbeScenes, recipe: nn.Module) -> ReadScenes:
    """What is said of all scenes: by a recipe's encoders, or by hand, as the plan's task has it.

    Raises:
        ValueError: If there is nothing to learn from or to score.
    """
    task, budget = plan.task, plan.budget

    def read(part: Sequence[Scene], limit: int) -> list[ProbeSamples]:
        each = (task.read(recipe, scene, limit) for scene in part)
        return list(each if task.by_place else map(kept, each))

    train = read(scenes.train, budget.places)
    check_labels(plan, [len(samples.answers) for samples in train])
    found = ReadScenes(
        train, read(scenes.validation, budget.test_places), read(scenes.test, budget.test_places)
    )
    for name, part in (("validation", found.validation), ("test", found.test)):
        if part and not any(len(samples.answers) for samples in part):
            raise ValueError(f"{name}: expected {task.name} labels in some of {len(part)} scenes, found none")
    return found


@torch.no_grad()
def read_encoders(plan: Plan, scenes: ProbeScenes, recipe: nn.Module) -> ReadScenes:
    """What a recipe's encoders say of all scenes, batch norms measured on the first training scenes.

    Raises:
        ValueError: If there is nothing to score, or the encoders say something else when asked again.
    """
    measure_norms(plan, scenes, recipe)
    found = read_scenes(plan, scenes, recipe)
    again = plan.task.read(recipe, scenes.train[0], plan.budget.places)
    again = again if plan.task.by_place else kept(again)
    check_same_twice(scenes.train[0].name, found.train[0].features, again.features)
    return found


def trials_of(plan: Plan, found: ReadScenes, arm: Arm, seeds: Sequence[int]) -> Trials:
    """Heads on an arm's features, for every fraction and seed: linear ones, or the task's own."""
    return (_linear_trials if plan.task.by_place else _own_trials)(plan, found, arm, seeds)


def _own_trials(plan: Plan, found: ReadScenes, arm: Arm, seeds: Sequence[int]) -> Trials:
    """The task's own heads, trained."""
    for fraction, seed, rows, labelled in choices(plan, [1] * len(found.train), tuple(seeds)):
        given = [samples for samples, row in zip(found.train, rows, strict=True) if row is not None]
        head = train_own_head(plan.task, given, plan.budget.steps, seed)
        scores, example = scores_of(plan.task, head, map(restored, found.scored))
        yield Trial(arm, fraction, labelled, seed, scores), example


def _linear_trials(plan: Plan, found: ReadScenes, arm: Arm, seeds: Sequence[int]) -> Trials:
    """Linear heads at their optimum.

    It is one whatever a head begins with, so seeds that choose the same labels share it.
    """
    scale = torch.cat([samples.features for samples in found.train[: plan.budget.statistics_scenes]])
    whole: tuple[dict[str, float], float, Example] | None = None
    for fraction, seed, rows, labelled in choices(plan, [len(p.answers) for p in found.train], tuple(seeds)):
        if fraction < 1 or whole is None:
            told = _fit(plan, found, scale, rows)
            whole = told if fraction == 1 else whole
        scores, penalty, example = told
        yield Trial(arm, fraction, labelled, seed, scores, penalty), example


def _fit(
    plan: Plan, found: ReadScenes, scale: Tensor, rows: Sequence[Rows]
) -> tuple[dict[str, float], float, Example]:
    """The scores of the best head on some labels, its penalty, and what it says of the first scored scene."""
    task = plan.task
    given = [samples[row] for samples, row in zip(found.train, rows, strict=True) if row is not None]
    features, answers = (torch.cat([getattr(p, name) for p in given]) for name in ("features", "answers"))
    fitted = some(torch.arange(len(answers), device=answers.device), plan.budget.fit_places)
    labeled = ProbeSamples(features[fitted], answers[fitted])
    heads = fit_heads(Head(scale, task.outputs, seed=0), labeled, task, plan.budget)
    tried = {penalty: scores_of(task, head, found.validation) for penalty, head in heads.items()}
    sign = -1 if task.less_is_better else 1
    best = max(tried, key=lambda penalty: sign * tried[penalty][0][task.metric])
    scores, example = scores_of(task, heads[best], found.test) if found.test else tried[best]
    return scores, best, example


@torch.no_grad()
def scores_of(
    task: Task, head: nn.Module, scored: Iterable[ProbeSamples]
) -> tuple[dict[str, float], Example]:
    """Over all scenes together; and what the head says of the first one."""
    scenes = iter(scored)
    samples = next(scenes)
    first = Example(samples, head(samples.features))
    sums = [task.sums(first.outputs, samples.answers)]
    sums += [task.sums(head(samples.features), samples.answers) for samples in scenes]
    return task.scores(task.join(sums)), first
