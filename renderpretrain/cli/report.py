"""What the verbs print: tables for people, aligned also where there is no terminal."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from renderpretrain.data import Batch
from renderpretrain.geometry import Cameras
from renderpretrain.training import Change, FitResult

UNITS = {"depth_rmse": "m", "psnr": "dB", "picture_psnr": "dB", "chamfer": "m", "bev_abs_error": "m"}


def print_result(recipe: str, result: FitResult) -> None:
    """The end of a run: what stopped it or what it changed, and the files to look at."""
    folder = result.folder
    if result.stopped_by:
        print(f"stopped by {result.stopped_by} after step {result.step}; everything is saved.")
        print(f"resume with: renderpretrain pretrain {recipe} --out {folder.path} --resume")
        return
    if result.table:
        print_changes(result.table)
    print(f"weights    {folder.checkpoints / 'final.pt'}")
    print(f"curves     {folder.metrics}")
    for picture in sorted(folder.pictures.glob("step_*.png")):
        print(f"picture    {picture}")


def print_changes(table: list[Change]) -> None:
    """Held-out scores before and after, beside a predictor without geometry."""
    header = ["held-out scenes", "before", "after", "row means"]
    rows = [[_name(c), f"{c.before:.3f}", f"{c.after:.3f}", _baseline(c)] for c in table]
    print_table(header, rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """A table, drawn on a terminal and aligned elsewhere."""
    console = Console()
    if console.is_terminal:
        drawn = Table(*header)
        for row in rows:
            drawn.add_row(*row)
        console.print(drawn)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def parameter_counts(model: nn.Module) -> Iterator[str]:
    """One line for each part that is taken home, and the total."""
    parts: dict[str, nn.Module] = model.encoders() if hasattr(model, "encoders") else {}  # type: ignore[operator]
    for name, part in {**parts, "everything": model}.items():
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in part.parameters() if not p.requires_grad)
        yield f"parameters  {name:<16} {trained:>12,}" + (f" and {frozen:,} frozen" if frozen else "")


def shapes(batch: Batch) -> Iterator[str]:
    """One line for each tensor of a batch."""
    for field in fields(batch):
        value: Any = getattr(batch, field.name)
        if isinstance(value, Tensor):
            yield f"batch       {field.name:<16} {tuple(value.shape)} {value.dtype}".replace("torch.", "")
        elif isinstance(value, Cameras):
            yield f"batch       {field.name:<16} {tuple(value.shape)} of {value.image_size} pixels"


def _name(change: Change) -> str:
    """A metric with its unit."""
    unit = UNITS.get(change.metric, "")
    return f"{change.metric} [{unit}]" if unit else change.metric


def _baseline(change: Change) -> str:
    """The baseline's score, where there is one."""
    return "" if change.baseline is None else f"{change.baseline:.3f}"
