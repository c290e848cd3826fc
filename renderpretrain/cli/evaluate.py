"""``renderpretrain eval``: how well a run renders, and what its encoders are worth."""

from pathlib import Path
from typing import Annotated, Any

import typer

Flag = typer.Option

LABELS = "0.01,0.05,0.1,1.0"
"""Shares of the labels that a probe looks at unless told otherwise."""


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    probe: Annotated[
        str | None, Flag(help="linear or finetune: probe the encoders; by default held-out views are scored.")
    ] = None,
    task: Annotated[
        str | None, Flag(help="What is probed: semseg, occupancy or depth; semseg by default.")
    ] = None,
    labels: Annotated[str | None, Flag(help=f"Shares of the labels; {LABELS} by default.")] = None,
    seeds: Annotated[int | None, Flag(help="Repetitions of a probe; 3 by default.", min=1)] = None,
    data: Annotated[str | None, Flag(help="As for pretrain; the run's own kind by default.")] = None,
    scenes: Annotated[int | None, Flag(help="Scenes with labels to probe on.", min=1)] = None,
    test_scenes: Annotated[int | None, Flag(help="Scenes to score.", min=1)] = None,
    steps: Annotated[int | None, Flag(help="60 of fine-tuning; up to 200 of a linear fit.", min=1)] = None,
    stride: Annotated[
        int | None, Flag(help="Pixels between the rendered ones of views; up to 4.", min=1)
    ] = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Score held-out views of a run (eval.json), or probe its encoders (probe.json)."""
    probed = {"task": task, "labels": labels, "seeds": seeds, "scenes": scenes, "steps": steps}
    _refuse({"stride": stride} if probe else probed, "without --probe" if probe else "with --probe")
    if probe is None:
        _score_views(run, data, test_scenes, stride, device)
        return
    from renderpretrain.cli.probing import MODES, Asked, probe_run
    from renderpretrain.runs.settings import choose

    asked = Asked(
        mode=choose("probe", probe, MODES),
        task=task or "semseg",
        fractions=_fractions(LABELS if labels is None else labels),
        seeds=seeds or 3,
        data=data,
        scenes=scenes,
        test_scenes=test_scenes,
        steps=steps,
        device=device,
    )
    probe_run(run, asked)


def _refuse(flags: dict[str, Any], where: str) -> None:
    """Flags that would change nothing."""
    for name, value in flags.items():
        if value is not None:
            raise ValueError(f"{name}: expected only {where}, got {value}")


def _fractions(text: str) -> tuple[float, ...]:
    """``0.01,0.1`` as numbers, rising, each once."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not 0 < found[0] <= found[-1] <= 1:
        raise ValueError(f"labels: expected shares in (0, 1] with commas, such as 0.01,0.1,1; got {text!r}")
    return tuple(found)


def _score_views(run: Path, data: str | None, count: int | None, stride: int | None, device: str) -> None:
    """Print how held-out scenes are rendered, and write ``eval.json``."""
    import json

    from renderpretrain.cli.report import UNITS, print_table
    from renderpretrain.runs import read_run
    from renderpretrain.runs.describing import absolute
    from renderpretrain.storage.files import check_target, write_text
    from renderpretrain.training import RunOptions, evaluate, evaluate_views, process_session
    from renderpretrain.training.held_out_views import WINDOW
    from renderpretrain.training.trained import load_recipe

    read = read_run(run).checked()
    job = read.description
    check_target("run", run / "eval.json")
    stride = stride or max(1, min(4, min(job.settings.image_size or (WINDOW,)) // WINDOW))
    if data is None:
        dataset, held_out = job.open(say=typer.echo), job.holdout
    else:
        dataset = job.prepare(job.open_raw(data, count=count, seed=1, say=typer.echo))
        known = job.held_out_of(absolute(data))
        held_out = len(dataset) if known is None else known
    if not held_out:
        raise ValueError(f"{run}: expected held-out scenes, found none; name others with --data")
    if count is not None and count > held_out:
        raise ValueError(
            f"test_scenes: expected at most the {held_out} scenes of {data or job.data} that the run did not "
            f"learn from, got {count}"
        )
    count = count or held_out
    indices = range(len(dataset) - count, len(dataset))
    rays = RunOptions.evaluation_rays
    with process_session(device) as process:
        model = load_recipe(read, process.device, say=typer.echo)
        scores = evaluate(model, dataset, indices, process=process, num_rays=rays)
        scores |= evaluate_views(model, dataset, indices, stride=stride, num_rays=rays)
    rows = [[name, f"{value:.4f}", UNITS.get(name, "")] for name, value in scores.items()]
    print_table([f"{count} held-out scenes, step {read.step}", "", ""], rows)
    record = {"step": read.step, "data": data or job.data, "scenes": list(indices), "stride": stride}
    write_text(run / "eval.json", json.dumps({**record, "scores": scores}, indent=1) + "\n")
    typer.echo(f"numbers    {run / 'eval.json'}")
