"""Trials of a probe as one line per fraction of the labels: means and standard deviations over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from renderpretrain.probes.plan import Arm, Trial

WITH_HANDMADE: tuple[Arm, ...] = ("handmade", "scratch+handmade", "pretrained+handmade")
"""Arms that only tasks with hand-made numbers have."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the seeds.

    Attributes:
        mean: Of the scores.
        deviation: With ``n - 1`` in the denominator; 0 for one seed.
    """

    mean: float
    deviation: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Mean and deviation of one value or more."""
        return Spread(fmean(values), stdev(values) if len(values) > 1 else 0.0)


@dataclass(frozen=True)
class Comparison:
    """What pre-training changed at one fraction of the labels.

    Attributes:
        fraction: Of the labels.
        labelled: Scenes or places with labels.
        scratch: Score of fresh encoders.
        pretrained: Score of the pre-trained ones.
        difference: Pre-trained less scratch, seed by seed: both arms of a seed have the same labels.
        relative: Gain of pre-trained over scratch, as a share of the latter's mean. Gains are above 0 where
            the former is better, be it more or less.
        handmade: Score of hand-made numbers alone; ``None`` where there are none, as in the next four.
        scratch_handmade: Of fresh encoders' features beside hand-made numbers.
        pretrained_handmade: Of pre-trained ones' beside hand-made numbers.
        relative_to_handmade: Gain of pre-trained over hand-made, as a share of the latter's mean.
        added_to_handmade: The same of pre-trained beside hand-made: what features add.
        deviations: Mean gain in units of the larger of three deviations: of the difference, and of either
            arm. ``None`` for one seed.
    """

    fraction: float
    labelled: int
    scratch: Spread
    pretrained: Spread
    difference: Spread
    relative: float
    deviations: float | None
    handmade: Spread | None = None
    scratch_handmade: Spread | None = None
    pretrained_handmade: Spread | None = None
    relative_to_handmade: float | None = None
    added_to_handmade: float | None = None


def compare(trials: Sequence[Trial], metric: str, less_is_better: bool = False) -> list[Comparison]:
    """One line per fraction, in the order in which they were tried."""
    fractions = list(dict.fromkeys(trial.fraction for trial in trials))
    return [
        _line([t for t in trials if t.fraction == fraction], metric, -1 if less_is_better else 1)
        for fraction in fractions
    ]


def relative_gain(before: Spread, after: Spread, sign: int) -> float:
    """What a mean has over another, as a share of that; with a sign of -1 where less is better."""
    return sign * (after.mean - before.mean) / before.mean if before.mean else float("inf")


def _line(trials: Sequence[Trial], metric: str, sign: int) -> Comparison:
    """The arms at one fraction."""

    def scores(arm: Arm) -> list[float]:
        found = {t.seed: t.scores[metric] for t in trials if t.arm == arm}
        return [found[seed] for seed in sorted(found)]

    before, after = scores("scratch"), scores("pretrained")
    scratch, pretrained = Spread.of(before), Spread.of(after)
    difference = Spread.of([b - a for a, b in zip(before, after, strict=True)])
    widest = max(spread.deviation for spread in (scratch, pretrained, difference))
    known = {t.arm for t in trials}
    handmade, fresh_both, both = (Spread.of(scores(arm)) if arm in known else None for arm in WITH_HANDMADE)
    return Comparison(
        fraction=trials[0].fraction,
        labelled=trials[0].labelled,
        scratch=scratch,
        pretrained=pretrained,
        difference=difference,
        relative=relative_gain(scratch, pretrained, sign),
        deviations=sign * difference.mean / widest if widest else None,
        handmade=handmade,
        scratch_handmade=fresh_both,
        pretrained_handmade=both,
        relative_to_handmade=None if handmade is None else relative_gain(handmade, pretrained, sign),
        added_to_handmade=(None if handmade is None or both is None else relative_gain(handmade, both, sign)),
    )
