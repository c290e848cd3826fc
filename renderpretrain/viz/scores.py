"""Scores over the steps of trainings, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from renderpretrain.viz.plots import figure_with

COLORS = ("#8a8f98", "#c2410c", "#1d4ed8", "#15803d")
"""Of the kinds of lines, in their order."""


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

    Args:
        path: The PNG.
        panels: At least one.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    figure, plots = figure_with(len(panels))
    for axes, panel in zip(plots, panels, strict=True):
        kinds = list(dict.fromkeys(line.kind for line in panel.lines))
        for number, line in enumerate(panel.lines):
            kind = kinds.index(line.kind)
            first = all(other.kind != line.kind for other in panel.lines[:number])
            color, label = COLORS[kind % len(COLORS)], line.kind if first else None
            for part, style, name in (
                ([p for p in line.points if p[0] <= line.falling], "-", label),
                ([p for p in line.points if p[0] >= line.falling], "--", None),
            ):
                axes.plot(
                    [p[0] for p in part], [p[1] for p in part], style, color=color, alpha=0.7, label=name
                )
            axes.plot(line.kept, dict(line.points)[line.kept], "o", color=color, markersize=4)
        axes.set(title=panel.title, xlabel="steps; dashed: the rate falls", ylabel=panel.metric)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
