"""The same picture of several runs side by side, with one border for all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from renderpretrain.report.curves import NamedRun
from renderpretrain.report.markup import Html, element, joined
from renderpretrain.report.overview import run_mark
from renderpretrain.report.pictures import Drawn, Shot, by_panel, fitting, legend_of, stack_of, step_controls

Series = Mapping[int, Sequence[Shot]]


def pictures_side_by_side(
    runs: Sequence[tuple[NamedRun, Sequence[Path]]], room: int
) -> tuple[Html, tuple[str, ...]]:
    """Pictures of several runs as elements, and a sentence for each that cannot be shown.

    Args:
        runs: Each with its PNG files.
        room: Characters that all of them may take.
    """
    names = [run for run, _ in runs]
    return fitting([paths for _, paths in runs], lambda drawn: _of_several(names, drawn), room)


def _of_several(runs: Sequence[NamedRun], drawn: Sequence[Drawn]) -> Html:
    """First the pictures of steps, then the others."""
    shown = []
    for name in sorted({name for each in drawn for name in each.series}):
        found = [
            (run, each.series[name]) for run, each in zip(runs, drawn, strict=True) if name in each.series
        ]
        legend = dict(item for each in drawn for item in each.legends.get(name, ()))
        steps = sorted({step for _, series in found for step in series})
        apart = [] if all(len(series) == len(steps) for _, series in found) else [_apart()]
        inside = [step_controls(steps), *apart, *legend_of(tuple(legend.items())), *_rows(found)]
        shown.append(element("div", *inside, class_="sheet compare"))
    for name in dict.fromkeys(name for each in drawn for name in each.others):
        sheets = [
            (run, each.others[name]) for run, each in zip(runs, drawn, strict=True) if name in each.others
        ]
        legend = dict(item for _, (_, legend) in sheets for item in legend)
        rows = _rows([(run, {0: shots}) for run, (shots, _) in sheets])
        title = element("h3", name)
        shown.append(element("div", title, *legend_of(tuple(legend.items())), *rows, class_="sheet"))
    return joined(shown)


def _apart() -> Html:
    """What is seen of a run at a step that it has no pictures of."""
    return element("p", "A run without pictures of a step is shown at the one before.", class_="quiet")


def _rows(found: Sequence[tuple[NamedRun, Series]]) -> list[Html]:
    """For each row of the sheets, such as a camera, what its pictures show, beside other runs."""
    panels = [(run, by_panel(series)) for run, series in found]
    told = []
    for row in dict.fromkeys(row for _, rows in panels for row in rows):
        captions = dict.fromkeys(caption for _, rows in panels for caption in rows.get(row, {}))
        groups = [_group(row, caption, panels) for caption in captions]
        told += [element("h3", row)] if row else []
        told.append(element("div", *groups, class_="groups", style=f"--runs:{len(found)}"))
    return told


def _group(
    row: str, caption: str, panels: Sequence[tuple[NamedRun, Mapping[str, Mapping[str, Mapping[int, Shot]]]]]
) -> Html:
    """One picture of all runs that have it; once where it is the same of all, as the input is."""
    found = [(run, rows[row][caption]) for run, rows in panels if caption in rows.get(row, {})]
    alike = len({shot.uri for _, shots in found for shot in shots.values()}) == 1
    if alike and len(found) > 1:
        whose = "all runs" if len(found) == len(panels) else joined(run_mark(run) for run, _ in found)
        figures = [stack_of(row, found[0][1], whose)]
    else:
        figures = [stack_of(row, shots, run_mark(run)) for run, shots in found]
    titled = [element("h4", caption)] if caption else []
    return element("div", *titled, element("div", *figures, class_="panels beside"), class_="group")
