"""Plots of lines on one sheet, as one PNG; needs matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = 3
"""Plots side by side, at most."""


@dataclass(frozen=True)
class Line:
    """A line of a plot, with a dot at each point.

    Attributes:
        name: In the legend.
        x: Where the points are along the horizontal axis.
        y: One value for each.
    """

    name: str
    x: Sequence[int | float]
    y: Sequence[int | float]


@dataclass(frozen=True)
class Plot:
    """One plot of a sheet.

    Attributes:
        title: Above it.
        xlabel: Below its horizontal axis.
        lines: What is drawn.
        limits: Ends of the vertical axis, where ``None`` is as the values have it, as are both by default.
            A horizontal axis that is not logarithmic begins at 0.
        log: Which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    """

    title: str
    xlabel: str
    lines: Sequence[Line]
    limits: tuple[int | float, int | float | None] | None = None
    log: str = ""


def save_plots(path: Path, title: str, plots: Sequence[Plot]) -> Path:
    """Write plots side by side, creating the folder.

    Args:
        path: The PNG.
        title: Above all of them.
        plots: At least one.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    figure, axes = figure_with(len(plots))
    figure.suptitle(title)
    for plot, own in zip(plots, axes, strict=True):
        for n, line in enumerate(plot.lines):
            # Ten colors, and then the same ones dashed.
            style = {"color": f"C{n % 10}", "linestyle": "-" if n < 10 else "--", "marker": "o"}
            own.plot(line.x, line.y, label=line.name, markersize=3, **style)
        for axis in plot.log:
            own.set(**{f"{axis}scale": "log"})
        own.set(title=plot.title, xlabel=plot.xlabel)
        own.set_ylim(plot.limits) if plot.limits else None
        own.set_xlim(left=None if "x" in plot.log else 0)
        own.grid(alpha=0.3)
        own.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def figure_with(count: int) -> tuple[Any, list[Any]]:
    """A figure of matplotlib's and so many axes in rows of three.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except Exception as error:
        raise ValueError(f"the plot needs matplotlib: pip install 'renderpretrain[viz]' ({error})") from error
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unneeded in axes[count:]:
        unneeded.set_visible(False)
    return figure, axes[:count]


def legend_below(figure: Any, plots: Sequence[Any]) -> None:
    """Name the lines of all plots once, below them, where no line is hidden by it.

    Args:
        figure: Of ``figure_with``.
        plots: Its axes; lines of one name look alike in all of them.
    """
    named = {
        name: line for axes in plots for line, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named, loc="outside lower center", ncols=len(named), frameon=False)
