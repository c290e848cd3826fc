"""Does pre-training pay? The same probe on a pre-trained encoder and on fresh ones, with few labels and many.

All arms get the same labels, budget, schedule, seeds, and the same treatment of batch-norm statistics
(:func:`~renderpretrain.encoders.norms.estimate_statistics`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from renderpretrain.probes.frozen import ReadScenes, Trials, read_encoders, read_scenes, trials_of
from renderpretrain.probes.loading import load_encoders
from renderpretrain.probes.plan import Arm, Example, Plan, ProbeScenes, Trial

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
    """Arm by arm, so that one encoder's features are in memory at a time, and hand-made numbers."""
    pretrained = build(plan.seeds[0]).eval()
    share, count = load_encoders(pretrained, weights)
    tell(f"weights    {share:.1%} of the encoders' {count:,} numbers are the run's")
    by_hand = None
    if plan.task.handmade is not None:
        by_hand = read_scenes(replace(plan, task=plan.task.by_hand()), scenes, pretrained)
        yield from trials_of(plan, by_hand, "handmade", plan.seeds)
    yield from _encoders(plan, read_encoders(plan, scenes, pretrained), by_hand, ("pretrained", plan.seeds))
    for seed in plan.seeds:
        yield from _encoders(plan, read_encoders(plan, scenes, build(seed)), by_hand, ("scratch", (seed,)))


def _encoders(
    plan: Plan, found: ReadScenes, by_hand: ReadScenes | None, arm: tuple[Begun, tuple[int, ...]]
) -> Trials:
    """Heads on what encoders say, alone and beside hand-made numbers."""
    begun, seeds = arm
    yield from trials_of(plan, found, begun, seeds)
    if by_hand is not None:
        yield from trials_of(plan, found.beside(by_hand), BESIDE[begun], seeds)
