"""``renderpretrain eval``: how well a run renders, and what its encoders are worth."""

from collections.abc import Mapping
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
        str | None, Flag(help="What is probed: semseg, occupancy, depth or detection; semseg by default.")
    ] = None,
    labels: Annotated[str | None, Flag(help=f"Shares of the labels; {LABELS} by default.")] = None,
    seeds: Annotated[int | None, Flag(help="Repetitions of a probe; 3 by default.", min=1)] = None,
    data: Annotated[str | None, Flag(help="As for pretrain; the run's own kind by default.")] = None,
    scenes: Annotated[int | None, Flag(help="Scenes with labels to probe on.", min=1)] = None,
    test_scenes: Annotated[int | None, Flag(help="Scenes to score.", min=1)] = None,
    split: Annotated[
        str | None, Flag(help="What a probe scores: validation, by default, or test, to be opened once.")
    ] = None,
    steps: Annotated[int | None, Flag(help="60 of fine-tuning; up to 200 of a linear fit.", min=1)] = None,
    stride: Annotated[
        int | None, Flag(help="Pixels between the rendered ones of views; up to 4.", min=1)
    ] = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Score held-out views of a run (eval.json), or probe its encoders (probe.json)."""
    probed = {
        "task": task,
        "labels": labels,
        "seeds": seeds,
        "scenes": scenes,
        "split": split,
        "steps": steps,
    }
    _refuse({"stride": stride} if probe else probed, "without --probe" if probe else "with --probe")
    if probe is None:
        _score_views(run, data, test_scenes, stride, device)
    else:
        _probe(run, probe, {**probed, "data": data, "test_scenes": test_scenes, "device": device})


def _probe(run: Path, mode: str, asked: Mapping[str, Any]) -> None:
    """Probe a run as the flags say; what they do not say is filled in."""
    from renderpretrain.cli.probe_scenes import SPLITS
    from renderpretrain.cli.probing import MODES, ProbeRequest, probe_run
    from renderpretrain.runs.settings import choose

    kept = {name: value for name, value in asked.items() if name != "labels"}
    filled = {
        "mode": choose("probe", mode, MODES),
        "task": asked["task"] or "semseg",
        "seeds": asked["seeds"] or 3,
        "split": choose("split", asked["split"] or "validation", SPLITS),
        "fractions": _fractions(LABELS if asked["labels"] is None else asked["labels"]),
    }
    probe_run(run, ProbeRequest(**{**kept, **filled}))


def _refuse(flags: Mapping[str, object], where: str) -> None:
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
    """Print how held-out scenes are rendered."""
    from renderpretrain.cli.report import print_scores, with_unit
    from renderpretrain.verbs.evaluation import Evaluation

    done = Evaluation(run, data, count, stride, device, say=typer.echo).score()
    beside = {
        name: {who: found[name] for who, found in done.predictors.items() if name in found}
        for name in done.scores
    }
    rows = [(with_unit(name), (value,), beside[name]) for name, value in done.scores.items()]
    print_scores(f"{done.scenes} held-out scenes, step {done.step}", ("score",), rows)
    typer.echo(f"numbers    {done.file}")
