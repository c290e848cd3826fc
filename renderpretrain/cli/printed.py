"""What the verbs print: tables for people, aligned also where there is no terminal."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.geometry import Cameras
from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.runs.folder import launched_by, process_counts
from renderpretrain.runs.metrics import ABOUT_DEPTH, unit_of
from renderpretrain.runs.record import read_record
from renderpretrain.runs.verdict import verdict
from renderpretrain.terminal import printable
from renderpretrain.training import PREDICTORS, Change, FitResult, StepCost
from renderpretrain.training.scaling import Scaling


def print_result(recipe: str, result: FitResult, again: Sequence[str] = ()) -> None:
    """The end of a run: what stopped it or what it changed, and the files to look at.

    Args:
        recipe: Its name.
        result: How it ended.
        again: Words of its command line that a run that goes on is told again.
    """
    folder = result.folder
    if result.stopped_by:
        print(f"stopped by {result.stopped_by} after step {result.step}; everything is saved.")
        launched = launched_by(process_counts())
        words = [*launched, "-m", "renderpretrain"] if launched else ["renderpretrain"]
        words += ["pretrain", recipe, "--out", str(folder.path), "--resume", *again]
        where = " on each node (--rdzv-endpoint: where they meet)" if "--nnodes" in launched else ""
        print(f"resume{where} with: {shlex.join(words)}")
        return
    if result.table:
        print_changes(result.table)
    for finding in verdict(read_record(folder.path)):
        print(f"{'warning' if finding.tone == 'warning' else 'learned':<10} {finding.words}")
    print(f"weights    {folder.checkpoints / 'final.pt'}")
    print(f"curves     {folder.metrics}")
    if folder.report.is_file():
        print(f"report     {folder.report}")
    for picture in [*sorted(folder.pictures.glob("step_*.png")), *folder.pictures.glob("health.png")]:
        print(f"picture    {picture}")


def print_changes(table: list[Change]) -> None:
    """Held-out scores before and after, beside predictors that learn no geometry."""
    rows = [(with_unit(c.metric), (c.before, c.after), c.beside) for c in table]
    print_scores("held-out scenes", ("before", "after"), rows)


def print_scores(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float], Mapping[str, float]]]
) -> None:
    """A table of scores beside predictors that learn no geometry, and what it means.

    Args:
        title: Above the names.
        columns: Above the recipe's own scores.
        rows: A name, the recipe's own scores, and those of predictors by their names in ``metrics.jsonl``.
    """
    asked = [name for name in PREDICTORS if any(name in beside for _, _, beside in rows)]
    header = [title, *columns, *(PREDICTORS[name] for name in asked)]
    lines = [
        [name, *(f"{value:.3f}" for value in own), *(_number(beside.get(each)) for each in asked)]
        for name, own, beside in rows
    ]
    print_table(header, lines)
    if any(name.startswith("depth_") for name, _, _ in rows):
        print("\n".join(ABOUT_DEPTH))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A table, drawn on a terminal and aligned elsewhere; what looks like rich's markup is text."""
    console = Console()
    if console.is_terminal:
        drawn = Table(*(Column(Text(printable(name))) for name in header))
        for row in rows:
            drawn.add_row(*(Text(printable(cell)) for cell in row))
        console.print(drawn)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def parameter_counts(model: nn.Module) -> Iterator[str]:
    """One line for each part that is taken home, for what else the recipe has of its own, and for all."""
    parts = encoders_of(model)
    told: set[int] = set()
    for name, part in {**parts, **dict(model.named_children()), "itself": model}.items():
        own = [p for p in part.parameters() if id(p) not in told]
        told |= {id(p) for p in own}
        if own:
            yield _parameters(name, own, "" if name in parts else "thrown away")
    yield _parameters("everything", list(model.parameters()))


def _parameters(name: str, parameters: list[nn.Parameter], note: str = "") -> str:
    """How many there are, and how many of them stay as they are."""
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    trained = sum(p.numel() for p in parameters) - frozen
    notes = [f"and {frozen:,} frozen"] if frozen else []
    return "  ".join([f"parameters  {name:<16} {trained:>12,}", *notes, *filter(None, [note])])


def shapes(batch: Batch) -> Iterator[str]:
    """One line for each tensor of a batch."""
    for field in fields(batch):
        value: object = getattr(batch, field.name)
        if isinstance(value, Tensor):
            yield f"batch       {field.name:<16} {tuple(value.shape)} {value.dtype}".replace("torch.", "")
        elif isinstance(value, Cameras):
            yield f"batch       {field.name:<16} {tuple(value.shape)} of {value.image_size} pixels"


def costs(cost: StepCost, optimization: OptimizationConfig) -> Iterator[str]:
    """What a step on the batch takes, estimated without running it."""
    factor = cost.step_flops / max(cost.forward_flops, 1)
    state = "momentum" if optimization.optimizer == "sgd" else "two moments"
    for kind, name, amount, note in (
        ("arithmetic", "forward", _scaled(cost.forward_flops, 1000, "FLOP"), "2 per multiply-add"),
        ("arithmetic", "step", _scaled(cost.step_flops, 1000, "FLOP"), f"{factor:.1f} x forward, counted"),
        ("memory", "weights", _scaled(cost.weights, 1024, "iB"), "with buffers"),
        ("memory", "gradients", _scaled(cost.gradients, 1024, "iB"), ""),
        ("memory", "optimiser", _scaled(cost.optimizer, 1024, "iB"), f"{optimization.optimizer}: {state}"),
        ("memory", "batch", _scaled(cost.batch, 1024, "iB"), ""),
        ("memory", "activations", _scaled(cost.kept, 1024, "iB"), "left for the backward pass"),
        ("memory", "peak", _scaled(cost.peak, 1024, "iB"), "all of a step together"),
    ):
        yield f"{kind:<11} {name:<16} {amount:>12}  {note}".rstrip()
    yield "Counted on shapes alone, for a CPU; points, voxels and rays are the batch's. Left out: arithmetic"
    yield "element by element, space inside kernels, what the allocator, the libraries and the data add."


def scaling_lines(scaling: Scaling, told: tuple[bool, bool]) -> Iterator[str]:
    """What so many processes exchange and read, and what that should make of a step.

    Args:
        scaling: As it was predicted.
        told: Whether somebody said how long a step takes, and how fast processes exchange.
    """
    step, link = ("" if each else " (assumed)" for each in told)
    speed = scaling.exchanged / scaling.exchange if scaling.exchange else 0.0
    rate = 1 / max(scaling.seconds, 1e-12)
    read, each = _scaled(round(scaling.read_bytes), 1000, "B"), round(scaling.reads)
    for name, line in (
        ("batch", f"{scaling.samples} scenes a step, over {scaling.ranks} processes"),
        ("exchange", f"{_scaled(round(scaling.exchanged), 1000, 'B')} a step and process"),
        ("reading", f"{read} a step in {each} files or parts, {each * rate:.3g} of them a second"),
        ("step", f"{scaling.alone:.3g} s in one process alone{step}"),
        ("waiting", f"{scaling.exchange:.3g} s to exchange at {speed / 1e9:.3g} GB/s{link}")
        if scaling.ranks > 1
        else ("waiting", "for nobody"),
        ("together", f"{scaling.seconds:.3g} s a step, {scaling.samples * rate:.3g} scenes a second"),
        ("efficiency", f"{100 * scaling.efficiency:.1f} %"),
    ):
        yield f"{'ranks':<11} {name:<16} {line}"


def _scaled(amount: int, step: int, unit: str) -> str:
    """Three digits and a prefix."""
    value, prefixes = float(amount), iter(" kMGTP")
    prefix = next(prefixes)
    while value >= step:
        value, prefix = value / step, next(prefixes)
    return f"{value:.3g} {prefix}{unit}".replace("  ", " ")


def with_unit(metric: str) -> str:
    """A metric with its unit."""
    unit = unit_of(metric)
    return f"{metric} [{unit}]" if unit else metric


def _number(score: float | None) -> str:
    """A predictor's score, where it has one."""
    return "" if score is None else f"{score:.3f}"
