"""Pictures inside the page: sheets of several steps as panels to compare, small enough all together."""

import base64
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, features

from renderpretrain.report.markup import Html, element, joined
from renderpretrain.viz import read_sheet

MOST_BYTES = 4_300_000
"""Of all pictures of a page, as text: base64 takes four letters for three bytes."""

LEVELS = ((85, 1.0), (75, 1.0), (60, 0.75), (45, 0.5), (30, 0.35), (20, 0.2))
"""Quality and scale of pictures, the best first: the first level is taken at which they fit."""

WIDEST = 1600
"""Pixels of a picture; wider ones are made smaller at once."""

MOST_STEPS = 7
"""Sheets of a series that are shown, evenly spread; the first and the last are among them."""

MOST_COLUMNS = 6
"""Pictures of a row that stand side by side so that those of all rows can be compared, column by column."""

OF_A_STEP = re.compile(r"(?P<series>.*step)_(?P<step>[0-9]{1,12})\.png")
"""A sheet that a run draws again at later steps."""

NOT_SHOWN = ("health.png",)
"""What the page draws itself."""


@dataclass(frozen=True)
class Shot:
    """One picture at one step.

    Attributes:
        row: Of the sheet, such as a camera.
        caption: What it shows.
        uri: The picture.
        size: Width and height in pixels.
    """

    row: str
    caption: str
    uri: str
    size: tuple[int, int]


Legend = tuple[tuple[str, tuple[int, int, int]], ...]
"""What colours mean, red, green and blue from 0 to 255."""


@dataclass(frozen=True)
class Drawn:
    """The pictures of a run at one level, read.

    Attributes:
        series: Sheets of steps: by name and step.
        legends: What their colours mean, by name.
        others: Sheets that are not drawn again, by file name, with what their colours mean.
        problems: A sentence for each file that cannot be shown.
    """

    series: Mapping[str, dict[int, tuple[Shot, ...]]]
    legends: Mapping[str, Legend]
    others: Mapping[str, tuple[tuple[Shot, ...], Legend]]
    problems: tuple[str, ...]


def pictures_that_fit(paths: Sequence[Path], room: int = MOST_BYTES) -> tuple[Html, tuple[str, ...]]:
    """All pictures of a run as elements, and a sentence for each that cannot be shown.

    Args:
        paths: PNG files.
        room: Characters that they may take.
    """
    shown, problems = fitting([paths], lambda drawn: _of_one(drawn[0]), room)
    return shown, problems


def fitting(
    runs: Sequence[Sequence[Path]], show: Callable[[Sequence[Drawn]], Html], room: int
) -> tuple[Html, tuple[str, ...]]:
    """What shows the pictures of runs, at the best level at which it is short enough; and the problems.

    Args:
        runs: PNG files of each.
        show: Makes elements of what was read of each run.
        room: Characters that these may take.
    """
    chosen = [_chosen([path for path in paths if path.name not in NOT_SHOWN]) for paths in runs]
    for level in range(len(LEVELS)):
        drawn = [_read(paths, level) for paths in chosen]
        shown = show(drawn)
        if len(shown) <= room:
            return shown, tuple(problem for each in drawn for problem in each.problems)
    return Html(""), (f"{sum(map(len, chosen))} pictures are too large to be shown",)


def _chosen(paths: Sequence[Path]) -> list[Path]:
    """The files without steps in between where there are many."""
    steps: dict[str, list[tuple[int, Path]]] = {}
    for path in paths:
        found = OF_A_STEP.fullmatch(path.name)
        if found:
            steps.setdefault(found["series"], []).append((int(found["step"]), path))
    left_out: set[Path] = set()
    for series in steps.values():
        ordered = [path for _, path in sorted(series)]
        last, most = len(ordered) - 1, min(len(ordered), MOST_STEPS)
        kept = {ordered[round(k * last / max(most - 1, 1))] for k in range(most)}
        left_out |= set(ordered) - kept
    return [path for path in paths if path not in left_out]


def _read(paths: Sequence[Path], level: int) -> Drawn:
    """The pictures of files at a level."""
    series: dict[str, dict[int, tuple[Shot, ...]]] = {}
    legends: dict[str, Legend] = {}
    others: dict[str, tuple[tuple[Shot, ...], Legend]] = {}
    problems: list[str] = []
    for path in paths:
        try:
            status = path.stat()
            shots, legend = shots_of(path, (status.st_mtime_ns, status.st_size), level)
        except (OSError, ArithmeticError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"{path}: no picture to show ({error})")
            continue
        found = OF_A_STEP.fullmatch(path.name)
        if found:
            series.setdefault(found["series"], {})[int(found["step"])] = shots
            legends[found["series"]] = legend
        else:
            others[path.name] = shots, legend
    return Drawn(series, legends, others, tuple(problems))


def _of_one(drawn: Drawn) -> Html:
    """The pictures of a run: first those of steps, then the others."""
    compared = [_compared(shots, drawn.legends[name]) for name, shots in sorted(drawn.series.items())]
    return joined([*compared, *(_alone(name, *sheet) for name, sheet in drawn.others.items())])


@lru_cache(maxsize=256)
def shots_of(path: Path, changed: tuple[int, int], level: int) -> tuple[tuple[Shot, ...], Legend]:
    """The pictures of a file as they go into a page; remembered while the file stays as it is.

    Args:
        path: A PNG.
        changed: When it was, and its size: another pair reads it again.
        level: Of :data:`LEVELS`.

    Raises:
        OSError: If it is no picture.
        ValueError: If what it says of its pictures is damaged.
    """
    sheet = read_sheet(path)
    shots = []
    for panel in sheet.panels:
        picture, uri = _encoded(panel.picture, level)
        shots.append(Shot(panel.row, panel.caption, uri, picture))
    return tuple(shots), tuple(sheet.legend.items())


def _encoded(picture: Image.Image, level: int) -> tuple[tuple[int, int], str]:
    """The size and the address of a picture that is its own content."""
    quality, scale = LEVELS[level]
    scale *= min(1.0, WIDEST / picture.width)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    kind = "webp" if features.check("webp") else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=quality)
    return picture.size, f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _alone(name: str, shots: Sequence[Shot], legend: Legend) -> Html:
    """A sheet that is not drawn again: its pictures row by row, what they have in common in columns."""
    rows: dict[str, list[Html]] = {}
    for shot in shots:
        words = f"{name}: {shot.row} {shot.caption}".strip()
        inside = element("div", _picture(shot, shot.uri, words), class_="stack")
        panel = element("figure", inside, _caption(shot), class_="panel")
        rows.setdefault(shot.row, []).append(panel)
    most = max(map(len, rows.values()), default=0)
    grids = []
    for row, panels in rows.items():
        kind, columns = ("panels", None) if most > 1 else ("panels single", None)
        if len(rows) > 1 and 1 < most <= MOST_COLUMNS:
            kind, columns = "panels aligned", f"--columns:{most}"
        grids += [element("h4", row)] if row else []
        grids.append(element("div", *panels, class_=kind, style=columns))
    return element("div", element("h3", name), *legend_of(legend), *grids, class_="sheet")


def legend_of(legend: Legend) -> list[Html]:
    """What colours mean; nothing where nobody says it."""
    swatches = [
        element("li", element("i", style=f"background:rgb{color}"), name, class_="swatch")
        for name, color in legend
    ]
    return [element("ul", *swatches, class_="legend")] if swatches else []


def _compared(series: dict[int, tuple[Shot, ...]], legend: Legend) -> Html:
    """Panels of several steps one over the other, with a slider that moves a border between two of them."""
    steps = sorted(series)
    panels = _panels(series)
    return element("div", step_controls(steps), *legend_of(legend), *panels, class_="sheet compare")


def step_controls(steps: Sequence[int]) -> Html:
    """What chooses two steps and moves the border between them; the step where there is but one."""
    if len(steps) < 2:
        return element("p", f"step {steps[0]}", class_="quiet")
    left, right = (_choice(side, steps, chosen) for side, chosen in (("left", 0), ("right", -1)))
    slider = element(
        "input",
        type="range",
        min="0",
        max="100",
        value="50",
        class_="wipe",
        aria_label="border between them",
    )
    return element("div", left, slider, right, class_="controls")


def _choice(side: str, steps: Sequence[int], chosen: int) -> Html:
    """Which step is shown on one side of the border."""
    options = [
        element("option", f"step {step}", value=step, selected=step == steps[chosen]) for step in steps
    ]
    return element("label", element("span", side), element("select", *options, class_=side))


def by_panel(series: Mapping[int, Sequence[Shot]]) -> dict[str, dict[str, dict[int, Shot]]]:
    """The pictures of a series by row, caption and step, in the order of their first appearance."""
    rows: dict[str, dict[str, dict[int, Shot]]] = {}
    for step in sorted(series):
        for shot in series[step]:
            rows.setdefault(shot.row, {}).setdefault(shot.caption, {})[step] = shot
    return rows


def _panels(series: Mapping[int, Sequence[Shot]]) -> Iterator[Html]:
    """A row of panels for each row of the sheets; what never changes is there once."""
    for row, captions in by_panel(series).items():
        figures = [stack_of(row, shots) for shots in captions.values()]
        titled = [element("h3", row)] if row else []
        yield element(
            "div",
            *titled,
            element("div", *figures, class_="panels" if len(captions) > 1 else "panels single"),
        )


def stack_of(row: str, shots: Mapping[int, Shot], caption: object = None) -> Html:
    """One panel at all steps; below it its own caption, unless there is another one."""
    any_shot = next(iter(shots.values()))
    changes = len({shot.uri for shot in shots.values()}) > 1
    kept = shots if changes else {next(iter(shots)): any_shot}
    pictures = [
        _picture(shot, shot.uri, f"{row} {shot.caption}, step {step}".strip(), step if changes else None)
        for step, shot in kept.items()
    ]
    return element(
        "figure",
        element("div", *pictures, class_="stack changes" if changes else "stack"),
        _caption(any_shot) if caption is None else element("figcaption", caption),
        class_="panel",
    )


def _picture(shot: Shot, uri: str, words: str, step: int | None = None) -> Html:
    """A picture with words for who cannot see it."""
    width, height = shot.size
    return element("img", src=uri, alt=words, width=width, height=height, data_step=step)


def _caption(shot: Shot) -> Html:
    """What stands below a panel; nothing where there are no words."""
    return element("figcaption", shot.caption) if shot.caption else Html("")
