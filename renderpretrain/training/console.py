"""What a run prints while it runs: a progress bar with the time left on a terminal, plain lines elsewhere."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from renderpretrain.runs.metrics import Row
from renderpretrain.terminal import printable

Report = Callable[[int, str], None]
"""``report(step, line)`` shows how many steps are done, and a line (empty for none)."""


class LossyStream(io.TextIOBase):
    """A stream that may go away, as a closed terminal or pipe does: the run goes on unheard.

    Args:
        stream: ``sys.stdout``, or what somebody has put in its place.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write to the stream as long as it is there."""
        with self._lost():
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream as long as it is there."""
        with self._lost():
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """The file descriptor of the stream."""
        return self.stream.fileno()

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Let what cannot be written go nowhere from now on, also at the interpreter's end."""
        try:
            yield
        except OSError:
            with suppress(OSError, ValueError):  # a stream without a descriptor has nothing to hold back
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)


@contextmanager
def progress_report(steps: int, *, quiet: bool) -> Iterator[Report]:
    """What a run calls to show its progress: a bar on a terminal, lines in a file or a pipe.

    Args:
        steps: Where the run ends.
        quiet: Every process but the main one.
    """
    console = Console(file=cast(TextIO, LossyStream(sys.stdout)))
    if quiet:
        yield lambda step, line: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("training", total=steps)

            def report(step: int, line: str) -> None:
                bar.update(task, completed=step)
                if line:
                    text = printable(f"[{step}/{steps}] {line}")
                    bar.console.print(text, highlight=False, markup=False)

            yield report
    else:
        yield _plain(steps)


def describe(row: Row) -> str:
    """One line of a row: names without their folders, four digits."""
    return "  ".join(
        f"{key.removeprefix('eval/')} {value:.4g}" for key, value in row.items() if key != "step"
    )


def _bar(console: Console) -> Progress:
    """The bar and its columns."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _plain(steps: int) -> Report:
    """Lines for a file or a pipe, each with the time left as the steps since the first line suggest."""
    began: list[tuple[float, int]] = []

    def report(step: int, line: str) -> None:
        now = time.monotonic()
        began.append((now, step)) if not began else None
        since, first = began[0]
        left = (now - since) / max(step - first, 1) * (steps - step)
        eta = f"  {left / 60:.0f} min left" if left >= 60 else ""
        if line:
            print(f"[{step}/{steps}] {line}{eta}", flush=True, file=LossyStream(sys.stdout))

    return report
