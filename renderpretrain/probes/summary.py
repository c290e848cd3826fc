"""Trials of a probe as one line per fraction of the labels: means and standard deviations over the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from renderpretrain.probes.probe import Arm, Trial


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
        relative: Mean difference over the mean of scratch.
        deviations: Mean difference in units of the larger of three deviations: of the difference, and of
            either arm. ``None`` for one seed.
    """

    fraction: float
    labelled: int
    scratch: Spread
    pretrained: Spread
    difference: Spread
    relative: float
    deviations: float | None


def compare(trials: Sequence[Trial], metric: str) -> list[Comparison]:
    """One line per fraction, in the order in which they were tried."""
    fractions = list(dict.fromkeys(trial.fraction for trial in trials))
    return [_line([t for t in trials if t.fraction == fraction], metric) for fraction in fractions]


def _line(trials: Sequence[Trial], metric: str) -> Comparison:
    """The arms at one fraction."""

    def scores(arm: Arm) -> list[float]:
        found = {t.seed: t.scores[metric] for t in trials if t.arm == arm}
        return [found[seed] for seed in sorted(found)]

    before, after = scores("scratch"), scores("pretrained")
    scratch, pretrained = Spread.of(before), Spread.of(after)
    difference = Spread.of([b - a for a, b in zip(before, after, strict=True)])
    widest = max(spread.deviation for spread in (scratch, pretrained, difference))
    return Comparison(
        fraction=trials[0].fraction,
        labelled=trials[0].labelled,
        scratch=scratch,
        pretrained=pretrained,
        difference=difference,
        relative=difference.mean / scratch.mean if scratch.mean else float("inf"),
        deviations=difference.mean / widest if widest else None,
    )
