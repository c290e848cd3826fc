"""The page as a file, which takes the place of nothing but an earlier page."""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from renderpretrain.report.page import GENERATOR, report_page
from renderpretrain.runs.folder import RunFolder
from renderpretrain.runs.record import read_record
from renderpretrain.storage import check_target, write_text


def write_report(runs: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the page of some runs.

    Args:
        runs: Folders, at least one.
        out: The file; by default ``report.html`` in the folder of one run, and beside the first of several.

    Returns:
        Where it was written.

    Raises:
        ValueError: If a folder is none of a run, or the file cannot be written there or is something else.
        OSError: If it cannot be written.
    """
    if not runs:
        raise ValueError("runs: expected at least one run folder, got none")
    records = [read_record(run) for run in runs]
    first = RunFolder(Path(runs[0]))
    path = Path(out) if out is not None else first.report
    if out is None and len(runs) > 1:
        path = first.path.resolve().parent / first.report.name
    check_page(path)
    page = report_page(records, written=datetime.now(timezone.utc).astimezone())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)
    return path


def check_page(path: Path) -> None:
    """Refuse a file that cannot be written, is called otherwise than a page, or is none of ours.

    Raises:
        ValueError: Naming what is wrong.
    """
    check_target("out", path)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"out: expected a name that ends in .html, got {path}")
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as file:
            if GENERATOR not in file.read(1000):
                raise ValueError(
                    f"out: expected a new file or an earlier report, got {path}, which is neither"
                )
