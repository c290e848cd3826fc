"""What a run prints while it runs: a progress bar with the time left on a terminal, plain lines elsewhere."""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Protocol, TextIO, cast, runtime_checkable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from renderpretrain.runs.metrics import Row
from renderpretrain.terminal import printable

Kind = Literal["step", "scores", "warning", ""]
"""What a line is about: the losses of a step, held-out scores, something that is wrong, or anything else."""

LONG = 600
"""Seconds that must be left for plain lines to say once at what time of the day the run ends."""

SETTLED = 20
"""Seconds after which the speed of a run is known well enough to say so."""


@runtime_checkable
class Report(Protocol):
    """What a run calls to show its progress."""

    def __call__(self, step: int, line: str, kind: Kind = "", *, loss: int | float | None = None) -> None:
        """Show how many steps are done, and a line.

        Args:
            step: Steps done.
            line: What there is to say; empty for nothing.
            kind: On a terminal the latest scores and all warnings stay in sight, below the bar.
            loss: Of the step, which stands in the bar.
        """


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
    # What guards the terminal has a stream beside it that lets pass what rich draws with.
    drawn_to = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    console = Console(file=cast(TextIO, LossyStream(drawn_to)))
    if quiet:
        yield _say_nothing
    elif console.is_terminal:
        status = Status(console, steps)
        with Live(console=console, get_renderable=status.renderable, refresh_per_second=4):
            yield status.report
    else:
        yield _plain(steps)


def describe(row: Row) -> str:
    """One line of a row: names without their folders, four digits."""
    return "  ".join(
        f"{key.removeprefix('eval/')} {value:.4g}" for key, value in row.items() if key != "step"
    )


class EndsColumn(ProgressColumn):
    """At what time of the day the run ends, once that is a minute or more away."""

    def render(self, task: Task) -> Text:
        """The time, empty where nothing is known yet."""
        left = task.time_remaining
        return Text("" if left is None or left < 60 else f"ends {clock_in(left)}")


class Status:
    """What a terminal shows of a run: lines that scroll, and below them what stays in sight.

    That is a bar with the current loss, the time left and when the run ends; the latest held-out scores; and
    every warning.

    Args:
        console: Where it is drawn.
        steps: Where the run ends.
    """

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps = console, steps
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            EndsColumn(),
            console=console,
        )
        self.task = self.bar.add_task("training", total=steps, loss="")
        self.scores = ""
        self.warnings: list[str] = []

    def report(self, step: int, line: str, kind: Kind = "", *, loss: int | float | None = None) -> None:
        """Show progress on the terminal; see :class:`Report`."""
        self.bar.update(self.task, completed=step)
        if loss is not None:
            self.bar.update(self.task, loss=f"loss {loss:.4g}")
        if not line:
            return
        text = printable(f"[{step}/{self.steps}] {line}")
        self.console.print(text, highlight=False, markup=False)
        if kind == "scores":
            self.scores = text
        elif kind == "warning":
            self.warnings.append(text)

    def renderable(self) -> Group:
        """The bar and what stands below it, each a line as wide as the terminal is."""
        lines = [Text(self.scores, no_wrap=True, overflow="ellipsis")] if self.scores else []
        return Group(self.bar, *lines, *(Text(warning, style="bold yellow") for warning in self.warnings))


def clock_in(seconds: int | float) -> str:
    """The time of the day in so many seconds, with the day where that is another one."""
    now, then = time.localtime(), time.localtime(time.time() + seconds)
    return time.strftime("%H:%M" if now[:3] == then[:3] else "%a %d %b, %H:%M", then)


def _say_nothing(step: int, line: str, kind: Kind = "", *, loss: int | float | None = None) -> None:
    """The report of a process that does not speak."""


def _plain(steps: int) -> Report:
    """Lines for a file or a pipe, each with the time left as the steps since the first one suggest.

    Of a long run one line more says when it ends.
    """
    began: list[tuple[float, int]] = []
    told: list[int] = []

    def report(step: int, line: str, kind: Kind = "", *, loss: int | float | None = None) -> None:
        now = time.monotonic()
        if kind == "step" and not began:  # before it networks are tried and scenes are scored
            began.append((now, step))
        since, first = began[0] if began else (now, step)
        left = (now - since) / max(step - first, 1) * (steps - step)
        eta = f"  {left / 60:.0f} min left" if left >= 60 else ""
        if line:
            print(f"[{step}/{steps}] {line}{eta}", flush=True, file=LossyStream(sys.stdout))
        if kind == "step" and left >= LONG and now - since >= SETTLED and not told:
            told.append(step)
            ends = f"[{step}/{steps}] at this speed the run ends at {clock_in(left)}"
            print(ends, flush=True, file=LossyStream(sys.stdout))

    return report
