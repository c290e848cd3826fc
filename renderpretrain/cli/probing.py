"""Probing a run: from flags to scenes and a plan, from trials to a table, a file and a plot."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from renderpretrain.cli.probe_records import ONE_RUN, Opening, probe_key, read_records, save_record
from renderpretrain.cli.probe_report import DrawnGallery, Gallery, panel, print_classes, print_comparison
from renderpretrain.cli.probe_scenes import (
    SceneRequest,
    Split,
    chosen_on_scored,
    open_probe,
    unscored_classes,
)
from renderpretrain.data.words import data_words
from renderpretrain.probes import (
    Budget,
    Comparison,
    Example,
    Plan,
    ProbeScenes,
    Task,
    Trial,
    compare,
    run_probe,
)
from renderpretrain.probes.features import Levels
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.storage.files import check_target
from renderpretrain.training import choose_device
from renderpretrain.viz import save_label_curves

LINEAR = "linear"
"""What this probe is called."""

CLASS_TERMS = ("semantic", "alignment")
"""Of the losses: those that need class labels."""


@dataclass(frozen=True)
class ProbeRequest:
    """The user's flags.

    Attributes:
        task: Its name.
        fractions: Of the labels.
        seeds: How many repetitions.
        data: As for ``pretrain``, or the run's own.
        scenes: To probe on.
        test_scenes: To score.
        split: Which scenes are scored: those that settings are chosen on, or those of the end.
        levels: What is read of the encoders.
        steps: Iterations of a fit at most.
        device: Where to compute.
    """

    task: str
    fractions: tuple[float, ...]
    seeds: int
    data: str | None
    scenes: int | None
    test_scenes: int | None
    split: Split
    levels: Levels
    steps: int | None
    device: str


def probe_run(run: Path, request: ProbeRequest) -> None:
    """Probe the newest checkpoint of a run beside fresh weights, and leave ``probe.json`` and a plot."""
    read = read_run(run).checked()
    job = read.description
    check_target("run", run / "probe.json")
    read_records(run / "probe.json")  # what is damaged is found before anything is computed
    device = choose_device(request.device)
    data = job.as_seen(request.data or job.data)
    asked = SceneRequest(
        request.task, data, request.scenes, request.test_scenes, request.split, request.levels
    )
    task, scenes = open_probe(job, asked)
    synthetic = data_words(data)[0].is_synthetic
    plan = Plan(
        task,
        fractions=request.fractions,
        seeds=tuple(range(job.seed, job.seed + request.seeds)),
        labels="scenes" if synthetic or not task.by_place else "places",
        budget=Budget(steps=request.steps or Budget.steps),
    )
    about: dict[str, Any] = {"recipe": job.recipe, "preset": job.preset, "step": read.step, "data": data}
    key = probe_key(task.name, LINEAR, request.levels, request.split)
    opening = Opening(run / "probe.json", key, about) if request.split == "test" else None
    names = scenes.scored[0].class_names
    gallery = Gallery(names) if task.drawing is None else DrawnGallery(task.drawing)
    say = _report_trial(task, gallery, opening)
    trials = run_probe(
        plan, scenes.to(device), lambda seed: job.build(seed).to(device), read.weights, say, typer.echo
    )
    notes = [ONE_RUN, *chosen_on_scored(request.split), *unequal_starts(job), *task.notes]
    notes += unscored_classes(task.name, scenes)
    about |= {} if opening is None else {"opened": opening.times}
    record = {**about, "notes": notes, **_record(plan, scenes, request.levels, trials)}
    save_record(run / "probe.json", key, record)
    print_comparison(plan, _compared(task, trials))
    print_classes(trials)
    for note in notes:
        typer.echo(f"note: {note}")
    _draw(run, plan, f"{job.title}, {read.step} steps", trials, gallery)
    typer.echo(f"numbers    {run / 'probe.json'}")


def _draw(run: Path, plan: Plan, title: str, trials: list[Trial], gallery: Gallery | DrawnGallery) -> None:
    """The plot over the labels, and the answers where they can be drawn."""
    name = f"probe-{plan.task.name}-{LINEAR}"
    try:
        lines = panel(title, plan.task, _compared(plan.task, trials))
        plot = save_label_curves(run / f"{name}.png", [lines])
        typer.echo(f"plot       {plot}")
    except ValueError as error:
        typer.echo(f"no plot    {error}")
    sheet = gallery.save(run / f"{name}-answers.png", f"{title}: first scored scene from above")
    if sheet:
        typer.echo(f"picture    {sheet}")


def unequal_starts(job: RunDescription) -> list[str]:
    """What a run has had beside its own pre-training, and fresh weights have not: a line on each."""
    losses = getattr(job.config, "losses", None)
    terms = [f"losses.{name}" for name in CLASS_TERMS if getattr(losses, name, 0)]
    notes = []
    if job.init:
        notes.append(
            f"the arms are not alike: the run began with the encoders of {job.init} (--init), scratch did not"
        )
    if terms:
        notes.append(
            f"the arms are not alike: the run learned from class labels ({', '.join(terms)}), scratch sees "
            "those of the probe alone"
        )
    return notes


def _record(plan: Plan, scenes: ProbeScenes, levels: Levels, trials: list[Trial]) -> dict[str, Any]:
    """Everything that a table is made from."""
    return {
        "task": plan.task.name,
        "mode": LINEAR,
        "metric": plan.task.metric,
        "less_is_better": plan.task.less_is_better,
        "labels": plan.labels,
        "seeds": list(plan.seeds),
        "levels": levels,
        "budget": asdict(plan.budget),
        "scenes": [scene.name for scene in scenes.train],
        "split": "test" if scenes.test else "validation",
        "scored_scenes": [scene.name for scene in scenes.scored],
        "table": [asdict(line) for line in _compared(plan.task, trials)],
        "trials": [asdict(trial) for trial in trials],
    }


def _compared(task: Task, trials: list[Trial]) -> list[Comparison]:
    """The arms beside each other, by the task's metric."""
    return compare(trials, task.metric, task.less_is_better)


def _report_trial(
    task: Task, gallery: Gallery | DrawnGallery, opening: Opening | None
) -> Callable[[Trial, Example], None]:
    """A line per trial, the first of which opens test scenes; its example is kept to be drawn."""

    def say(trial: Trial, example: Example) -> None:
        if opening is not None:
            opening.note(typer.echo)
        gallery.add(trial, example)
        typer.echo(
            f"{trial.arm:<10} {100 * trial.fraction:g} % of the labels, seed {trial.seed}: "
            f"{task.metric} {trial.scores[task.metric]:.4f}"
        )

    return say
