"""What a logger is: the hooks of a run, gathered in one object that opens and closes with it."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from renderpretrain.runs.metrics import Row


@runtime_checkable
class Logger(Protocol):
    """Takes the numbers of a run to a place where people look at them.

    The main process alone calls it: :meth:`open` before the first step, the others between two steps, and
    :meth:`close` at the end, also after a signal or an error.
    """

    def open(self, folder: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> str:
        """Begin a log, or take up the one that is there.

        Args:
            folder: The run's folder of logs, made where it is not there.
            about: What the run is, as its ``config.yaml`` says.
            rows: Of a resumed run, the rows that stay. What was logged past them is taken again, so it is to
                be forgotten where a log can forget; what was never logged, for want of a logger, is sent.

        Returns:
            Where the log is, as one line for the console.

        Raises:
            ValueError: If there can be no such log; one line that says why.
        """

    def on_step(self, step: int, row: Row) -> None:
        """Log the losses, the rate and the speed of a step."""

    def on_evaluation(self, step: int, row: Row) -> None:
        """Log what was measured between two steps: held-out scores, the health of features, or both."""

    def on_image(self, step: int, path: Path) -> None:
        """Log a picture that was drawn after a step, a PNG file."""

    def close(self) -> None:
        """Write what is held back; does nothing where the log was never opened."""


def end_of(rows: Sequence[Row]) -> int:
    """The step of the last row; -1 before the first, whose step may be 0."""
    return int(rows[-1]["step"]) if rows else -1


def not_logged(rows: Sequence[Row], kept: Path) -> list[Row]:
    """The rows of steps past the last one that a log has.

    Args:
        rows: Of the run.
        kept: A file in which :func:`keep_step` left that step; where it says none, the log has all rows.
    """
    try:
        last = int(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [row for row in rows if row["step"] > last]


def keep_step(kept: Path, step: int) -> None:
    """Leave word of the last step that a log has."""
    kept.write_text(f"{step}\n", encoding="utf-8")


def imported(module: str, name: str, extra: str) -> Any:
    """A package that a logger needs.

    Args:
        module: What is imported.
        name: The logger's name on the command line.
        extra: Of this package, which installs it.

    Raises:
        ValueError: If it is not installed, or broken; one line that says how to install it.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken binary package raises anything
        reason = str(error).partition("\n")[0]
        raise ValueError(f'log: {name} needs pip install "renderpretrain[{extra}]" ({reason})') from error
