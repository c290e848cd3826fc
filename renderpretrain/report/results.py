"""What a report says of results: in sentences, and in tables of scores, probes and exports."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from renderpretrain.report.curves import NamedRun
from renderpretrain.report.markup import Html, element, joined, number, table, text
from renderpretrain.report.overview import run_mark
from renderpretrain.runs.metrics import ABOUT_DEPTH, PREDICTORS, Change, changes, direction_of, unit_of
from renderpretrain.runs.verdict import GAINS, TRY, gain_of, verdict

PARTS = ("matched", "reshaped", "added", "missing", "unexpected", "unused")
"""What can become of the tensors of a part that is exported."""


MARKS = {"better": "good", "worse": "bad", "open": "open", "warning": "bad"}
"""How the page marks what is good and what is not."""


def learned(runs: Sequence[NamedRun]) -> list[Html]:
    """What each run has learned, in sentences."""
    told = []
    for run in runs:
        titled = [element("h3", run_mark(run))] if len(runs) > 1 else []
        found = [
            element("li", *_with_code(each.words), class_=MARKS[each.tone]) for each in verdict(run.record)
        ]
        told += [*titled, element("ul", *found, class_="findings")]
    return told


def _with_code(words: str) -> list[Html]:
    """A sentence in which commands stand between backticks."""
    parts = words.split("`")
    return [element("code", part) if k % 2 else text(part) for k, part in enumerate(parts)]


def scores(runs: Sequence[NamedRun]) -> list[Html]:
    """Held-out scores before and after, and those that ``renderpretrain eval`` found."""
    found = [changes(run.record.measured) for run in runs]
    told = []
    if any(found):
        told.append(_changes_of_one(found[0]) if len(runs) == 1 else _changes_of_all(runs, found))
    if any(change.metric.startswith("depth_") for each in found for change in each):
        told.append(element("p", ". ".join(ABOUT_DEPTH) + ".", class_="quiet"))
    for run in runs:
        if run.record.scores.get("scores"):
            told.append(_scored_again(run, len(runs) > 1))
    return told


def named(score: str) -> Html:
    """A score with its unit and which way it is better."""
    arrow = {-1: " (less is better)", 1: " (more is better)", 0: ""}[direction_of(score)]
    unit = unit_of(score)
    return joined([score, f" [{unit}]" if unit else "", element("small", arrow)])


def _changes_of_one(found: Sequence[Change]) -> Html:
    """Before, after, and beside predictors that learn no geometry."""
    asked = [name for name in PREDICTORS if any(name in change.beside for change in found)]
    header = ["held-out scenes", "before", "after", *(PREDICTORS[name] for name in asked)]
    rows = [
        [
            named(change.metric),
            *_best_in_bold(
                change.metric, [change.before, change.after, *(change.beside.get(name) for name in asked)]
            ),
        ]
        for change in found
    ]
    return table(header, rows)


def _best_in_bold(metric: str, values: Sequence[float | None]) -> list[Html]:
    """A row's cells; none is best where all are alike, or where nobody knows which way is better."""
    there = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    sign, best = direction_of(metric), None
    if sign and len(set(there)) > 1:
        best = max(there, key=lambda value: sign * value)
    cells = [(value, text(number(value))) for value in values]
    return [element("b", cell) if value is not None and value == best else cell for value, cell in cells]


def _changes_of_all(runs: Sequence[NamedRun], found: Sequence[Sequence[Change]]) -> Html:
    """The last score of every run, the best of a line in bold."""
    by_metric = [{change.metric: change for change in each} for each in found]
    rows = []
    for metric in dict.fromkeys(name for each in by_metric for name in each):
        after = [each[metric].after if metric in each else None for each in by_metric]
        beside = by_metric[0][metric].beside if metric in by_metric[0] else {}
        near = beside.get("nearest_point", beside.get("baseline"))
        rows.append([named(metric), *_best_in_bold(metric, [*after, near])])
    beside_them = f"nearest point or row means, of {runs[0].name}"
    header = ["held-out scenes, last evaluation", *(run_mark(run) for run in runs), beside_them]
    return table(header, rows)


def _scored_again(run: NamedRun, several: bool) -> Html:
    """What ``eval.json`` says."""
    record = run.record.scores
    beside = record.get("predictors", {})
    asked = [name for name in PREDICTORS if name in beside]
    who = f"{run.name}, " if several else ""
    title = f"{who}renderpretrain eval, step {record.get('step')}, {len(record.get('scenes', []))} scenes"
    title += f" of {record.get('data')}"
    rows = [
        [named(name), *_best_in_bold(name, [value, *(beside[each].get(name) for each in asked)])]
        for name, value in record["scores"].items()
    ]
    return table([title, "score", *(PREDICTORS[name] for name in asked)], rows)


def probes(runs: Sequence[NamedRun]) -> list[Html]:
    """What the encoders are worth to a task: a table for each probe of each run."""
    told = []
    for run in runs:
        for key, record in run.record.probes.items():
            if isinstance(record, dict) and record.get("table"):
                told.append(_probe(run, key, record, len(runs) > 1))
    return told


def _probe(run: NamedRun, key: str, record: Mapping[str, Any], several: bool) -> Html:
    """One probe: arms beside each other at every number of labels."""
    lines, seeds = record["table"], len(record.get("seeds", []))
    arms = {"handmade": "hand-made", "scratch": "scratch", "pretrained": "pre-trained"}
    arms |= {"scratch_handmade": "scratch + hand-made", "pretrained_handmade": "pre-trained + hand-made"}
    asked = [name for name in arms if any(line.get(name) for line in lines)]
    better = "less" if record.get("less_is_better") else "more"
    header = [f"{record.get('metric')} ({better} is better), labels", *(arms[name] for name in asked)]
    header += ["difference", "relative", "pre-trained is"]
    rows = []
    for line in lines:
        relative, gain = line.get("relative"), gain_of(line, seeds)
        mark = MARKS[gain] if gain != "open" else None
        rows.append(
            [
                f"{100 * line['fraction']:g} % ({line.get('labelled')})",
                *(_spread(line.get(name)) for name in asked),
                element("span", _spread(line.get("difference"), "+"), class_=mark),
                element("span", "-" if relative is None else f"{100 * relative:+.1f} %", class_=mark),
                GAINS[gain],
            ]
        )
    who = [run_mark(run), " "] if several else []
    about = f"after {record.get('step')} steps, {record.get('data')}, {record.get('split')} scenes, "
    about += f"{seeds} seed{'s' * (seeds != 1)}"
    notes = [element("li", note) for note in record.get("notes", [])]
    if any(gain_of(line, seeds) == "worse" for line in lines):
        notes.insert(0, element("li", TRY, class_="bad"))
    title = element("h3", *who, key, " ", element("small", about))
    return element("div", title, table(header, rows), element("ul", *notes, class_="quiet"))


def _spread(spread: Mapping[str, float] | None, sign: str = "") -> str:
    """A mean over seeds and its deviation."""
    if not spread:
        return "-"
    deviation = spread.get("deviation")
    return f"{spread['mean']:{sign}.4f}" + (f" ± {deviation:.4f}" if deviation else "")


def exports(runs: Sequence[NamedRun]) -> list[Html]:
    """What of the encoders arrived where they were exported to."""
    told = []
    for run in runs:
        for record in run.record.exports:
            told.append(_export(run, record, len(runs) > 1))
    return told


def _export(run: NamedRun, record: Mapping[str, Any], several: bool) -> Html:
    """One export: its parts, what is missing, and how it is read there."""
    report = record["report"]
    who = [run_mark(run), " "] if several else []
    about = (
        f"{100 * report['share']:.1f} % of the parameters, step {record.get('step')}, {record.get('written')}"
    )
    title = element("h3", *who, report["direction"], " ", element("small", about))
    rows = [
        [
            f"{part['name']} to {part['module']}",
            *(len(part.get(name, ())) for name in PARTS),
            "-" if part.get("verified") is None else f"{part['verified']:.0e}",
        ]
        for part in report["parts"]
    ]
    notes = [element("li", f"no place for {name} ({kind})") for name, kind in report["homeless"].items()]
    notes += [element("li", note) for part in report["parts"] for note in part.get("notes", ())]
    notes += [element("li", note) for note in report.get("notes", ())]
    told = [
        title,
        element("p", element("code", record.get("file"))),
        table(["part", *PARTS, "verified"], rows),
    ]
    told += [element("ul", *notes, class_="quiet")] if notes else []
    if record.get("snippet"):
        told.append(element("pre", record["snippet"], tabindex="0"))
    return element("div", *told)
