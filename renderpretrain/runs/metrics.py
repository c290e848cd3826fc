"""``metrics.jsonl``: one row a step, evaluation rows among them."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from renderpretrain.storage.files import write_text

T = TypeVar("T")

LAST_STEP = 2**53
"""Larger steps are damage: JSON's readers, the report's page among them, tell no two of them apart."""

PREDICTORS = {
    "nearest_point": "nearest point",
    "best_row": "best of row",
    "row_median": "row medians",
    "baseline": "row means",
}
"""What predictors that learn no geometry are called: before a score's name, and above a table's column."""

UNITS = {"rmse": "m", "psnr": "dB", "chamfer": "m", "abs_error": "m"}
"""Of scores, by how their names end."""

LESS_IS_BETTER = ("abs_rel", "rmse", "chamfer", "abs_error")
MORE_IS_BETTER = ("delta", "psnr", "ssim", "miou", "iou")
"""How the names of scores end."""

ABOUT_DEPTH = (
    "depth_in_blocks, depth_between_beams: rays to returns that were taken out of the input; depth: to any",
    "nearest point: the first point of the input near the ray",
    "best of row: the depth of each image row with the smallest depth_abs_rel in the training scenes",
)
"""What a table of scores means, a line each."""

OVER_RANGE = "over_range/"
"""Begins what is known of an interval of true depth in metres: ``over_range/depth/8-16/abs_rel``."""

Row = dict[str, int | float]
"""``step`` and whatever was measured then."""


def unit_of(score: str) -> str:
    """The unit of a score; empty if it has none."""
    return next((unit for end, unit in UNITS.items() if score.endswith(end)), "")


def direction_of(score: str) -> int:
    """1 of a score of which more is better, -1 where less is, 0 where that is not known."""
    return 1 if score.endswith(MORE_IS_BETTER) else -1 if score.endswith(LESS_IS_BETTER) else 0


def read_rows(path: Path) -> list[Row]:
    """All rows; a last line that a crash cut short is left out.

    Raises:
        ValueError: If another line is not a JSON object of numbers with a whole one for its step; names the
            line.
    """
    rows, damages = read_good_rows(path)
    if damages:
        raise ValueError(damages[0])
    return rows


def read_good_rows(path: Path) -> tuple[list[Row], list[str]]:
    """All rows that can be read, and a sentence that names each line that cannot.

    A last line that a crash cut short is left out and not named. No file has no rows.
    """
    if not path.is_file():
        return [], []
    lines = path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    rows, damages = list[Row](), list[str]()
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            rows.append(_parse(line))
        except (ValueError, RecursionError):
            if number < len(lines):
                expected = "expected a JSON object of numbers with a step"
                damages.append(f"{path}, line {number}: {expected}, got {line[:60]!r}")
    return rows, damages


def append_row(path: Path, row: Row) -> None:
    """Add a row; a value that is not finite is left out, for JSON has no word for it."""
    finite = {key: value for key, value in row.items() if math.isfinite(value)}
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
    except OSError as error:
        hint = "make room, then go on from the last checkpoint with --resume"
        raise OSError(f"{path}: cannot be written ({error.strerror or error}); {hint}") from error


def flush_rows(path: Path) -> None:
    """Make the rows survive a power cut, as the checkpoint does that follows them."""
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def missing_steps(rows: list[Row], step: int) -> list[tuple[int, int]]:
    """First and last of the steps up to ``step`` that have no row of losses, gap by gap."""
    there = sorted({row["step"] for row in rows if "loss" in row and 0 < row["step"] <= step})
    borders = [0, *there, step + 1]
    return [(int(a) + 1, int(b) - 1) for a, b in pairwise(borders) if b > a + 1]


def drop_rows_after(path: Path, step: int) -> list[Row]:
    """Forget, atomically, what an interrupted run logged past its checkpoint; returns the rows that stay."""
    rows = [row for row in read_rows(path) if row["step"] <= step]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


@dataclass(frozen=True)
class Change:
    """One line of the table a run ends with.

    Attributes:
        metric: Its name in ``metrics.jsonl`` without ``eval/``.
        before: At the start.
        after: At the last evaluation.
        beside: What predictors that learn no geometry score, by the names of :data:`PREDICTORS`.
    """

    metric: str
    before: float
    after: float
    beside: dict[str, float]


def changes(rows: list[Row]) -> list[Change]:
    """What training changed on the held-out scenes: first evaluation, last evaluation, other predictors."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in rows:
        measured = {key: value for key, value in row.items() if key.startswith("eval/")}
        scores = {key.removeprefix("eval/"): value for key, value in without_ranges(measured).items()}
        first = {**scores, **first}
        last |= scores
    return [
        Change(metric, first[metric], last[metric], _beside(metric, last))
        for metric in last
        if not of_predictor(metric)
    ]


def of_predictor(metric: str) -> bool:
    """Whether a score is one of :data:`PREDICTORS`, not of the recipe."""
    return metric.removeprefix("eval/").startswith(tuple(f"{name}_" for name in PREDICTORS))


def without_ranges(scores: Mapping[str, T]) -> dict[str, T]:
    """Scores without those of intervals of depth, which are a curve rather than a line of a table."""
    return {name: value for name, value in scores.items() if OVER_RANGE not in name}


def _beside(metric: str, scores: dict[str, float]) -> dict[str, float]:
    """What the predictors score, those that were asked."""
    found = {name: scores.get(f"{name}_{metric}") for name in PREDICTORS}
    return {name: value for name, value in found.items() if value is not None}


def _parse(line: str) -> Row:
    """One row of the file."""
    row = json.loads(line)
    if not isinstance(row, dict) or not _is_whole(row.get("step")):
        raise ValueError("not a row")
    if not all(isinstance(value, int | float) for value in row.values()):
        raise ValueError("not numbers")
    return row


def _is_whole(value: object) -> bool:
    """Whether a step could be that."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_STEP
