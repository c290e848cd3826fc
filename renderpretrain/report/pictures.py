"""Pictures inside the page: sheets of several steps as panels to compare, small enough all together."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
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


def pictures_that_fit(paths: Sequence[Path], room: int = MOST_BYTES) -> tuple[Html, tuple[str, ...]]:
    """All pictures of a run as elements, and a sentence for each that cannot be shown.

    Args:
        paths: PNG files.
        room: Characters that they may take.
    """
    paths = _chosen([path for path in paths if path.name not in NOT_SHOWN])
    for level in range(len(LEVELS)):
        shown, problems = _pictures(paths, level)
        if len(shown) <= room:
            return shown, problems
    return Html(""), (f"{len(paths)} pictures are too large to be shown",)


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


def _pictures(paths: Sequence[Path], level: int) -> tuple[Html, tuple[str, ...]]:
    """The pictures at a level: first those of steps, then the others."""
    series: dict[str, dict[int, tuple[Shot, ...]]] = {}
    legends: dict[str, Legend] = {}
    others: list[Html] = []
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
            others.append(_alone(path.name, shots))
    compared = [_compared(shots, legends[name]) for name, shots in sorted(series.items())]
    return joined([*compared, *others]), tuple(problems)


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


def _alone(name: str, shots: Sequence[Shot]) -> Html:
    """A sheet that is not drawn again: its pictures side by side."""
    inside = [_picture(shot, shot.uri, f"{name}: {shot.row} {shot.caption}".strip()) for shot in shots]
    panels = [
        element("figure", element("div", each, class_="stack"), _caption(shot), class_="panel")
        for each, shot in zip(inside, shots, strict=True)
    ]
    grid = element("div", *panels, class_="panels" if len(panels) > 1 else "panels single")
    return element("div", element("h3", name), grid, class_="sheet")


def _compared(series: dict[int, tuple[Shot, ...]], legend: Legend) -> Html:
    """Panels of several steps one over the other, with a slider that moves a border between two of them."""
    steps = sorted(series)
    panels = list(_panels(series, steps))
    controls = []
    if len(steps) > 1:
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
        controls = [element("div", left, slider, right, class_="controls")]
    else:
        controls = [element("p", f"step {steps[0]}", class_="quiet")]
    swatches = [
        element("li", element("i", style=f"background:rgb{color}"), name, class_="swatch")
        for name, color in legend
    ]
    told = [element("ul", *swatches, class_="legend")] if swatches else []
    return element("div", *controls, *told, *panels, class_="sheet compare")


def _choice(side: str, steps: Sequence[int], chosen: int) -> Html:
    """Which step is shown on one side of the border."""
    options = [
        element("option", f"step {step}", value=step, selected=step == steps[chosen]) for step in steps
    ]
    return element("label", element("span", side), element("select", *options, class_=side))


def _panels(series: dict[int, tuple[Shot, ...]], steps: Sequence[int]) -> Iterator[Html]:
    """A row of panels for each row of the sheets; what never changes is there once."""
    rows: dict[str, dict[str, dict[int, Shot]]] = {}
    for step in steps:
        for shot in series[step]:
            rows.setdefault(shot.row, {}).setdefault(shot.caption, {})[step] = shot
    for row, captions in rows.items():
        figures = [_stack(row, shots) for shots in captions.values()]
        titled = [element("h3", row)] if row else []
        yield element(
            "div",
            *titled,
            element("div", *figures, class_="panels" if len(captions) > 1 else "panels single"),
        )


def _stack(row: str, shots: dict[int, Shot]) -> Html:
    """One panel at all steps."""
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
        _caption(any_shot),
        class_="panel",
    )


def _picture(shot: Shot, uri: str, words: str, step: int | None = None) -> Html:
    """A picture with words for who cannot see it."""
    width, height = shot.size
    return element("img", src=uri, alt=words, width=width, height=height, data_step=step)


def _caption(shot: Shot) -> Html:
    """What stands below a panel; nothing where there are no words."""
    return element("figcaption", shot.caption) if shot.caption else Html("")
