"""One training of encoders and a head on labelled scenes, for as long as it helps.

At a constant rate until validation scores no longer rise, then on with a rate that falls to 0; what is kept
are the weights of the best evaluation. How long that takes is found by the training itself, or given: who
began with pre-trained weights gets as many steps as who did not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from renderpretrain.data import Scene
from renderpretrain.encoders.norms import estimate_statistics
from renderpretrain.probes.task import ProbeSamples, Task
from renderpretrain.recipes.recipe import HasEncoders, lacking

CLIP_NORM = 10.0
"""L2 norm the gradient is clipped to."""

WARM_UP = 10
"""Steps in which the rate rises from 0."""

LEAST_PLACES = 2
"""Rows that a batch norm can be trained with."""


@dataclass(frozen=True)
class Schedule:
    """How long a training lasts, and when it is looked at.

    Attributes:
        every: Steps between evaluations on validation scenes.
        patience: Steps without a gain after which the score no longer improves; two thirds of ``longest``
            where these are fewer, a third of all so far where these are more. Scores of few validation scenes
            go up and down: with 100 steps in place of 400 fresh encoders stopped before they were done.
        least_gain: What counts as a gain, as a share of the best score so far.
        longest: Steps at the constant rate at most.
        decay: Steps with a falling rate, as a share of those at the constant one.
    """

    every: int = 25
    patience: int = 400
    least_gain: int | float = 0.01
    longest: int = 1200
    decay: int | float = 0.25

    def __post_init__(self) -> None:
        for name in ("every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.longest < self.every:
            raise ValueError(f"longest: expected at least every={self.every}, got {self.longest}")
        for name in ("least_gain", "decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    def waits(self, evaluations: int) -> int:
        """How many of the evaluations so far must not have brought a gain."""
        steps = max(1, min(self.patience, 2 * self.longest // 3))
        return max(-(-steps // self.every), evaluations // 3)

    def no_longer_improves(self, scores: Sequence[float]) -> bool:
        """Whether the evaluations of as many steps as the patience have not beaten the best before them.

        The patience grows with the course: one lucky early score does not end it. A course whose best score
        is 0 has found nothing yet, as heads of boxes do at first, and goes on.

        Args:
            scores: Of all evaluations so far; greater is better.
        """
        patience = self.waits(len(scores))
        if len(scores) <= patience or max(scores) == 0:
            return False
        before = max(scores[:-patience])
        return max(scores[-patience:]) <= before + self.least_gain * abs(before)

    def decay_steps(self, constant: int) -> int:
        """Steps with a falling rate after so many at the constant one: a multiple of ``every``."""
        return self.every * -int(-self.decay * constant // self.every)


@dataclass(frozen=True)
class Setting:
    """What is chosen for each arm on validation scenes.

    Attributes:
        lr: Rate of AdamW, for the head.
        encoder_rate: Factor of the encoders' rate; 0 for encoders that stay as they are.
    """

    lr: float
    encoder_rate: float


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        constant_steps: At the constant rate.
        steps: All of them.
        curve: Step and validation score of every evaluation.
        kept: The step whose weights are kept: the best evaluation's.
        converged: Whether the score no longer improved at the constant rate: a whole patience had brought no
            gain; ``False`` where the longest training ended before that, or a given number of steps did.
    """

    constant_steps: int
    steps: int
    curve: tuple[tuple[int, float], ...]
    kept: int
    converged: bool

    @property
    def best(self) -> float:
        """The validation score of the weights that are kept."""
        return dict(self.curve)[self.kept]


def can_learn_from(task: Task, samples: ProbeSamples) -> bool:
    """Whether a scene's labels teach something: a batch norm needs two places."""
    return not task.by_place or len(samples.answers) >= LEAST_PLACES


class Tuned(nn.Module):
    """A recipe's encoders with a head on them.

    Args:
        recipe: Changed in training, unless it is frozen; what is not among its ``encoders()`` stays as it is.
        head: Answers what the task asks.
        task: Reads scenes.
        frozen: Whether the encoders stay as they are, in evaluation mode whatever mode this module is in.

    Raises:
        ValueError: If the recipe names no encoders.
    """

    def __init__(self, recipe: nn.Module, head: nn.Module, task: Task, frozen: bool = False) -> None:
        super().__init__()
        if not isinstance(recipe, HasEncoders):
            raise lacking(recipe, HasEncoders, "fine-tuning")
        self.recipe, self.head, self.task, self.frozen = recipe, head, task, frozen
        self.encoders = list(recipe.encoders().values())
        self.known: dict[tuple[int, int], ProbeSamples] = {}

    def train(self, mode: bool = True) -> "Tuned":
        """Training or evaluation mode; frozen encoders are always in the latter."""
        super().train(mode)
        if self.frozen:
            self.recipe.eval()
        return self

    def read(self, scene: Scene, limit: int) -> ProbeSamples:
        """What is asked of a scene, at most so many places; differentiable in encoders that are trained."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.task.read(self.recipe, scene, limit)

    @torch.no_grad()
    def look(self, scene: Scene, limit: int) -> ProbeSamples:
        """The same of a scene that is looked at again and again: what frozen encoders say is remembered."""
        if not self.frozen:
            return self.read(scene, limit)
        key = (id(scene), limit)
        if key not in self.known:
            self.known[key] = self.read(scene, limit)
        return self.known[key]

    def forward(self, samples: ProbeSamples) -> Tensor:
        """What the head says of what was read."""
        return self.head(samples.features)

    def measure_norms(self, scenes: Sequence[Scene], limit: int) -> None:
        """Take the statistics of batch norms that are trained from scenes; no label is looked at."""
        self.eval()
        read = (self.look(scene, limit) for scene in scenes)
        passes = (self(samples) for samples in read if can_learn_from(self.task, samples))
        estimate_statistics(self.head if self.frozen else self, passes)

    def groups(self, setting: Setting) -> list[dict[str, object]]:
        """The parameters that are trained, with their rates."""
        groups: list[dict[str, object]] = [{"params": list(self.head.parameters()), "lr": setting.lr}]
        if not self.frozen:
            encoders = dict.fromkeys(
                p for part in self.encoders for p in part.parameters() if p.requires_grad
            )
            groups.append({"params": list(encoders), "lr": setting.lr * setting.encoder_rate})
        return groups

    def state(self) -> dict[str, Tensor]:
        """A copy of all that training changes."""
        module = self.head if self.frozen else self
        return {name: value.clone() for name, value in module.state_dict().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a copy."""
        (self.head if self.frozen else self).load_state_dict(state)
        self.eval()


@dataclass(frozen=True)
class Lesson:
    """What a training is given, beside the model.

    Attributes:
        sample: The scene of a step, counted from 1, and at most how many of its places are read.
        judge: The validation score of the model as it is; greater is better.
        setting: Rates.
        weight_decay: Of AdamW.
        seed: Of what encoders draw, such as dropped paths.
    """

    sample: Callable[[int], tuple[Scene, int]]
    judge: Callable[[Tuned], float]
    setting: Setting
    weight_decay: float
    seed: int


def fine_tune(tuned: Tuned, lesson: Lesson, schedule: Schedule, constant_steps: int | None = None) -> Course:
    """Train a model; it has the weights of its best evaluation afterwards, and is in evaluation mode.

    Args:
        tuned: Changed in place.
        lesson: Scenes, rates, and who judges.
        schedule: How long, and when it is judged.
        constant_steps: Steps at the constant rate, a multiple of ``schedule.every``; ``None`` goes on until
            the score no longer improves, or the schedule's longest is over.
    """
    optimizer = torch.optim.AdamW(tuned.groups(lesson.setting), weight_decay=lesson.weight_decay)
    full = [group["lr"] for group in optimizer.param_groups]
    curve: list[tuple[int, float]] = []
    kept, best, step, end = 0, tuned.state(), 0, constant_steps
    last = None if end is None else end + schedule.decay_steps(end)
    with torch.random.fork_rng():
        torch.manual_seed(lesson.seed)
        while last is None or step < last:
            step += 1
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * _share(step, end, last)
            _update(tuned, optimizer, *lesson.sample(step))
            if step % schedule.every:
                continue
            score = lesson.judge(tuned)
            if not curve or score > dict(curve)[kept]:
                kept, best = step, tuned.state()
            curve.append((step, score))
            found = schedule.no_longer_improves([s for _, s in curve]) or step >= schedule.longest
            if end is None and found:
                end, last = step, step + schedule.decay_steps(step)
    tuned.restore(best)
    until = [score for at, score in curve if end is None or at <= end]
    return Course(end or step, step, tuple(curve), kept, schedule.no_longer_improves(until))


def _share(step: int, end: int | None, last: int | None) -> float:
    """Of the full rate: it rises at the beginning, and falls from the constant steps' end to the last."""
    falling = 1.0 if end is None or last is None or step <= end else (last - step + 1) / (last - end + 1)
    return min(1.0, step / WARM_UP) * falling


def _update(tuned: Tuned, optimizer: torch.optim.Optimizer, scene: Scene, limit: int) -> None:
    """One step on one scene; none where a change of the world has left it without places."""
    tuned.train()
    optimizer.zero_grad()
    samples = tuned.read(scene, limit)
    if not can_learn_from(tuned.task, samples):
        return
    tuned.task.loss(tuned(samples), samples.answers).backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(trained, CLIP_NORM)
    optimizer.step()
