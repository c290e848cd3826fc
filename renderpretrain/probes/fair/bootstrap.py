"""How sure a difference is: two arms compared seed by seed and scene by scene.

Seeds and test scenes are both a sample of what might have been: other labels, other streets. Every seed is
scored on the same scenes, so the two are crossed: scenes are drawn anew for all seeds together, and seeds for
all scenes together. The variances that the two bootstraps find are corrected for the number that was drawn
from, and add up; what is due to both together is counted twice, which makes intervals wider, never narrower.
The quantile is Student's, for a bootstrap of five seeds alone is too sure of itself: its percentiles cannot
lie outside of what five seeds have shown.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

Seen = TypeVar("Seen")
"""What a score needs to know of a scene."""

LEVEL = 0.95
"""How often an interval is to hold the truth."""

DRAWS = 1000
"""Of scenes, and of seeds: a deviation is known to 2 %."""

LEAST_SCORE = 1e-12
"""What a relative gain is divided by at least."""

PLACES = 20001
"""Where Student's density is summed."""


@dataclass(frozen=True)
class Interval:
    """A mean, and where the truth lies in 95 of 100 such experiments.

    Other seeds and scored scenes may come out otherwise, and are counted. What all of them share is taken as
    it is: the rates, the scenes that chose them, and the pre-training.

    Attributes:
        mean: As measured.
        low, high: Ends of the interval; both infinite where there is one seed and one scene.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedGain:
    """What one arm has over another.

    Attributes:
        before, after: Mean scores of both arms over the seeds, on all test scenes together.
        gain: ``after`` less ``before``, or the reverse where less is better: above 0 is better.
        relative: The gain over ``before``.
        deviation_of_seeds, deviation_of_scenes: Standard deviations of the gain by other seeds, and by other
            test scenes.
        seeds, scenes: How many of each there were.
    """

    before: float
    after: float
    gain: Interval
    relative: Interval
    deviation_of_seeds: float
    deviation_of_scenes: float
    seeds: int
    scenes: int


def paired_gain(
    before: Sequence[Sequence[Seen]],
    after: Sequence[Sequence[Seen]],
    score: Callable[[Sequence[Seen]], float],
    less_is_better: bool = False,
    draws: int = DRAWS,
) -> PairedGain:
    """Compare two arms that were tried with the same seeds on the same test scenes.

    With one seed, or one scene, the interval speaks of other scenes, or other seeds, alone.

    Args:
        before: By seed and test scene, all that the score needs to know of the scene. What belongs
            together, such as frames of one street, counts as one scene.
        after: The same of the other arm.
        score: Of any scenes together, some of them more than once.
        less_is_better: Whether it is an error.
        draws: Of scenes and of seeds; the draws are the same in every call.

    Raises:
        ValueError: If the arms have not the same seeds and scenes, or none.
    """
    seeds, scenes = _sizes(before, after)
    draw = torch.Generator().manual_seed(0)

    def scores(rows: Sequence[int]) -> Float[Tensor, "2 seeds"]:
        both = [[score([seen[row] for row in rows]) for seen in arm] for arm in (before, after)]
        return torch.tensor(both, dtype=torch.float64)

    whole = scores(range(scenes))
    of_scenes = torch.stack([scores(rows) for rows in _drawn(draws, scenes, draw).tolist()])
    of_seeds = whole[:, _drawn(draws, seeds, draw)].movedim(0, 1)
    start, end = whole.mean(1).tolist()
    gain = start - end if less_is_better else end - start
    relative = gain / max(abs(start), LEAST_SCORE)
    variances = [
        _moved(drawn, less_is_better, relative, start).var(-1) * count / max(count - 1, 1)
        for drawn, count in ((of_seeds, seeds), (of_scenes, scenes))
    ]
    counts = (seeds, scenes)
    return PairedGain(
        before=start,
        after=end,
        gain=_interval(gain, [float(v[0]) for v in variances], counts),
        relative=_interval(relative, [float(v[1]) for v in variances], counts),
        deviation_of_seeds=float(variances[0][0].sqrt()),
        deviation_of_scenes=float(variances[1][0].sqrt()),
        seeds=seeds,
        scenes=scenes,
    )


def student_quantile(freedom: int | float, level: int | float = LEVEL) -> float:
    """The number that Student's ``|t|`` stays below with a probability.

    With ``t = sqrt(freedom) tan(a)`` the density is a power of the cosine of ``a``, which is summed.

    Args:
        freedom: Degrees of freedom, at least 1.
        level: The probability.
    """
    angles = torch.linspace(0, math.pi / 2, PLACES, dtype=torch.float64)
    density = angles.cos().clamp(min=0) ** (freedom - 1)
    total = torch.cumulative_trapezoid(density)
    below = torch.cat([total.new_zeros(1), total / total[-1]])
    right = int(torch.searchsorted(below, level))
    part = (level - below[right - 1]) / (below[right] - below[right - 1])
    angle = angles[right - 1] + part * (angles[right] - angles[right - 1])
    return float(math.sqrt(freedom) * angle.tan())


def _sizes(before: Sequence[Sequence[Seen]], after: Sequence[Sequence[Seen]]) -> tuple[int, int]:
    """How many seeds and scenes there are, the same in both arms."""
    counts = [len(seen) for arm in (before, after) for seen in arm]
    if not counts or len(before) != len(after) or len(set(counts)) > 1 or not counts[0]:
        raise ValueError(
            f"before, after: expected the same seeds and test scenes, at least one of each, got "
            f"{[len(seen) for seen in before]} and {[len(seen) for seen in after]} scenes by seed"
        )
    return len(before), counts[0]


def _drawn(draws: int, count: int, draw: torch.Generator) -> Int[Tensor, "draws count"]:
    """As many as there are, with replacement, again and again."""
    return torch.randint(count, (draws, count), generator=draw)


def _moved(
    scores: Float[Tensor, "draws 2 seeds"], less_is_better: bool, relative: float, start: float
) -> Float[Tensor, "2 draws"]:
    """How the gain, and the relative gain, move with what is drawn.

    The latter to first order in both means: ratios of what is drawn have no variance where the first arm's
    score may come out near 0.
    """
    before, after = scores.mean(-1).unbind(-1)
    gain = before - after if less_is_better else after - before
    return torch.stack([gain, (gain - relative * before.abs()) / max(abs(start), LEAST_SCORE)])


def _interval(mean: float, variances: Sequence[float], counts: Sequence[int]) -> Interval:
    """By the sum of the variances; its degrees of freedom are Satterthwaite's."""
    there = [(v, n - 1) for v, n in zip(variances, counts, strict=True) if n > 1]
    if not there:
        return Interval(mean, -math.inf, math.inf)
    total = sum(v for v, _ in there)
    if total == 0:
        return Interval(mean, mean, mean)
    freedom = total**2 / sum(v**2 / n for v, n in there)
    reach = student_quantile(freedom) * math.sqrt(total)
    return Interval(mean, mean - reach, mean + reach)
