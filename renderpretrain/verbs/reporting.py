"""``report``: the page of a run, of several, and of one that goes on."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from renderpretrain.report import write_report
from renderpretrain.runs import PrintLine
from renderpretrain.terminal import printable


def report(runs: Path | str | Sequence[Path | str], *, out: Path | str | None = None) -> Path:
    """Write one HTML page of a run, or of several side by side, as ``renderpretrain report`` does.

    Args:
        runs: A run folder, or several.
        out: The file; by default ``report.html`` in the folder of one run, and beside the first of several.

    Returns:
        Where the page is.

    Raises:
        ValueError: If a folder is none of a run, or the page cannot be written there.
        OSError: If it cannot be written.
    """
    return write_report([runs] if isinstance(runs, Path | str) else list(runs), out)


def say_what_is_wrong(line: str) -> None:
    """Write a warning where errors are written."""
    sys.stderr.write(printable(line) + "\n")


def refresh_report(run: Path, warn: PrintLine = say_what_is_wrong) -> None:
    """Write the page of a run whose folder holds more than before; where that fails is one warning."""
    RunningPage(run, warn).refresh()


SHARE = 0.02
"""Of a run's time that writing its page may take."""


class RunningPage:
    """The page of a run that goes on, written again and again; a page that cannot be is one warning.

    A page of a long run takes a while: it is written as seldom as makes that :data:`SHARE` of the run's time.

    Attributes:
        run: The run's folder.
        warn: Told the first time that it cannot be written.
        is_begun: Whether it was to be written before: the folder is the run's then.
    """

    def __init__(self, run: Path, warn: PrintLine) -> None:
        self.run, self.warn, self.is_begun = run, warn, False
        self._has_warned = self._is_due = False
        self._not_before = 0.0

    def refresh(self, *_: object) -> None:
        """Write the page of what is in the folder now, or as soon as it is time again; raises nothing."""
        self.is_begun = self._is_due = True
        self.catch_up()

    def catch_up(self, *_: object) -> None:
        """Write the page that :meth:`refresh` left out, if it is time; raises nothing."""
        if self._is_due and time.monotonic() >= self._not_before:
            self._write()

    def finish(self) -> None:
        """Write it once more, if the run ever began, of a run that does not go on."""
        if self.is_begun:
            self._write()

    def _write(self) -> None:
        """Write the page, and see how long that takes."""
        began, self._is_due = time.monotonic(), False
        try:
            write_report([self.run])
        except Exception as error:
            if not self._has_warned:
                said = " ".join(str(error).split()) or type(error).__name__
                self.warn(f"warning: no report of {self.run}: {said}")
            self._has_warned = True
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / SHARE
