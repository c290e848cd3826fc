"""Scores over the steps of trainings, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean

from renderpretrain.viz.plots import figure_with, legend_below

COLORS = ("#8a8f98", "#c2410c", "#1d4ed8", "#15803d")
"""Of the kinds of lines, in their order."""

FAINT = 0.25
"""How much is seen of one training among several, behind their mean."""


@dataclass(frozen=True)
class ScoreLine:
    """One training.

    Attributes:
        kind: In the legend; lines of a kind have its colour.
        points: Step and score of every evaluation.
        kept: The step that is marked, whose weights were kept.
        falling: The step from which its rate falls, where the line is dashed.
    """

    kind: str
    points: Sequence[tuple[int, float]]
    kept: int
    falling: int


@dataclass(frozen=True)
class ScorePanel:
    """One plot of a sheet.

    Attributes:
        title: Above it.
        metric: Along the vertical axis; steps are along the horizontal one.
        lines: At least one.
    """

    title: str
    metric: str
    lines: Sequence[ScoreLine]


def save_score_lines(path: Path, panels: Sequence[ScorePanel]) -> Path:
    """Write plots of scores over steps side by side, creating the folder.

    Several trainings of a kind are drawn faintly, behind their mean at the steps where all were scored.

    Args:
        path: The PNG.
        panels: At least one.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    figure, plots = figure_with(len(panels))
    kinds = list(dict.fromkeys(line.kind for panel in panels for line in panel.lines))
    for axes, panel in zip(plots, panels, strict=True):
        for kind, color in zip(kinds, cycle(COLORS), strict=False):
            lines = [line for line in panel.lines if line.kind == kind]
            alone = len(lines) == 1
            for line in lines:
                steady = [p for p in line.points if p[0] <= line.falling]
                falling = [p for p in line.points if p[0] >= line.falling]
                for part, style in ((steady, "-"), (falling, "--")):
                    axes.plot(*_columns(part), style, color=color, alpha=0.9 if alone else FAINT)
                kept = dict(line.points)[line.kept]
                axes.plot(line.kept, kept, "o", color=color, alpha=0.9 if alone else FAINT, markersize=4)
            axes.plot(*_columns(_mean(lines)), color=color, linewidth=1.5 if alone else 2.5, label=kind)
        axes.set(title=panel.title, xlabel="steps; dashed: the rate falls", ylabel=panel.metric)
        axes.grid(alpha=0.3)
    legend_below(figure, plots)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _mean(lines: Sequence[ScoreLine]) -> list[tuple[int, float]]:
    """The mean of trainings at the steps where all of them were scored; nothing of one alone."""
    shared = (
        set.intersection(*({step for step, _ in line.points} for line in lines)) if len(lines) > 1 else set()
    )
    return [(step, fmean(dict(line.points)[step] for line in lines)) for step in sorted(shared)]


def _columns(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Steps, and scores."""
    return [step for step, _ in points], [score for _, score in points]
