"""Scores over the share of the labels, with their spread, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from renderpretrain.viz.plots import figure_with, legend_below


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        name: In the legend.
        means: One per fraction.
        deviations: Half the height of the error bars.
    """

    name: str
    means: Sequence[float]
    deviations: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One plot of a sheet.

    Attributes:
        title: Above it.
        metric: Along the vertical axis.
        fractions: Along the horizontal axis, in (0, 1].
        curves: With a value for each fraction.
    """

    title: str
    metric: str
    fractions: Sequence[float]
    curves: Sequence[Curve]


def save_label_curves(path: Path, panels: Sequence[Panel]) -> Path:
    """Write label-efficiency plots side by side, creating the folder.

    Args:
        path: The PNG.
        panels: At least one.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    figure, plots = figure_with(len(panels))
    for axes, panel in zip(plots, panels, strict=True):
        for curve, color in zip(panel.curves, ("#8a8f98", "#c2410c", "#1d4ed8", "#15803d"), strict=False):
            percent = [100 * fraction for fraction in panel.fractions]
            axes.errorbar(
                percent, curve.means, curve.deviations, label=curve.name, color=color, marker="o", capsize=3
            )
        axes.set_xscale("log")
        axes.set_xticks([100 * fraction for fraction in panel.fractions])
        axes.set_xticklabels([f"{100 * fraction:g} %" for fraction in panel.fractions])
        axes.minorticks_off()
        axes.set(title=panel.title, xlabel="labels", ylabel=panel.metric)
        axes.grid(alpha=0.3)
    legend_below(figure, plots)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
