"""``renderpretrain eval``: how well a run renders, and what its encoders are worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from renderpretrain.cli import completing

Flag = typer.Option

LABELS = "0.01,0.05,0.1,1.0"
"""Shares of the labels that a linear probe looks at unless told otherwise."""

COUNTS = "1,5"
"""Scenes with labels that training looks at unless told otherwise."""

RATES, ENCODER_RATES = "5e-4,2e-3,8e-3", "1,0.1"
"""What rates of training are chosen from."""

STEPS, EVERY = 1200, 25
"""Of training: at a constant rate at most, and between evaluations."""

PROBES = ("linear", "decoder", "finetune")
"""What is trained: one linear layer, a small decoder, or the encoders with it."""


ProbeName = Annotated[
    str | None, Flag(help=f"{', '.join(PROBES)}: probe the encoders; by default held-out views are scored.")
]
TaskName = Annotated[
    str | None, Flag(help="What is probed: semseg, occupancy, depth or detection; semseg by default.")
]
Labels = Annotated[
    str | None,
    Flag(
        help=f"Shares of the labels, {LABELS} by default; in training also whole scenes, {COUNTS} by default."
    ),
]
Seeds = Annotated[int | None, Flag(help="Repetitions of a probe; 3 by default, of training 5.", min=1)]
Data = Annotated[str | None, Flag(help="As for pretrain; the run's own kind by default.")]
Scenes = Annotated[int | None, Flag(help="Scenes with labels to probe on.", min=1)]
Scored = Annotated[int | None, Flag(help="Scenes to score.", min=1)]
SplitName = Annotated[
    str | None, Flag(help="What a probe scores: validation, by default, or test, to be opened once.")
]
LevelsName = Annotated[
    str | None, Flag(help="What a probe reads of encoders: all of their levels, by default, or the last.")
]
Steps = Annotated[
    int | None,
    Flag(help=f"At most: 200 of a linear fit; {STEPS} of training, which ends when it ends.", min=1),
]
Rates = Annotated[str | None, Flag(help=f"Of training, to choose from; {RATES} by default.")]
EncoderRates = Annotated[
    str | None, Flag(help=f"Factors of the encoders' rate, likewise; {ENCODER_RATES} by default.")
]
SearchSeeds = Annotated[int | None, Flag(help="Repetitions that rates are chosen with; 2 by default.", min=1)]
Every = Annotated[int | None, Flag(help=f"Steps of training between evaluations; {EVERY}.", min=1)]
Stride = Annotated[int | None, Flag(help="Pixels between the rendered ones of views; up to 4.", min=1)]


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.", autocompletion=completing.complete_run)],
    probe: ProbeName = None,
    task: TaskName = None,
    labels: Labels = None,
    seeds: Seeds = None,
    data: Data = None,
    scenes: Scenes = None,
    test_scenes: Scored = None,
    split: SplitName = None,
    levels: LevelsName = None,
    steps: Steps = None,
    rates: Rates = None,
    encoder_rates: EncoderRates = None,
    search_seeds: SearchSeeds = None,
    every: Every = None,
    stride: Stride = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Score held-out views of a run (eval.json), or probe its encoders (probe.json); its report shows it."""
    linear = {"task": task, "labels": labels, "seeds": seeds, "scenes": scenes, "split": split}
    linear |= {"levels": levels, "steps": steps}
    trained = {"rates": rates, "encoder_rates": encoder_rates, "search_seeds": search_seeds, "every": every}
    if probe is None:
        _refuse({**linear, **trained}, "with --probe")
        _score_views(run, data, test_scenes, stride, device)
    else:
        _refuse({"stride": stride}, "without --probe")
        asked = {**linear, "data": data, "test_scenes": test_scenes, "device": device}
        _probe(run, probe, asked, trained)
    _refresh_report(run)


def _refresh_report(run: Path) -> None:
    """Show what was found on the run's page, and say where that is."""
    from renderpretrain.runs import RunFolder
    from renderpretrain.verbs.reporting import refresh_report, say_what_is_wrong

    warnings: list[str] = []
    refresh_report(run, warnings.append)
    for warning in warnings:
        say_what_is_wrong(warning)
    if not warnings:
        typer.echo(f"report     {RunFolder(run).report}")


def _probe(run: Path, mode: str, asked: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """Fit linear heads, or train; refuse flags that are the other's."""
    from renderpretrain.runs.settings import choose

    mode = choose("probe", mode, dict(zip(PROBES, PROBES, strict=True)))
    if mode == "linear":
        _refuse(trained, "with --probe finetune or decoder")
        _fit(run, asked)
        return
    if mode == "decoder":
        _refuse({"encoder_rates": trained["encoder_rates"]}, "with --probe finetune")
    _train(run, mode, {**asked, **trained})


def _fit(run: Path, asked: Mapping[str, Any]) -> None:
    """Fit linear heads as the flags say; what they do not say is filled in."""
    from renderpretrain.cli.probe_scenes import LEVELS, SPLITS
    from renderpretrain.cli.probing import ProbeRequest, probe_run
    from renderpretrain.runs.settings import choose

    kept = {name: value for name, value in asked.items() if name != "labels"}
    filled = {
        "task": asked["task"] or "semseg",
        "seeds": asked["seeds"] or 3,
        "split": choose("split", asked["split"] or "validation", SPLITS),
        "levels": choose("levels", asked["levels"] or "all", LEVELS),
        "fractions": _fractions(LABELS if asked["labels"] is None else asked["labels"]),
    }
    probe_run(run, ProbeRequest(**{**kept, **filled}))


def _train(run: Path, mode: str, asked: Mapping[str, Any]) -> None:
    """Train decoders, with or without encoders, as the flags say; what they do not say is filled in."""
    from renderpretrain.cli.fair_probing import FairRequest, fine_tune_run
    from renderpretrain.cli.probe_scenes import LEVELS, SPLITS
    from renderpretrain.runs.settings import choose

    steps = asked["steps"] or STEPS
    filled = {
        "mode": mode,
        "task": asked["task"] or "semseg",
        "labels": _counts(COUNTS if asked["labels"] is None else asked["labels"]),
        "seeds": asked["seeds"] or 5,
        "search_seeds": asked["search_seeds"] or 2,
        "rates": _rates("rates", asked["rates"] or RATES),
        "encoder_rates": _rates("encoder_rates", asked["encoder_rates"] or ENCODER_RATES),
        "split": choose("split", asked["split"] or "validation", SPLITS),
        "levels": choose("levels", asked["levels"] or "all", LEVELS),
        "steps": steps,
        "every": asked["every"] or min(EVERY, steps),
    }
    fine_tune_run(run, FairRequest(**{**asked, **filled}))


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


def _counts(text: str) -> tuple[int | float, ...]:
    """``1,5`` as numbers of scenes, ``0.05`` and ``1.0`` as shares of them."""
    try:
        found = [int(part) if part.strip().isdigit() else float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(n >= 1 if isinstance(n, int) else 0 < n <= 1 for n in found):
        raise ValueError(
            f"labels: expected numbers of scenes or shares in (0, 1] with commas, such as 1,0.5; got {text!r}"
        )
    return tuple(found)


def _rates(name: str, text: str) -> tuple[float, ...]:
    """``1e-3,1e-2`` as numbers, rising, each once."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not 0 < found[0] <= found[-1] < float("inf"):
        raise ValueError(f"{name}: expected numbers above 0 with commas, such as 1e-3,1e-2; got {text!r}")
    return tuple(found)


def _score_views(run: Path, data: str | None, count: int | None, stride: int | None, device: str) -> None:
    """Print how held-out scenes are rendered."""
    from renderpretrain.cli.printed import print_scores, with_unit
    from renderpretrain.verbs.evaluation import Evaluation

    done = Evaluation(run, data, count, stride, device, say=typer.echo).score()
    beside = {
        name: {who: found[name] for who, found in done.predictors.items() if name in found}
        for name in done.scores
    }
    rows = [(with_unit(name), (value,), beside[name]) for name, value in done.scores.items()]
    print_scores(f"{done.scenes} held-out scenes, step {done.step}", ("score",), rows)
    typer.echo(f"numbers    {done.file}")
