"""``renderpretrain pretrain``: flags in, a run folder out."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from renderpretrain.runs import RunDescription

Flag = typer.Option


def pretrain(
    recipe: Annotated[str, typer.Argument(help="See `renderpretrain recipes list`.")],
    preset: Annotated[str | None, Flag(help="tiny (default) or paper.")] = None,
    data: Annotated[str | None, Flag(help="synthetic, synthetic-room, folder:PATH; several: +.")] = None,
    out: Annotated[Path | None, Flag(help="Run folder; runs/RECIPE-PRESET by default.")] = None,
    steps: Annotated[int | None, Flag(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, Flag(help="Of weights, order and masks; 0 by default.")] = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, Flag(help="fp32 or bf16; rendering is always fp32.")] = None,
    set_: Annotated[list[str] | None, Flag("--set", help="A setting, e.g. optimization.lr=1e-3.")] = None,
    config: Annotated[Path | None, Flag(help="YAML file of settings, applied before --set.")] = None,
    holdout: Annotated[int | None, Flag(help="The last N scenes are only evaluated.", min=0)] = None,
    scenes: Annotated[int | None, Flag(help="Synthetic scenes to train on.", min=1)] = None,
    workers: Annotated[
        int | None, Flag(help="Processes that prepare batches; some for a GPU, 0 for a CPU.", min=0)
    ] = None,
    init: Annotated[
        Path | None, Flag(help="Begin with these encoders: a file of import or export, or a run folder.")
    ] = None,
    resume: Annotated[bool, Flag("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    skip_bad: Annotated[bool, Flag("--skip-bad", help="Leave out frames that are bad.")] = False,
    dry_run: Annotated[bool, Flag("--dry-run", help="Print settings, sizes and costs, then stop.")] = False,
) -> None:
    """Pre-train a recipe and end with a table of held-out scores before and after."""
    from renderpretrain.cli.preflight import checked
    from renderpretrain.runs import describe_run, recipe_settings, saved_tree
    from renderpretrain.runs.settings import parse_assignment

    folder = out or Path("runs") / f"{recipe}-{preset or 'tiny'}"
    optimization = {k: v for k, v in (("steps", steps), ("precision", precision)) if v is not None}
    updates = [recipe_settings(config, recipe)] if config else []
    updates += [{"optimization": optimization}] if optimization else []
    updates += [parse_assignment(text) for text in set_ or []]
    flags = {"preset": preset, "data": data, "seed": seed, "init": init, "holdout": holdout, "scenes": scenes}
    job = describe_run(recipe, flags, updates, saved=saved_tree(folder) if resume else {})
    job = checked(job, skip_bad=skip_bad, resumed=resume)
    if dry_run:
        _check(job, folder, device, resume)
        _describe(job)
    else:
        _run(job, folder, {"device": device, "resume": resume, "workers": workers})


def _check(job: "RunDescription", folder: Path, device: str, resume: bool) -> None:
    """Refuse what a run would refuse, and touch nothing."""
    from renderpretrain.recipes.columns import columns_read
    from renderpretrain.recipes.recipe import encoders_of
    from renderpretrain.training import RunFolder, choose_device, without_memory
    from renderpretrain.transfer import initialize_encoders

    choose_device(device)
    RunFolder(folder).check(resume=resume)
    if job.init and not resume:
        model = without_memory(job.build)
        initialize_encoders(encoders_of(model), job.init, columns=columns_read(model), load=False)


def _begin_with(model: "torch.nn.Module", init: str) -> None:
    """Give a recipe's encoders the weights of a file, and say which."""
    from renderpretrain.recipes.columns import columns_read
    from renderpretrain.recipes.recipe import encoders_of
    from renderpretrain.transfer import initialize_encoders

    for line in initialize_encoders(encoders_of(model), init, columns=columns_read(model)):
        typer.echo(line)


def _run(job: "RunDescription", folder: Path, options: dict[str, Any]) -> None:
    """Train, then say what changed and where to look."""
    import torch

    from renderpretrain.cli.report import print_result
    from renderpretrain.runs.describing import changed_by_data
    from renderpretrain.training import RunFolder, RunOptions, fit
    from renderpretrain.training.pictures import save_picture

    dataset, model = job.open(say=typer.echo), job.build()
    if job.init and not options["resume"]:
        _begin_with(model, job.init)
    shown = min(max(len(dataset) - job.holdout, 0), len(dataset) - 1)

    def draw(step: int, recipe: torch.nn.Module) -> None:
        path = RunFolder(folder).pictures / f"step_{step:06d}.png"
        typer.echo(f"drawing {path}")
        save_picture(recipe, dataset[shown], path, title=f"{job.title}, step {step}")

    if changed_by_data(job) and os.environ.get("RANK", "0") == "0":
        typer.echo(changed_by_data(job))
    result = fit(
        model,
        dataset,
        job.settings.optimization,
        out=folder,
        options=RunOptions(
            holdout=job.holdout,
            seed=job.seed,
            check_data=False,  # `checked` has looked
            config=job.as_tree(),
            on_picture=draw,
            **options,
        ),
    )
    if result.is_main:
        print_result(job.recipe, result)
    if result.stopped_by:
        raise typer.Exit(128 + signal.Signals.__members__.get(result.stopped_by, signal.SIGTERM))


def _describe(job: "RunDescription") -> None:
    """Print what a run would do."""
    import torch

    from renderpretrain.cli.report import costs, parameter_counts, shapes
    from renderpretrain.data import collate
    from renderpretrain.runs.describing import changed_by_data
    from renderpretrain.runs.settings import write_yaml
    from renderpretrain.training import enlarge_images, step_cost, without_memory
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
    scenes = [dataset[i % len(dataset)] for i in range(count)]
    batch = collate(scenes, torch.arange(count))
    batch = batch if size is None else enlarge_images(batch, size)
    model = without_memory(job.build)
    warning = check_overlap(measure_overlap(model, dataset, len(dataset) - job.holdout, draw=False), model)
    typer.echo(warning) if warning else None
    cost = step_cost(model, batch, settings.optimization)
    for line in [*parameter_counts(model), *shapes(batch), *costs(cost, settings.optimization)]:
        typer.echo(line)
