"""A table that a spreadsheet opens: ``logs/metrics.csv``, one line a row."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from renderpretrain.runs.metrics import Row
from renderpretrain.storage.files import write_text


class CsvLogger:
    """Writes ``metrics.csv``: the rows of ``metrics.jsonl``, a column for every number there ever was.

    When a row brings a number that none before had, the table is written anew with that column.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.columns = ["step"]

    def open(self, folder: Path, about: Mapping[str, Any], rows: Sequence[Row]) -> str:
        """Write the rows that stay; see :class:`Logger`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.csv"
        self.columns = list(dict.fromkeys(["step", *(name for row in rows for name in row)]))
        self._write_all([{name: str(value) for name, value in row.items()} for row in rows])
        return f"csv: {self.path}"

    def on_step(self, step: int, row: Row) -> None:
        """Add a line; a number that is not finite leaves its cell empty."""
        if self.path is None:
            return
        cells = {name: str(value) for name, value in row.items() if math.isfinite(value)}
        new = [name for name in cells if name not in self.columns]
        if new:
            with open(self.path, newline="", encoding="utf-8") as file:
                before = list(csv.DictReader(file))
            self.columns += new
            self._write_all([*before, cells])
            return
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(cells)

    def on_evaluation(self, step: int, row: Row) -> None:
        """Add a line of what was measured between two steps."""
        self.on_step(step, row)

    def on_image(self, step: int, path: Path) -> None:
        """Leave pictures where they are: a table holds none."""

    def close(self) -> None:
        """Forget the file, in which everything has been written."""
        self.path = None

    def _write_all(self, lines: list[dict[str, str]]) -> None:
        """The whole table, which replaces what was there only when it is complete."""
        if self.path is None:
            return
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(lines)
        write_text(self.path, text.getvalue())

    def _writer(self, file: Any) -> Any:
        """What writes lines of all columns."""
        return csv.DictWriter(file, self.columns, restval="", lineterminator="\n")
