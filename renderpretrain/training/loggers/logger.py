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
            rows: Of a resumed run, the rows that stay: what was logged past them is to be forgotten.

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
