"""Curves as data that the script of the page draws: ``report.js`` reads what :func:`figure` leaves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from renderpretrain.report.markup import Html, element, embedded, number

MOST_POINTS = 800
"""Of a line, or of the lines of several runs together; of longer ones each point is the mean of several."""

STEEP = 12.0
"""A chart has a logarithmic axis if its largest number is so many times its median."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: In the legend.
        x: Steps, or places of labels.
        y: As many finite numbers.
        color: Which of the page's colours, from 0; ``None`` for what is only compared with.
        dashed: Whether it is drawn so.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int | None = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    Attributes:
        title: What is drawn.
        lines: At least one, none without a point.
        unit: Of the numbers.
        labels: Of the places along the x axis; without any it counts steps.
        smooth: Whether smoothing makes sense of it.
        top: Where the y axis ends, which begins at 0 then; by default where the numbers do.
        note: What else a reader has to know.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    labels: Sequence[str] = ()
    smooth: bool = False
    top: float | None = None
    note: str = ""


def figure(chart: Chart, runs: int = 1) -> Html:
    """A chart as an element of the page, with its data; ``runs`` share the points that a line may have."""
    lines = [line for line in chart.lines if line.x]
    drawn = [_thinned(line, runs) for line in lines]
    data = {
        "title": chart.title,
        "unit": chart.unit,
        "labels": list(chart.labels),
        "smooth": chart.smooth,
        "top": chart.top,
        "log": chart.top is None and not chart.labels and _is_steep(lines),
        "lines": [{"name": n.name, "x": n.x, "y": n.y, "color": n.color, "dashed": n.dashed} for n in drawn],
    }
    caption = [element("b", chart.title), *([f" {chart.unit}"] if chart.unit else [])]
    caption += [element("small", chart.note)] if chart.note else []
    return element(
        "figure",
        element("figcaption", *caption),
        element("div", class_="plot", role="img", tabindex="0", aria_label=_in_words(chart.title, lines)),
        embedded(data),
        class_="chart",
    )


def thinned_by(charts: Sequence[Chart], runs: int = 1) -> int:
    """Of how many steps a point is the mean in the longest line; 1 where all are drawn."""
    most = max((len(line.x) for chart in charts for line in chart.lines), default=1)
    return math.ceil(most / _most_points(runs))


def _most_points(runs: int) -> int:
    """Of a line, where so many runs share a page."""
    return max(2, MOST_POINTS // runs)


def _in_words(title: str, lines: Sequence[Line]) -> str:
    """What the curves say, for who cannot see them."""
    told = [f"{n.name} from {number(n.y[0])} to {number(n.y[-1])}" for n in lines]
    return f"{title}: {'; '.join(told)}. Arrow keys read it out."


def _is_steep(lines: Sequence[Line]) -> bool:
    """Whether most of the numbers would lie flat on the ground."""
    values = sorted(value for line in lines for value in line.y)
    return bool(values) and values[0] > 0 and values[-1] > STEEP * values[len(values) // 2]


def _thinned(line: Line, runs: int) -> Line:
    """The line with no more points than can be seen, and no more digits."""
    size = math.ceil(len(line.x) / _most_points(runs))
    parts = [range(k, min(k + size, len(line.x))) for k in range(0, len(line.x), size)]
    x = [_short(line.x[part[-1]]) for part in parts]
    y = [_short(sum(line.y[i] for i in part) / len(part)) for part in parts]
    return Line(line.name, x, y, line.color, line.dashed)


def _short(value: float) -> float:
    """Five digits, which are more than can be seen."""
    shortened = float(f"{value:.5g}") if abs(value) < 1e5 else round(value, 1)
    return int(shortened) if shortened == int(shortened) else shortened
