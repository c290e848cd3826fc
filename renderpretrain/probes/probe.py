"""Does pre-training pay? The same probe on a pre-trained encoder and on fresh ones, with few labels and many.

All arms get the same labels, budget, schedule, seeds, and the same treatment of batch-norm statistics
(:func:`~renderpretrain.encoders.norms.estimate_statistics`).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from renderpretrain.probes.linear import Trials, linear_trials, measure_norms, read_scenes, scores_of
from renderpretrain.probes.loading import load_encoders
from renderpretrain.probes.own_head import kept, restored, train_own_head
from renderpretrain.probes.plan import Arm, Example, Plan, ProbeScenes, Trial, check_labels, choices

Begun = Literal["scratch", "pretrained"]
"""How encoders began."""

BESIDE: dict[Begun, Arm] = {"scratch": "scratch+handmade", "pretrained": "pretrained+handmade"}
"""The arm that reads hand-made numbers beside the encoders' features."""


def run_probe(
    plan: Plan,
    scenes: ProbeScenes,
    build: Callable[[int], nn.Module],
    weights: dict[str, Tensor],
    say: Callable[[Trial, Example], None] = lambda trial, example: None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Trial]:
    """Probe the pre-trained weights and, for every seed, fresh ones; hand-made numbers, too, if there are.

    Args:
        plan: What is compared.
        scenes: Never those that the weights were pre-trained on, unless labels are what is new.
        build: A recipe with fresh weights of a seed, on the device of the scenes. It has what the task reads
            (:class:`~renderpretrain.recipes.HasLevels`, ``HasPointFeatures`` or ``HasImageFeatures``), and
            encoders.
        weights: The pre-trained recipe's state.
        say: Told of every trial, and shown an example of it.
        tell: Told in a line how much of the weights was loaded.

    Raises:
        ValueError: If less than 95 % of the encoders' weights fit, or the recipe or the scenes lack what the
            task asks for.
    """
    trials = []
    for trial, example in _trials(plan, scenes, build, weights, tell):
        say(trial, example)
        trials.append(trial)
    return trials


def _trials(
    plan: Plan,
    scenes: ProbeScenes,
    build: Callable[[int], nn.Module],
    weights: dict[str, Tensor],
    tell: Callable[[str], None],
) -> Trials:
    """Arm by arm, so that one encoder's features are in memory at a time."""
    pretrained = build(plan.seeds[0])
    share, count = load_encoders(pretrained, weights)
    tell(f"weights    {share:.1%} of the encoders' {count:,} numbers are the run's")
    probe = _linear if plan.task.by_place else _own_heads
    yield from probe(plan, scenes, pretrained, ("pretrained", plan.seeds))
    for seed in plan.seeds:
        yield from probe(plan, scenes, build(seed), ("scratch", (seed,)))


def _linear(plan: Plan, scenes: ProbeScenes, recipe: nn.Module, arm: tuple[Begun, tuple[int, ...]]) -> Trials:
    """Heads on what encoders say, alone and beside hand-made numbers; these alone once for all encoders."""
    begun, seeds = arm
    found = read_scenes(plan, scenes, recipe)
    if found.has_handmade and begun == "pretrained":
        yield from linear_trials(plan, found, "handmade", seeds)
    if found.has_handmade:
        yield from linear_trials(plan, found, BESIDE[begun], seeds)
    yield from linear_trials(plan, found, begun, seeds)


def _own_heads(
    plan: Plan, scenes: ProbeScenes, recipe: nn.Module, arm: tuple[Begun, tuple[int, ...]]
) -> Trials:
    """The task's own heads on features that are computed once per scene."""
    task, budget = plan.task, plan.budget
    measure_norms(plan, scenes, recipe)
    with torch.no_grad():
        train = [kept(task.read(recipe, scene, budget.places)) for scene in scenes.train]
        scored = [kept(task.read(recipe, scene, budget.test_places)) for scene in scenes.scored]
    for fraction, seed, rows, labelled in choices(plan, [1] * len(train), arm[1]):
        given = [samples for samples, row in zip(train, rows, strict=True) if row is not None]
        check_labels(task, sum(len(samples.answers) for samples in given))
        head = train_own_head(task, given, budget.steps, seed)
        scores, example = scores_of(task, head, map(restored, scored))
        yield Trial(arm[0], fraction, labelled, seed, scores), example
