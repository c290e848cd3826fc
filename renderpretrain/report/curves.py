"""Which curves a report shows: losses, held-out scores, errors over range, health, speed."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from renderpretrain.report.charts import Chart, Line
from renderpretrain.runs.collapse import HEALTH, levels_of, norms_of
from renderpretrain.runs.metrics import OVER_RANGE, PREDICTORS, Row, of_predictor, unit_of
from renderpretrain.runs.record import RunRecord

KINDS = {
    "depth_in_blocks": "rays to returns in blocks that were taken out of the input",
    "depth_between_beams": "rays to beams that were taken out of the input",
    "depth": "all rays, most of whose returns are in the input",
}
"""What is known of rays whose error is told, the hardest first."""


@dataclass(frozen=True)
class NamedRun:
    """A run on the page.

    Attributes:
        name: What tells it from the others.
        record: What is known of it.
        color: Which of the page's colours, from 0.
    """

    name: str
    record: RunRecord
    color: int


def loss_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """The loss, its terms, the size of the gradient and the learning rate."""
    terms = _keys((row for run in runs for row in run.record.rows), lambda key: key.startswith("loss/"))
    names = {"loss": "loss", **{key: key.removeprefix("loss/") + " (term)" for key in terms}}
    names |= {"grad_norm": "gradient norm", "lr": "learning rate"}
    return [*_charts(runs, names, smooth=True)]


def score_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """Held-out scores over the steps, beside what predictors that learn no geometry score."""
    rows = [row for run in runs for row in run.record.measured]
    keys = _keys(rows, lambda k: k.startswith("eval/") and OVER_RANGE not in k and not of_predictor(k))
    charts = []
    for chart in _charts(runs, {key: key.removeprefix("eval/") for key in keys}, smooth=False):
        beside = _predictor(runs, chart.title)
        ends = [x for line in chart.lines for x in line.x]
        lines = [Line(name, [min(ends), max(ends)], [y, y], None, True) for name, y in beside.items()]
        charts.append(Chart(chart.title, [*chart.lines, *lines], unit=unit_of(chart.title)))
    return charts


def speed_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """How fast steps were, and how much memory of a GPU they took."""
    key, name, note = "samples_per_second", "samples a second", "without steps that also measured gradients"
    lines = [_line(run.name, _points(run.record.trained_only, key), run.color) for run in runs]
    lines = [line for line in lines if line.x]
    left_out = any(len(run.record.trained_only) < len(_points(run.record.rows, key)) for run in runs)
    charts = [Chart(name, lines, smooth=True, note=note if left_out else "")] if lines else []
    names = {"peak_memory_gib": "peak memory of the GPU (GiB)"}
    return [*charts, *_charts(runs, names, smooth=True)]


def range_charts(runs: Sequence[NamedRun]) -> list[Chart]:
    """Relative depth error by interval of the true depth, at the last evaluation.

    Of one run also at the first one; beside the nearest point of the input.
    """
    charts = []
    for kind, words in KINDS.items():
        found: list[tuple[str, Mapping[str, float], int | None, bool]] = []
        for run in runs:
            first, last = _first_and_last(run.record.measured, f"eval/{OVER_RANGE}{kind}/")
            if not last:
                last = _of_scores(run.record, "recipe", kind)
            if len(runs) == 1 and first and first != last:
                found.append(("before", first, 1, False))
            found.append((run.name if len(runs) > 1 else "after", last, run.color, False))
        near, _ = _first_and_last(runs[0].record.measured, f"eval/nearest_point_{OVER_RANGE}{kind}/")
        near = near or _of_scores(runs[0].record, "nearest_point", kind)
        found.append((PREDICTORS["nearest_point"], near, None, True))
        chart = _over_range(words, found)
        if chart:
            charts.append(chart)
    return charts


def health_charts(run: NamedRun) -> list[Chart]:
    """What the encoders' features looked like: a line for each level."""
    rows = [row for row in run.record.measured if any(key.startswith(HEALTH) for key in row)]
    reads = {
        "directions used (RankMe), share of the width": lambda found: found["rank"] / found["channels"],
        "spread of directions (unit_std), 1 is even": lambda found: found["unit_std"],
        "share of dead channels": lambda found: found["dead"],
    }
    charts = []
    for title, read in reads.items():
        points: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            for level, found in levels_of(row).items():
                points.setdefault(level, []).append((row["step"], read(found)))
        lines = [_line(name, of, color) for color, (name, of) in enumerate(points.items())]
        if lines:
            charts.append(Chart(title, lines, top=1.0 if "share" in title else None))
    return charts


def gradient_charts(run: NamedRun) -> list[Chart]:
    """How hard each loss term pulls at each encoder, where that was measured."""
    encoders: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in run.record.with_gradients:
        for encoder, norms in norms_of(row).items():
            for term, norm in norms.items():
                if norm > 0:
                    encoders.setdefault(encoder, {}).setdefault(term, []).append((row["step"], norm))
    return [
        Chart(
            f"gradient of each term on {encoder}",
            [_line(name, points, color) for color, (name, points) in enumerate(terms.items())],
        )
        for encoder, terms in encoders.items()
    ]


def _keys(rows: Iterable[Row], wanted: Callable[[str], bool]) -> list[str]:
    """The names of measured numbers, in the order of their first appearance."""
    names: dict[str, None] = {}
    for row in rows:
        if not row.keys() <= names.keys():
            names |= dict.fromkeys(row)
    return [name for name in names if wanted(name)]


def _charts(runs: Sequence[NamedRun], names: Mapping[str, str], *, smooth: bool) -> Iterator[Chart]:
    """A chart for each number by its name in the log, with a line for each run that has measured it."""
    for key, name in names.items():
        lines = [_line(run.name, _points(run.record.rows, key), run.color) for run in runs]
        lines = [line for line in lines if line.x]
        if lines:
            yield Chart(name, lines, smooth=smooth)


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """The steps at which a number was measured, and what it was."""
    return [(row["step"], row[key]) for row in rows if key in row]


def _line(name: str, points: Sequence[tuple[float, float]], color: int) -> Line:
    """A curve through points."""
    return Line(name, [x for x, _ in points], [y for _, y in points], color)


def _predictor(runs: Sequence[NamedRun], score: str) -> dict[str, float]:
    """What the most telling predictor that learns no geometry scores: the first that was asked."""
    for name in ("nearest_point", "baseline"):
        key = f"eval/{name}_{score}"
        found = [row[key] for run in runs for row in run.record.measured if key in row]
        if found:
            return {PREDICTORS[name]: found[0]}
    return {}


def _first_and_last(rows: Sequence[Row], prefix: str) -> tuple[dict[str, float], dict[str, float]]:
    """The first and the last numbers whose names begin so, without that."""
    found = [
        {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}
        for row in rows
    ]
    found = [each for each in found if each]
    return (found[0], found[-1]) if found else ({}, {})


def _of_scores(record: RunRecord, who: str, kind: str) -> dict[str, float]:
    """The same from what ``renderpretrain eval`` found; NaN is none to draw."""
    told = record.scores.get("over_range", {}).get(who, {}).items()
    return {k.removeprefix(f"{kind}/"): v for k, v in told if k.startswith(f"{kind}/") and math.isfinite(v)}


def _over_range(
    title: str, found: Sequence[tuple[str, Mapping[str, float], int | None, bool]]
) -> Chart | None:
    """A chart over all intervals in which anybody has a ray; ``None`` without any."""
    rays: dict[str, float] = {}
    for _, scores, _, _ in found:
        for key, value in scores.items():
            interval, _, name = key.partition("/")
            if name == "rays":
                rays[interval] = max(value, rays.get(interval, 0))
    intervals = sorted(rays, key=lambda each: float(each.split("-")[0]))
    lines = []
    for name, scores, color, dashed in found:
        places = [(k, scores.get(f"{each}/abs_rel")) for k, each in enumerate(intervals)]
        there = [(k, 100 * y) for k, y in places if y is not None]
        if there:
            lines.append(Line(name, [k for k, _ in there], [y for _, y in there], color, dashed))
    if not lines:
        return None
    counts = ", ".join(f"{rays[each]:g}" for each in intervals)
    labels = [f"{each} m" if each[-1] != "-" else f"over {each[:-1]} m" for each in intervals]
    return Chart(title, lines, unit="% of the depth", labels=labels, note=f"rays in each interval: {counts}")
