"""Fine-tuning a run fairly: from flags to a plan, from outcomes to tables, a file and a plot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from renderpretrain.cli.fair_report import fair_record, fair_tables, how_sure, save_curves
from renderpretrain.cli.printed import print_table
from renderpretrain.cli.probe_records import ONE_RUN, Opening, probe_key, read_records, save_record
from renderpretrain.cli.probe_scenes import SceneRequest, Split, chosen_on_scored, open_probe
from renderpretrain.cli.probing import unequal_starts
from renderpretrain.data.words import data_words
from renderpretrain.probes import FairPlan, Task, fine_tune_fairly
from renderpretrain.probes.fair import FairTrial, Schedule
from renderpretrain.probes.features import Levels
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.storage.files import check_target
from renderpretrain.training import choose_device

Trains = Literal["full", "decoder"]
TRAINED: dict[str, Trains] = {"finetune": "full", "decoder": "decoder"}
"""What the user types, and what is trained."""

FOLDER = "fine-tuning"
"""Where a run keeps finished trainings."""

SEARCH_SEED = 1000
"""The first seed that rates are chosen with; those of results begin with the run's."""

SCENES = 20
"""Synthetic scenes to train on unless told otherwise: few have labels."""

BLOCKS = 8
"""Parts of a recording's scored frames that are drawn as one: neighbours show the same street."""


@dataclass(frozen=True)
class FairRequest:
    """The user's flags.

    Attributes:
        mode: ``finetune`` or ``decoder``.
        task: Its name.
        labels: Numbers of scenes with labels, or shares of all.
        seeds: How many repetitions.
        search_seeds: How many to choose rates with.
        rates: Learning rates of the grid.
        encoder_rates: Factors for the encoders.
        data: As for ``pretrain``, or the run's own.
        scenes: To train on, of which some have labels.
        test_scenes: To score.
        split: Which scenes are scored: those that settings are chosen on, or those of the end.
        levels: What is read of the encoders.
        steps: At a constant rate at most.
        every: Steps between evaluations.
        device: Where to compute.
    """

    mode: str
    task: str
    labels: tuple[int | float, ...]
    seeds: int
    search_seeds: int
    rates: tuple[float, ...]
    encoder_rates: tuple[float, ...]
    data: str | None
    scenes: int | None
    test_scenes: int | None
    split: Split
    levels: Levels
    steps: int
    every: int
    device: str


def fine_tune_run(run: Path, request: FairRequest) -> None:
    """Fine-tune the newest checkpoint of a run beside fresh weights, and leave ``probe.json`` and a plot."""
    read = read_run(run).checked()
    job = read.description
    file = run / "probe.json"
    check_target("run", file)
    read_records(file)  # what is damaged is found before anything is computed
    device = choose_device(request.device)
    data = job.as_seen(request.data or job.data)
    train = request.scenes or (SCENES if data_words(data)[0].is_synthetic else None)
    asked = SceneRequest(request.task, data, train, request.test_scenes, request.split, request.levels)
    task, scenes = open_probe(job, asked)
    plan = _plan(job, request, task, (len(scenes.train), _streets(job, data, len(scenes.scored))))
    about: dict[str, Any] = {"recipe": job.recipe, "preset": job.preset, "step": read.step, "data": data}
    key = probe_key(task.name, request.mode, request.levels, request.split)
    opening = Opening(file, key, about) if request.split == "test" else None
    say = _report(task, opening)
    outcomes = fine_tune_fairly(
        plan, scenes, lambda seed: job.build(seed).to(device), read.weights, say, run / FOLDER
    )
    notes = [ONE_RUN, *chosen_on_scored(request.split), *unequal_starts(job), *task.notes]
    notes += how_sure(plan, outcomes)
    about |= {} if opening is None else {"opened": opening.times}
    record = fair_record(plan, scenes, outcomes, request.mode)
    save_record(file, key, {**about, "notes": notes, **record})
    for table in fair_tables(plan, outcomes, request.mode):
        print_table(*table)
    for note in notes:
        typer.echo(f"note: {note}")
    save_curves(
        run / f"probe-{task.name}-{request.mode}.png", plan, outcomes, f"{job.title}, {read.step} steps"
    )
    typer.echo(f"numbers    {file}")


def _plan(
    job: RunDescription, request: FairRequest, task: Task, there: tuple[int, tuple[int, ...]]
) -> FairPlan:
    """The plan of the flags; ``there``: how many training scenes, and the streets of the scored ones."""
    count, streets = there
    labeled = {n if isinstance(n, int) else max(1, round(n * count)) for n in request.labels}
    return FairPlan(
        task,
        TRAINED[request.mode],
        labeled=tuple(sorted(labeled)),
        seeds=tuple(range(job.seed, job.seed + request.seeds)),
        search_seeds=tuple(range(job.seed + SEARCH_SEED, job.seed + SEARCH_SEED + request.search_seeds)),
        lrs=request.rates,
        encoder_rates=request.encoder_rates,
        schedule=Schedule(every=request.every, longest=request.steps),
        streets=streets,
    )


def _streets(job: RunDescription, data: str, scored: int) -> tuple[int, ...]:
    """Which scored scenes belong together: frames of a synthetic street, or a stretch of a recording."""
    if data_words(data)[0].is_synthetic:
        return tuple(i // job.frames_per_street for i in range(scored))
    return tuple(i * min(BLOCKS, scored) // scored for i in range(scored))


def _report(task: Task, opening: Opening | None) -> Callable[[FairTrial, bool], None]:
    """A line per training; the first with a score that was not known opens test scenes."""
    sign = -1 if task.less_is_better else 1

    def say(trial: FairTrial, known: bool) -> None:
        if opening is not None and trial.scores and not known:
            opening.note(typer.echo)
        job, course = trial.job, trial.course
        encoders = f", encoders x {job.setting.encoder_rate:g}" if job.setting.encoder_rate else ""
        score = f"validation {sign * course.best:.4f}"
        if trial.scores:
            score += f", {task.metric} {trial.scores[task.metric]:.4f}"
        typer.echo(
            f"{job.arm:<10} {job.labeled} labelled, {job.role} {job.seed}, lr {job.setting.lr:g}{encoders}: "
            f"{course.constant_steps} + {course.steps - course.constant_steps} steps, {score}"
            f"{' (done before)' if known else ''}"
        )

    return say
