"""The page: its sections, its style and its script, in one file that asks for nothing else."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from renderpretrain import __version__
from renderpretrain.report.charts import Chart, figure, thinned_by
from renderpretrain.report.curves import (
    NamedRun,
    gradient_charts,
    health_charts,
    loss_charts,
    range_charts,
    score_charts,
    speed_charts,
)
from renderpretrain.report.markup import Html, element
from renderpretrain.report.overview import (
    about,
    all_settings,
    badge,
    commands,
    differing,
    environments,
    run_mark,
    timing,
    warnings,
)
from renderpretrain.report.pictures import MOST_BYTES, pictures_that_fit
from renderpretrain.report.results import exports, learned, probes, scores
from renderpretrain.report.side_by_side import pictures_side_by_side
from renderpretrain.runs.record import RunRecord

GENERATOR = "renderpretrain report"
"""What the page says has made it, within its first lines."""

Runs = Sequence[NamedRun]


def report_page(records: Sequence[RunRecord], *, written: datetime) -> str:
    """One HTML page of one run, or of several side by side.

    Args:
        records: At least one.
        written: Said on the page, with a time zone.
    """
    runs = [
        NamedRun(name, record, k)
        for k, (name, record) in enumerate(zip(_names(records), records, strict=True))
    ]
    title = records[0].title if len(runs) == 1 else " · ".join(run.name for run in runs)
    going_on = any(record.state == "running" for record in records)
    sections = [section for section in (_section(name, make, runs) for name, make in SECTIONS) if section]
    links = [element("a", name, href=f"#{anchor(name)}") for name, _ in sections]
    return "<!doctype html>\n" + element(
        "html",
        _head(title),
        element(
            "body",
            element("header", *_header(title, runs, written)),
            element("nav", *links, aria_label="sections"),
            element("main", *(section for _, section in sections)),
            element("script", _asset("report.js")),
            data_running=going_on,
        ),
        lang="en",
    )


def anchor(name: str) -> str:
    """Where a link to a section leads."""
    return name.lower().replace(" ", "-")


def _names(records: Sequence[RunRecord]) -> list[str]:
    """What tells runs apart: their folders' names, or as much of their paths as it takes."""
    paths = [record.folder.path.resolve() for record in records]
    for parts in range(1, 4):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    seen = Counter[Path]()
    told = []
    for path in paths:
        seen[path] += 1
        told.append(f"{path} ({seen[path]})" if paths.count(path) > 1 else str(path))
    return told


def _head(title: str) -> Html:
    """What a browser reads first: nothing may be fetched from anywhere."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title}: renderpretrain"),
        element("style", _asset("report.css")),
    )


def _asset(name: str) -> Html:
    """A file of the package that becomes part of the page."""
    return Html((files("renderpretrain.report") / name).read_text(encoding="utf-8"))


def _header(title: str, runs: Runs, written: datetime) -> list[Html]:
    """The title, the state of each run, and when the page was written."""
    if len(runs) == 1:
        states = [badge(runs[0].record)]
    else:
        states = [element("span", run_mark(run), badge(run.record), class_="one") for run in runs]
    when = element("time", f"{written:%Y-%m-%d %H:%M:%S %Z}", datetime=written.isoformat())
    told = [element("p", "renderpretrain report", class_="kicker"), element("h1", title)]
    told.append(element("p", *states, class_="states"))
    told.append(element("p", "written ", when, element("span", id="age"), class_="quiet"))
    return [*told, *warnings(runs)]


def _section(name: str, make: Callable[[Runs], Sequence[Html]], runs: Runs) -> tuple[str, Html] | None:
    """A section; ``None`` without anything to say, and a line where a file holds what nobody expects."""
    try:
        told = make(runs)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        told = [element("p", f"cannot be shown: {type(error).__name__}: {error}", class_="warnings")]
    if not told:
        return None
    return name, element("section", element("h2", name), *told, id=anchor(name))


def _what(runs: Runs) -> list[Html]:
    return [about(runs), commands(runs)]


def _pictures(runs: Runs) -> list[Html]:
    return _drawn(runs, [run.record.folder.pictures for run in runs], MOST_BYTES * 3 // 4)


def _drawn(runs: Runs, folders: Sequence[Path], room: int) -> list[Html]:
    """The pictures of each run that lie in a folder of its own; of several runs side by side."""
    paths = [
        [path for path in run.record.pictures if path.parent == folder]
        for run, folder in zip(runs, folders, strict=True)
    ]
    if len(runs) == 1:
        shown, problems = pictures_that_fit(paths[0], room)
    else:
        shown, problems = pictures_side_by_side(list(zip(runs, paths, strict=True)), room)
    told = [shown] if shown else []
    return [*told, *(element("p", problem, class_="quiet") for problem in problems)]


def _held_out(runs: Runs) -> list[Html]:
    return [*scores(runs), *_charts(runs, score_charts(runs), "over the steps")]


def _over_range(runs: Runs) -> list[Html]:
    return _charts(runs, range_charts(runs))


def _losses(runs: Runs) -> list[Html]:
    return _charts(runs, loss_charts(runs))


def _collapse(runs: Runs) -> list[Html]:
    told: list[Html] = []
    for run in runs:
        charts = [*health_charts(run), *gradient_charts(run)]
        told += _charts(runs, charts, run_mark(run) if len(runs) > 1 else "")
    return told


def _probes(runs: Runs) -> list[Html]:
    return [*probes(runs), *_drawn(runs, [run.record.folder.path for run in runs], MOST_BYTES // 4)]


def _speed(runs: Runs) -> list[Html]:
    return [timing(runs), *_charts(runs, speed_charts(runs))]


def _settings(runs: Runs) -> list[Html]:
    return [all_settings(runs)]


def _differing(runs: Runs) -> list[Html]:
    return [differing(runs)] if len(runs) > 1 else []


def _environment(runs: Runs) -> list[Html]:
    return [environments(runs)]


def _charts(runs: Runs, charts: Sequence[Chart], title: object = "") -> list[Html]:
    """Charts in a grid, with controls where there are some to control."""
    if not charts:
        return []
    titled = [element("h3", title)] if title else []
    controls = [_controls()] if any(chart.smooth for chart in charts) else []
    if (steps := thinned_by(charts, len(runs))) > 1:
        controls.append(element("p", f"Each point is the mean of {steps} steps.", class_="quiet"))
    return [
        *titled,
        *controls,
        element("div", *(figure(chart, len(runs)) for chart in charts), class_="charts"),
    ]


def _controls() -> Html:
    """What smooths curves and chooses their scale; all charts follow."""
    slider = element("input", type="range", min="0", max="0.99", step="0.01", value="0.6", class_="smoothing")
    options = [element("option", name, value=name) for name in ("automatic", "linear", "logarithmic")]
    return element(
        "div",
        element("label", element("span", "smoothing"), slider, element("output", "0.60")),
        element("label", element("span", "scale"), element("select", *options, class_="scale")),
        class_="controls",
    )


SECTIONS: tuple[tuple[str, Callable[[Runs], Sequence[Html]]], ...] = (
    ("What it learned", learned),
    ("What was run", _what),
    ("Settings that differ", _differing),
    ("Pictures", _pictures),
    ("Held-out scores", _held_out),
    ("Depth error over range", _over_range),
    ("Losses", _losses),
    ("Collapse monitor", _collapse),
    ("Probes", _probes),
    ("Exports", exports),
    ("Time and memory", _speed),
    ("All settings", _settings),
    ("Environment", _environment),
)
"""What the page shows, in order; a section without anything to say is left out."""
