"""What a probe leaves to look at: tables, a plot over the labels, and its answers drawn from above."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.cli.printed import print_table
from renderpretrain.probes import Comparison, Drawing, Example, Plan, Spread, Task, Trial
from renderpretrain.viz import Curve, Panel, class_colors, labels_from_above, save_sheet

CLASS_TABLES = {
    "IoU": ("iou/",),
    "AP": ("ap@", "ap/"),
    "error of hits (less is better)": ("ate", "ase", "aoe"),
}
"""Tables of classes: what they show, and how the names of their scores begin."""

UNITS = {"ate": "ate (m)", "ase": "ase (1 - IoU)", "aoe": "aoe (rad)"}
"""Errors of all classes together, with what they are counted in."""


def score_title(task: Task, what: str) -> str:
    """What a table's numbers are: the metric, which way it is better, and what was put on the encoders."""
    better = " (less is better)" if task.less_is_better else ""
    return f"{task.metric}{better}, {what}"


def head_name(task: Task) -> str:
    """What a probe puts on encoders that stay as they are."""
    return "linear" if task.by_place else "small head on frozen encoders"


def print_comparison(plan: Plan, lines: list[Comparison]) -> None:
    """One line per fraction, and where there are hand-made numbers another; one seed has no deviation."""
    title = score_title(plan.task, head_name(plan.task))
    rows = [
        [
            f"{100 * line.fraction:g} %",
            str(line.labelled),
            _told(plan, line.scratch),
            _told(plan, line.pretrained),
            f"{_told(plan, line.difference, '+')} ({100 * line.relative:+.1f} %)",
        ]
        for line in lines
    ]
    print_table([title, plan.labels, "scratch", "pre-trained", "difference"], rows)
    if any(line.handmade for line in lines):
        _print_handmade(plan, lines)


def _print_handmade(plan: Plan, lines: list[Comparison]) -> None:
    """One line per fraction: hand-made numbers alone, and what features add to them."""
    header = [
        "beside hand-made",
        "hand-made alone",
        "scratch + them",
        "pre-trained + them",
        "over them alone",
    ]
    rows = [
        [
            f"{100 * line.fraction:g} %",
            *(_told(plan, s) for s in (line.handmade, line.scratch_handmade, line.pretrained_handmade)),
            f"{_percent(line.relative_to_handmade)} alone, {_percent(line.added_to_handmade)} added",
        ]
        for line in lines
    ]
    print_table(header, rows)


def _told(plan: Plan, spread: Spread | None, sign: str = "") -> str:
    """A mean over seeds, and its deviation where there are several."""
    if spread is None:
        return "-"
    deviation = f" ± {spread.deviation:.4f}" if len(plan.seeds) > 1 else ""
    return f"{spread.mean:{sign}.4f}{deviation}"


def _percent(share: float | None) -> str:
    """A gain, with its sign."""
    return "-" if share is None else f"{100 * share:+.1f} %"


def print_classes(trials: list[Trial]) -> None:
    """Per-class scores where there are some: scratch, then pre-trained, at every fraction."""
    fractions = list(dict.fromkeys(trial.fraction for trial in trials))

    def cell(name: str, fraction: float) -> str:
        means = [
            fmean(t.scores.get(name, 0.0) for t in trials if t.arm == arm and t.fraction == fraction)
            for arm in ("scratch", "pretrained")
        ]
        return " -> ".join(f"{mean:.3f}" for mean in means)

    for score, beginnings in CLASS_TABLES.items():
        names = [key for key in trials[0].scores if key.startswith(beginnings)]
        rows = [[_of_class(name), *(cell(name, f) for f in fractions)] for name in names]
        if rows:
            print_table([f"{score}, scratch -> pre-trained", *(f"{100 * f:g} %" for f in fractions)], rows)


def _of_class(score: str) -> str:
    """A score's name in a table whose heading says the rest."""
    name, of_class, kind = score.partition("/")
    if not of_class:
        return UNITS.get(name, name)
    return f"{name} {kind}" if name in UNITS else kind


def panel(title: str, task: Task, lines: list[Comparison]) -> Panel:
    """The lines as a plot."""
    arms: dict[str, list[Spread | None]] = {
        "scratch": [line.scratch for line in lines],
        "pre-trained": [line.pretrained for line in lines],
        "hand-made": [line.handmade for line in lines],
        "pre-trained + hand-made": [line.pretrained_handmade for line in lines],
    }
    curves = []
    for name, spreads in arms.items():
        known = [spread for spread in spreads if spread is not None]
        if len(known) == len(lines):
            curves.append(Curve(name, [s.mean for s in known], [s.deviation for s in known]))
    return Panel(title, score_title(task, head_name(task)), [line.fraction for line in lines], curves)


ARMS = {
    "truth": "truth",
    "scratch": "scratch",
    "handmade": "hand-made",
    "pretrained": "pre-trained",
    "pretrained+handmade": "both",
}
"""Columns of the sheet: whose classes, and what a reader calls them."""


@dataclass(frozen=True)
class Gallery:
    """The first scored scene's points in their classes, and in those that the first seed's heads give them.

    Attributes:
        class_names: By class index.
        views: Labels from above, of every arm at every fraction, and under ``truth`` at each the true ones.
    """

    class_names: Sequence[str]
    views: dict[float, dict[str, Int[Tensor, "h w"]]] = field(default_factory=dict)

    def add(self, trial: Trial, example: Example) -> None:
        """Keep what a trial says, if it is the first of its kind and says classes of points."""
        points, row = example.places.positions, self.views.setdefault(trial.fraction, {})
        if points is None or not len(points) or trial.arm in row or trial.arm not in ARMS:
            return
        for name, labels in (("truth", example.places.answers), (trial.arm, example.outputs.argmax(1))):
            row[name] = labels_from_above(points, labels).cpu()

    def save(self, path: Path, title: str) -> Path | None:
        """Write the sheet: a row a fraction. Nothing where no trial had points."""
        views = {fraction: row for fraction, row in self.views.items() if row}
        if not views:
            return None
        place = self._places([labels for row in views.values() for labels in row.values()])
        rows = [
            (
                f"{100 * fraction:g} % of the labels",
                [(name, class_colors(place[row[arm]])) for arm, name in ARMS.items() if arm in row],
            )
            for fraction, row in views.items()
        ]
        legend = {
            self.class_names[k]: class_colors(place[k].view(1, 1))[:, 0, 0]
            for k in place.argsort().tolist()
            if place[k] > 0
        }
        return save_sheet(path, title, rows, height=300, legend=legend)

    def _places(self, seen: list[Int[Tensor, "h w"]]) -> Int[Tensor, " K"]:
        """The frequent classes first, whose colours are furthest apart; 0 for those that are nowhere."""
        counts = torch.bincount(torch.cat([s.flatten() for s in seen]), minlength=len(self.class_names))
        counts[0] = 0
        order = counts.argsort(descending=True, stable=True)
        place = torch.zeros_like(counts)
        place[order] = torch.arange(1, len(order) + 1)
        return place * (counts > 0)


@dataclass(frozen=True)
class DrawnGallery:
    """The first scored scene's answers as the task draws them, and those that the first seed's heads give.

    Attributes:
        drawing: Of the task.
        views: Pictures of every arm at every fraction, and under ``truth`` at each of the true answers.
    """

    drawing: Drawing
    views: dict[float, dict[str, Float[Tensor, "3 _ _"]]] = field(default_factory=dict)

    def add(self, trial: Trial, example: Example) -> None:
        """Keep what a trial says, if it is the first of its kind."""
        row = self.views.setdefault(trial.fraction, {})
        if trial.arm not in row:
            row["truth"] = self.drawing.picture(example.places, None)
            row[trial.arm] = self.drawing.picture(example.places, example.outputs)

    def save(self, path: Path, title: str) -> Path | None:
        """Write the sheet: a row a fraction. Nothing where there was no trial."""
        rows = [
            (
                f"{100 * fraction:g} % of the labels",
                [(name, row[arm]) for arm, name in ARMS.items() if arm in row],
            )
            for fraction, row in self.views.items()
        ]
        return save_sheet(path, title, rows, height=600, legend=self.drawing.legend) if rows else None
