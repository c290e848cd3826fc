"""``renderpretrain pretrain``: flags in, a run folder out."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderpretrain.cli import completing
from renderpretrain.cli.recipes import list_recipes

if TYPE_CHECKING:
    from renderpretrain.runs import RunDescription
    from renderpretrain.training import StepCost
    from renderpretrain.verbs.pretraining import Pretraining

Flag = typer.Option

Recipe = Annotated[
    str | None,
    typer.Argument(help="See `renderpretrain recipes list`.", autocompletion=completing.complete_recipe),
]
Preset = Annotated[
    str | None,
    Flag(
        help="tiny (default), or the recipe's large one: paper, base.",
        autocompletion=completing.complete_preset,
    ),
]
Data = Annotated[
    str | None,
    Flag(
        help="synthetic, synthetic-room, NAME:PATH (nuscenes, kitti, shards, folder ...); several: +.",
        autocompletion=completing.complete_data,
    ),
]
Out = Annotated[
    Path | None,
    Flag(help="Run folder; runs/RECIPE-PRESET by default.", autocompletion=completing.complete_run),
]
Workers = Annotated[
    int | None, Flag(help="Processes that prepare batches; on a CPU 1 for recordings with pictures.", min=0)
]
Init = Annotated[
    Path | None,
    Flag(
        help="Begin with these encoders: a file of import or export, or a run folder.",
        autocompletion=completing.complete_weights,
    ),
]
Resume = Annotated[
    bool, Flag("--resume", help="Go on from the newest checkpoint in --out, or begin if there is none.")
]
Encoder = Annotated[
    list[str] | None, Flag(help="Your own, package.module:factory, or ROLE=...: point, image.")
]
Log = Annotated[
    list[str] | None,
    Flag(
        help="Also log to tensorboard, wandb or csv; several: , between.",
        autocompletion=completing.complete_log,
    ),
]
Ranks = Annotated[
    int | None, Flag(help="With --dry-run: what so many processes exchange, read and wait for.", min=1)
]
StepSeconds = Annotated[float | None, Flag(help="With --ranks: of one process alone, as measured.", min=1e-6)]
Bandwidth = Annotated[
    float | None, Flag(help="With --ranks: GB/s that a process exchanges, as measured.", min=1e-6)
]


def pretrain(
    recipe: Recipe = None,
    preset: Preset = None,
    data: Data = None,
    out: Out = None,
    steps: Annotated[int | None, Flag(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, Flag(help="Of weights, order and masks; 0 by default.")] = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, Flag(help="fp32, tf32 or bf16; rendering is always fp32.")] = None,
    set_: Annotated[list[str] | None, Flag("--set", help="A setting, e.g. optimization.lr=1e-3.")] = None,
    config: Annotated[Path | None, Flag(help="YAML file of settings, applied before --set.")] = None,
    holdout: Annotated[int | None, Flag(help="The last N scenes are only evaluated.", min=0)] = None,
    scenes: Annotated[int | None, Flag(help="Synthetic scenes to train on.", min=1)] = None,
    workers: Workers = None,
    init: Init = None,
    resume: Resume = False,
    skip_bad: Annotated[bool, Flag("--skip-bad", help="Leave out frames that are bad.")] = False,
    encoder: Encoder = None,
    log: Log = None,
    dry_run: Annotated[bool, Flag("--dry-run", help="Print settings, sizes and costs, then stop.")] = False,
    ranks: Ranks = None,
    step_seconds: StepSeconds = None,
    bandwidth: Bandwidth = None,
) -> None:
    """Pre-train a recipe and end with a table of held-out scores before and after.

    Without a recipe: which ones there are.
    """
    if recipe is None:
        raise _without_recipe()
    from renderpretrain.runs.settings import parse_assignment
    from renderpretrain.verbs.pretraining import Pretraining

    if ranks and not dry_run:
        raise ValueError("ranks: goes with --dry-run; torchrun --nproc-per-node starts processes")
    encoders = dict(text.rpartition("=")[::2] for text in encoder or [])
    settings = [parse_assignment(text) for text in set_ or []]
    asked = Pretraining(recipe, preset, data, out, steps, seed, precision, settings, config)
    asked = replace(asked, holdout=holdout, scenes=scenes, init=init, resume=resume, skip_bad=skip_bad)
    asked = replace(asked, encoder=encoders, log=log or (), say=typer.echo)
    if dry_run:
        _dry_run(asked, device, ranks, step_seconds, bandwidth)
    else:
        _carry_out(asked, device, workers)


def _without_recipe() -> typer.Exit:
    """Say which recipes there are; the end of a command that lacks one."""
    list_recipes()
    typer.echo("pretrain: expected one of these recipes, got none", err=True)
    return typer.Exit(2)


def _dry_run(
    asked: "Pretraining",
    device: str,
    ranks: int | None,
    step_seconds: float | None,
    bandwidth: float | None,
) -> None:
    """Say what would run, and what several processes would make of it."""
    from renderpretrain.cli.printed import scaling_lines
    from renderpretrain.training.scaling import predict_scaling

    description = asked.describe()
    asked.check(description, device)
    cost, reads = _describe(description)
    if ranks is None:
        return
    speed = None if bandwidth is None else 1e9 * bandwidth
    optimization = description.settings.optimization
    scaling = predict_scaling(cost, optimization, ranks, reads, step_seconds=step_seconds, bandwidth=speed)
    for line in scaling_lines(scaling, (step_seconds is not None, bandwidth is not None)):
        typer.echo(line)


def _carry_out(asked: "Pretraining", device: str, workers: int | None) -> None:
    """Train, then say what changed and where to look."""
    from renderpretrain.cli.printed import print_result

    description = asked.describe()
    result = asked.train(description, device=device, workers=workers)
    if result.is_main:
        print_result(description.recipe, result, _again(asked, device, workers))
    if result.stopped_by:
        raise typer.Exit(128 + signal.Signals.__members__.get(result.stopped_by, signal.SIGTERM))


def _again(asked: "Pretraining", device: str, workers: int | None) -> list[str]:
    """What a run that is resumed does not read from its folder: where it writes to, and what it runs on."""
    words = [word for name in asked.log for word in ("--log", name)]
    words += ["--device", device] if device != "auto" else []
    return words + (["--workers", str(workers)] if workers is not None else [])


def _describe(job: "RunDescription") -> tuple["StepCost", list[int]]:
    """Print what a run would do; returns what a batch costs, and the bytes of each file it came from."""
    import torch

    from renderpretrain.cli.printed import costs, parameter_counts, shapes
    from renderpretrain.data import collate
    from renderpretrain.data.folder.access import counted_reads
    from renderpretrain.runs.describing import changed_by_data
    from renderpretrain.runs.settings import write_yaml
    from renderpretrain.training import enlarge_images, step_cost, with_fake_tensors
    from renderpretrain.training.doubts import geometry_doubts, held_out_doubt
    from renderpretrain.training.overlap import check_overlap, measure_overlap

    settings = job.settings
    size = settings.image_size
    # What pictures show costs nothing; to draw or to decode them takes longer than all else here.
    dataset = job.open(image_size=size and (-(-size[0] // 8), -(-size[1] // 8)), say=typer.echo)
    if job.holdout >= len(dataset):
        raise ValueError(
            f"holdout: expected less than the {len(dataset)} scenes there are, got {job.holdout}"
        )
    typer.echo(write_yaml(job.as_tree()))
    typer.echo(changed_by_data(job)) if changed_by_data(job) else None
    typer.echo(f"scenes: {len(dataset) - job.holdout} to train on, {job.holdout} held out")
    count = settings.optimization.batch_size
    with counted_reads() as reads:
        scenes = [dataset[i % len(dataset)] for i in range(count)]
    batch = collate(scenes, torch.arange(count))
    batch = batch if size is None else enlarge_images(batch, size)
    model = with_fake_tensors(job.build)
    warning = check_overlap(measure_overlap(model, dataset, len(dataset) - job.holdout, draw=False), model)
    doubts = [f"warning: {line}" for line in geometry_doubts(dataset, job.data)]
    for line in filter(None, [*doubts, warning, held_out_doubt(dataset, job.holdout)]):
        typer.echo(line)
    cost = step_cost(model, batch, settings.optimization)
    for line in [*parameter_counts(model), *shapes(batch), *costs(cost, settings.optimization)]:
        typer.echo(line)
    return cost, reads
