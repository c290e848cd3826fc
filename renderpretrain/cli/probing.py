"""Probing a run: from flags to scenes and a plan, from trials to a table, a file and a plot."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from renderpretrain.cli.probe_report import Gallery, panel, print_classes, print_comparison
from renderpretrain.data import Recording
from renderpretrain.data.words import data_words
from renderpretrain.probes import (
    Budget,
    Example,
    Plan,
    ProbeScenes,
    Task,
    Trial,
    compare,
    depth,
    occupancy,
    run_probe,
    semseg,
)
from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.runs.settings import choose
from renderpretrain.storage.files import check_target, write_text
from renderpretrain.training import choose_device
from renderpretrain.viz import save_label_curves

PROBE_SEED = 1
"""Of the synthetic scenes a probe sees; runs see those of seed 0."""

SCENES, TEST_SCENES = 100, 24
"""Synthetic scenes unless told otherwise: one percent of the labels is one scene."""

FINE_TUNING_STEPS = 60
"""Unless told otherwise."""


CLASS_TERMS = ("semantic", "alignment")
"""Of the losses: those that need class labels."""

Mode = Literal["linear", "finetune"]
MODES: dict[str, Mode] = {"linear": "linear", "finetune": "finetune"}
"""What the user types, and what it means."""


@dataclass(frozen=True)
class ProbeRequest:
    """The user's flags.

    Attributes:
        mode: Whether the encoders stay as they are or are trained.
        task: Its name.
        fractions: Of the labels.
        seeds: How many repetitions.
        data: As for ``pretrain``, or the run's own.
        scenes: To probe on.
        test_scenes: To score.
        steps: Of every probe.
        device: Where to compute.
    """

    mode: Mode
    task: str
    fractions: tuple[float, ...]
    seeds: int
    data: str | None
    scenes: int | None
    test_scenes: int | None
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
    task, scenes = _task_and_scenes(job, data, request)
    synthetic = data_words(data)[0].is_synthetic
    plan = Plan(
        task,
        request.mode,
        fractions=request.fractions,
        seeds=tuple(range(job.seed, job.seed + request.seeds)),
        labels="scenes" if synthetic else "places",
        budget=_budget(request),
    )
    on_device = ProbeScenes(*([s.to(device) for s in part] for part in (scenes.train, scenes.test)))
    gallery = Gallery(scenes.test[0].class_names)
    trials = run_probe(
        plan, on_device, lambda seed: job.build(seed).to(device), read.weights, _report_trial(task, gallery)
    )
    notes = unequal_starts(job)
    about = {"recipe": job.recipe, "preset": job.preset, "step": read.step, "data": data, "notes": notes}
    _save_record(run / "probe.json", f"{task.name}/{plan.mode}", {**about, **_record(plan, scenes, trials)})
    print_comparison(plan, compare(trials, task.metric))
    print_classes(trials)
    for note in notes:
        typer.echo(f"note: {note}")
    _draw(run, plan, f"{job.title}, {read.step} steps", trials, gallery)
    typer.echo(f"numbers    {run / 'probe.json'}")


def _draw(run: Path, plan: Plan, title: str, trials: list[Trial], gallery: Gallery) -> None:
    """The plot over the labels, and the answers where they can be drawn."""
    name = f"probe-{plan.task.name}-{plan.mode}"
    lines = compare(trials, plan.task.metric)
    try:
        plot = save_label_curves(run / f"{name}.png", [panel(title, plan.task.metric, plan.mode, lines)])
        typer.echo(f"plot       {plot}")
    except ValueError as error:
        typer.echo(f"no plot    {error}")
    sheet = gallery.save(run / f"{name}-answers.png", f"{title}: first test scene from above")
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


def _record(plan: Plan, scenes: ProbeScenes, trials: list[Trial]) -> dict[str, Any]:
    """Everything that a table is made from."""
    return {
        "task": plan.task.name,
        "mode": plan.mode,
        "metric": plan.task.metric,
        "less_is_better": plan.task.less_is_better,
        "labels": plan.labels,
        "seeds": list(plan.seeds),
        "budget": asdict(plan.budget),
        "scenes": [scene.name for scene in scenes.train],
        "test_scenes": [scene.name for scene in scenes.test],
        "table": [asdict(line) for line in compare(trials, plan.task.metric)],
        "trials": [asdict(trial) for trial in trials],
    }


def _budget(request: ProbeRequest) -> Budget:
    """The same for both arms."""
    return Budget(steps=request.steps or (FINE_TUNING_STEPS if request.mode == "finetune" else Budget.steps))


def _task_and_scenes(job: RunDescription, data: str, request: ProbeRequest) -> tuple[Task, ProbeScenes]:
    """The task, and the scenes with its answers."""
    tasks: dict[str, Callable[[tuple[str, ...]], Task]] = {
        "semseg": semseg,
        "occupancy": lambda names: occupancy(),
        "depth": lambda names: depth(),
    }
    make = choose("task", request.task, tasks)
    if len(data_words(data)) > 1:
        raise ValueError(f"data: expected one data set to probe on, got {data!r}; name one with --data")
    synthetic = data_words(data)[0].is_synthetic
    train, test = request.scenes or SCENES, request.test_scenes or TEST_SCENES
    if synthetic:
        _check_streets(job, train)
    raw = job.open_raw(
        data,
        count=train + test if synthetic else None,
        seed=PROBE_SEED,
        with_truth=request.task == "occupancy",
        say=typer.echo,
    )
    if not synthetic:
        known = job.held_out_of(data)
        held_out = job.holdout if known is None else known
        train, test = request.scenes or len(raw) - held_out, request.test_scenes or held_out
        _check_frames(train, test, len(raw))
        if known is not None and test > known:
            raise ValueError(
                f"test_scenes: expected at most the {known} last frames, which the run did not learn from, "
                f"got {test}"
            )
    dataset = job.prepare(raw, holdout=test)
    read = dataset.__getitem__
    seen = any(name.startswith("image") for name in encoders_of(job.build()))
    if request.task == "semseg" and not seen and isinstance(dataset, Recording):
        read = dataset.without_images
    rows = range(len(raw))
    scenes = ProbeScenes([read(i) for i in rows[:train]], [read(i) for i in rows[len(rows) - test :]])
    return make(scenes.train[0].class_names), scenes


def _check_streets(job: RunDescription, train: int) -> None:
    """A street's frames are all trained on or all tested on."""
    together = job.entry.frames_per_street
    if train % together:
        raise ValueError(
            f"scenes: {job.recipe} sees {together} frames of every street; expected a multiple, got {train}"
        )


def _check_frames(train: int, test: int, count: int) -> None:
    """A recording's first frames are trained on and its last tested on."""
    if train < 1 or test < 1 or train + test > count:
        raise ValueError(
            f"scenes, test_scenes: expected at least one frame each of the {count} there are, got the first "
            f"{train} and the last {test}"
        )


def _report_trial(task: Task, gallery: Gallery) -> Callable[[Trial, Example], None]:
    """A line per trial; its example is kept to be drawn."""

    def say(trial: Trial, example: Example) -> None:
        gallery.add(trial, example)
        typer.echo(
            f"{trial.arm:<10} {100 * trial.fraction:g} % of the labels, seed {trial.seed}: "
            f"{task.metric} {trial.scores[task.metric]:.4f}"
        )

    return say


def read_records(path: Path) -> dict[str, Any]:
    """What earlier probes left in a ``probe.json``, by task and mode; nothing where there is no file.

    Raises:
        ValueError: If it is damaged, and would be lost if another were written.
    """
    if not path.exists():
        return {}
    try:
        records = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read ({reason}); move it away or mend it, then probe") from error
    if not isinstance(records, dict):
        raise ValueError(f"{path}: expected probes by task and mode, got {type(records).__name__}")
    return records


def _save_record(path: Path, key: str, record: dict[str, Any]) -> None:
    """Put a record into the file, beside those of other tasks and modes."""
    write_text(path, json.dumps({**read_records(path), key: record}, indent=1) + "\n")
