"""Linear heads on features that do not change: those of encoders, hand-made numbers, and both side by side.

Batch norm's statistics come from the training scenes, places' features are computed once, and of a small
grid of penalties every head takes the one that does best on the validation scenes.
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
    def has_handmade(self) -> bool:
        """Whether there are hand-made numbers of the places."""
        return self.train[0].handmade is not None

    def with_features(self, arm: Arm) -> "ReadScenes":
        """The same places with the features of an arm: the encoders', the hand-made numbers, or both."""

        def changed(samples: ProbeSamples) -> ProbeSamples:
            if samples.handmade is None or not arm.endswith("handmade"):
                return samples
            both = [samples.handmade] if arm == "handmade" else [samples.features, samples.handmade]
            return ProbeSamples(torch.cat(both, 1), samples.answers, samples.positions)

        parts = (self.train, self.validation, self.test)
        return ReadScenes(*([changed(samples) for samples in part] for part in parts))


def measure_norms(plan: Plan, scenes: ProbeScenes, recipe: nn.Module) -> None:
    """Take the batch norms' statistics from the probe's own training scenes."""
    seen = scenes.train[: plan.budget.statistics_scenes]
    estimate_statistics(recipe, (plan.task.read(recipe, scene, plan.budget.places) for scene in seen))


@torch.no_grad()
def read_scenes(plan: Plan, scenes: ProbeScenes, recipe: nn.Module) -> ReadScenes:
    """What a recipe's encoders say of all scenes, batch norms measured on the first training scenes.

    Raises:
        ValueError: If there is nothing to score, or the encoders say something else when asked again.
    """
    task, budget = plan.task, plan.budget
    measure_norms(plan, scenes, recipe)

    def read(part: Sequence[Scene], limit: int) -> list[ProbeSamples]:
        return [task.read(recipe, scene, limit) for scene in part]

    found = ReadScenes(
        read(scenes.train, budget.places),
        read(scenes.validation, budget.test_places),
        read(scenes.test, budget.test_places),
    )
    again = task.read(recipe, scenes.train[0], budget.places)
    check_same_twice(scenes.train[0].name, found.train[0].features, again.features)
    for name, part in (("validation", found.validation), ("test", found.test)):
        if part and not any(len(samples.answers) for samples in part):
            raise ValueError(f"{name}: expected {task.name} labels in some of {len(part)} scenes, found none")
    return found


def linear_trials(plan: Plan, found: ReadScenes, arm: Arm, seeds: Sequence[int]) -> Trials:
    """Heads on an arm's features, for every fraction and seed.

    The optimum is one whatever a head begins with, so seeds that choose the same labels share it.
    """
    found = found.with_features(arm)
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
    check_labels(task, sum(len(samples.answers) for samples in given))
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
