"""What was run, on what, in which state: the top of a report, and its end."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from renderpretrain.report.curves import NamedRun
from renderpretrain.report.markup import Html, element, joined, number, table
from renderpretrain.runs.folder import launched_by
from renderpretrain.runs.record import RunRecord
from renderpretrain.runs.settings import dotted

FITS = {
    "pad": "scaled until all of it fits, black around",
    "crop": "scaled until it covers all, the rest cut off",
    "stretch": "squeezed",
}
"""How pictures of a recording come to their size, by the option ``fit`` that a run adds to its data."""


def plain(value: Any) -> str:
    """A setting as a person types it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def state_words(record: RunRecord) -> str:
    """How far a run has come."""
    of = "" if record.steps is None else f" of {record.steps:,}"
    where = "after" if record.state == "finished" else "at"
    return f"{record.state} {where} step {record.step:,}{of}"


def badge(record: RunRecord) -> Html:
    """The state of a run as a mark with words."""
    return element("span", state_words(record), class_=f"state {record.state}")


def about(runs: Sequence[NamedRun]) -> Html:
    """What was run, a column for each run."""
    told = [dict(_about(run.record)) for run in runs]
    if len(runs) > 1:
        told = [{"state": badge(run.record), **each} for run, each in zip(runs, told, strict=True)]
    names = list(dict.fromkeys(name for each in told for name in each))
    rows = [[name, *(each.get(name, "-") for each in told)] for name in names]
    return _columns(runs, rows)


def _about(record: RunRecord) -> Iterator[tuple[str, object]]:
    """Names and values of what a run was."""
    tree, environment = record.tree, record.environment
    optimization = tree.get("config", {}).get("optimization", {})
    yield "recipe", " ".join(plain(tree[name]) for name in ("recipe", "preset") if tree.get(name))
    scenes = tree.get("scenes")
    counts = [f"{scenes} scenes to train on"] if scenes else []
    counts.append(f"{tree.get('holdout', 0)} held out")
    yield "data", f"{tree.get('data', '-')} ({', '.join(counts)})"
    fits = {fit: words for fit, words in FITS.items() if f"fit={fit}" in str(tree.get("data"))}
    if fits:
        size = " x ".join(map(str, tree.get("config", {}).get("image_size") or ()))
        told = [f"{words} (fit={fit})" for fit, words in fits.items()]
        yield "pictures", f"to {size or 'one size'}: {'; '.join(told)}"
    if tree.get("encoder"):
        yield "encoder", "; ".join(f"{role}: {_called(each)}" for role, each in tree["encoder"].items())
    for name in ("init", "skipped"):
        if tree.get(name):
            yield name, plain(tree[name])
    processes = environment.get("processes", 1)
    parts = [optimization.get("batch_size", 1), optimization.get("accumulate", 1), processes]
    size = parts[0] * parts[1] * parts[2]
    yield "samples a step", f"{size} (batch {parts[0]} x accumulate {parts[1]} x {processes} processes)"
    rate = optimization.get("lr")
    yield "optimiser", f"{optimization.get('optimizer')}, lr {number(rate)}, {optimization.get('schedule')}"
    yield "precision", plain(optimization.get("precision", "-"))
    yield "seed", plain(tree.get("seed", "-"))
    yield "folder", element("code", record.folder.path)


def _called(encoder: Mapping[str, Any]) -> str:
    """An encoder of one's own as it is made: its factory, called with its settings."""
    arguments = encoder.get("args")
    if arguments is None:
        return f"{encoder.get('factory')}, handed in as a module"
    return f"{encoder.get('factory')}({', '.join(f'{k}={plain(v)}' for k, v in arguments.items())})"


def commands(runs: Sequence[NamedRun]) -> Html:
    """The command line of each run, and the one that repeats it from its settings; folded away of several."""
    if len(runs) == 1:
        return element("div", *_commands(runs[0].record), class_="commands")
    told = [element("div", element("h3", run_mark(run)), *_commands(run.record)) for run in runs]
    return element("details", element("summary", "command lines"), *told, class_="commands")


def _commands(record: RunRecord) -> Iterator[Html]:
    """What was typed, where that is known, and what repeats it."""
    typed, where = typed_command(record.environment), _on_nodes(record.environment)
    if typed:
        yield element("p", f"as it was typed{where}")
        yield element("pre", typed, tabindex="0")
    yield element("p", f"to repeat it from its saved settings{where}")
    yield element("pre", repeating_command(record), tabindex="0")


def _on_nodes(environment: Mapping[str, Any]) -> str:
    """What else has to be said where one machine was not enough; empty where it was."""
    if "--nnodes" not in launched_by(environment):
        return ""
    return ", on each node, with the --rdzv-endpoint where they meet"


def typed_command(environment: Mapping[str, Any]) -> str:
    """What started a run; empty where that is not known."""
    command = environment.get("command")
    if not isinstance(command, list) or not command:
        return ""
    first, rest = Path(str(command[0])), [str(each) for each in command[1:]]
    ours = first.name == "renderpretrain" or first.parts[-2:] == ("renderpretrain", "__main__.py")
    launched = launched_by(environment)
    if launched:
        started = [*launched, *(["-m", "renderpretrain"] if ours else [str(first)])]
    else:
        started = ["renderpretrain"] if ours else ["python", str(first)]
    return shlex.join([*started, *rest])


def repeating_command(record: RunRecord) -> str:
    """The command line that runs the same again, with the settings of ``config.yaml``."""
    tree = record.tree
    handed = _handed_in(tree)
    if handed:
        return f"from Python alone: {handed}"
    launched = launched_by(record.environment)
    words = [*launched, "-m", "renderpretrain"] if launched else ["renderpretrain"]
    words += ["pretrain", str(tree.get("recipe"))]
    for name in ("preset", "data", "scenes", "holdout", "seed", "init"):
        if tree.get(name) is not None:
            words += [f"--{name}", str(tree[name])]
    for role, encoder in (tree.get("encoder") or {}).items():
        words += ["--encoder", f"{role}={encoder.get('factory')}"]
    words += ["--skip-bad"] if tree.get("skipped") else []
    words += ["--config", str(record.folder.config), "--out", f"{record.folder.path}-again"]
    return shlex.join(words)


def _handed_in(tree: Mapping[str, Any]) -> str:
    """What of a run no command line can name; empty where it can name all."""
    if str(tree.get("data", "")).startswith("object:"):
        return "its scenes were handed in as objects"
    if not _can_be_imported(str(tree.get("recipe"))):
        return f"its recipe, {tree.get('recipe')}, is a class of a script or a notebook"
    for role, encoder in (tree.get("encoder") or {}).items():
        if encoder.get("args") is None:
            return f"its {role} encoder was handed in as a module"
        if not _can_be_imported(str(encoder.get("factory"))):
            return f"its {role} encoder, {encoder.get('factory')}, is made by a script or a notebook"
    return ""


def _can_be_imported(name: str) -> bool:
    """Whether another program finds ``module:name``; our own recipes have no module."""
    return not name.startswith("__main__:") and "<locals>" not in name


def differing(runs: Sequence[NamedRun]) -> Html:
    """The settings that not all runs have alike."""
    rows = [row for row in _settings(runs) if len(set(row[1:])) > 1]
    if not rows:
        return element("p", "All settings are the same.", class_="quiet")
    return _columns(runs, rows)


def all_settings(runs: Sequence[NamedRun]) -> Html:
    """Every saved setting, folded away."""
    rows = list(_settings(runs))
    told = element("summary", f"all {len(rows)} settings")
    return element("details", told, _columns(runs, rows))


def _settings(runs: Sequence[NamedRun]) -> Iterator[list[str]]:
    """Name and values of every setting, those of the recipe without their section."""
    trees = []
    for run in runs:
        config = run.record.tree.get("config", {})
        beside = {name: value for name, value in run.record.tree.items() if name != "config"}
        trees.append(dict(dotted(beside)) | dict(dotted(config)))
    for name in dict.fromkeys(name for tree in trees for name in tree):
        yield [name, *(plain(tree[name]) if name in tree else "-" for tree in trees)]


def environments(runs: Sequence[NamedRun]) -> Html:
    """The machine and the software of each run."""
    told = []
    for run in runs:
        found = {name: value for name, value in run.record.environment.items() if name != "command"}
        native = found.pop("native", {})
        if isinstance(native, dict):
            found |= {f"operators, {name}": each.get("why") for name, each in native.items()}
        told.append({name: plain(value) for name, value in found.items() if value not in (None, [])})
    names = list(dict.fromkeys(name for each in told for name in each))
    return _columns(runs, [[name, *(each.get(name, "-") for each in told)] for name in names])


def timing(runs: Sequence[NamedRun]) -> Html:
    """How long steps took, and what was left on the disk."""
    told = [dict(_timing(run.record)) for run in runs]
    names = list(dict.fromkeys(name for each in told for name in each))
    return _columns(runs, [[name, *(each.get(name, "-") for each in told)] for name in names])


def _timing(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Names and values of what a run took."""
    rates = [row["samples_per_second"] for row in record.trained_only]
    optimization = record.tree.get("config", {}).get("optimization", {})
    samples = optimization.get("batch_size", 1) * optimization.get("accumulate", 1)
    samples *= record.environment.get("processes", 1)
    if rates:
        low, high = (
            (quantiles(rates, n=10, method="inclusive")[k] for k in (0, -1))
            if len(rates) > 1
            else (rates[0], rates[0])
        )
        yield "samples a second", f"{median(rates):.3g} (most steps {low:.3g} to {high:.3g})"
        yield "seconds a step", f"{samples / median(rates):.3g}"
        every = [row["samples_per_second"] for row in record.rows if row.get("samples_per_second", 0) > 0]
        yield "time in steps", duration(sum(samples / rate for rate in every))
    memory = [row["peak_memory_gib"] for row in record.rows if "peak_memory_gib" in row]
    yield "peak memory of the GPU", f"{max(memory):.2f} GiB" if memory else "no GPU was used"
    final = record.folder.checkpoints / "final.pt"
    if final.is_file():
        yield "final.pt", f"{final.stat().st_size / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """So many hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def warnings(runs: Sequence[NamedRun]) -> list[Html]:
    """Files of the runs that cannot be read."""
    found = []
    for run in runs:
        who = f"{run.name}: " if len(runs) > 1 else ""
        found += [element("li", f"{who}{damage}; the rest is shown") for damage in run.record.damages]
    return [element("ul", *found, class_="warnings")] if found else []


def _columns(runs: Sequence[NamedRun], rows: Sequence[Sequence[object]]) -> Html:
    """Names and values, with a column for each run; of several runs each has a heading."""
    if len(runs) > 1:
        return table(["", *(run_mark(run) for run in runs)], rows)
    pairs = [joined([element("dt", row[0]), element("dd", row[1])]) for row in rows]
    return element("dl", *pairs)


def run_mark(run: NamedRun) -> Html:
    """The name of a run with its colour."""
    return element("span", element("i", class_=f"dot c{run.color % 8}"), run.name, class_="run")
