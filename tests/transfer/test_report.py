"""The transfer report is read whole: nothing of it is cut, whatever a console's width."""

import io
import re

import pytest
from rich.console import Console

from renderpretrain.transfer import PartReport, TransferReport, print_report

HEADINGS = ["part", "matched", "reshaped", "added", "missing", "unexpected", "unused", "verified"]
LONG = "SparseEncoder, or a module whose name goes on for more than a line of any terminal there is: " * 2
REPORT = TransferReport(
    "a host (with a long title that a narrow console would break in the middle of a word)",
    (PartReport("point_encoder", LONG, matched={"a": (3,)}, missing={"b": (2,)}, verified=1e-6),),
)


def said(console):
    print_report(REPORT, console)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 80, 140])
def test_without_a_terminal_every_part_is_one_line(width):
    lines = said(Console(file=io.StringIO(), width=width))
    assert lines[0].startswith(REPORT.direction) and lines[0].endswith("60.0% of the parameters")
    assert lines[1].split() == HEADINGS
    (row,) = [line for line in lines if line.startswith("point_encoder -> ")]
    assert LONG.strip() in row and row.split()[-7:] == ["1", "0", "0", "1", "0", "0", "1e-06"]


def test_a_terminal_folds_names_and_keeps_headings():
    lines = said(Console(file=io.StringIO(), width=80, force_terminal=True))
    assert lines[1].split() == HEADINGS
    assert all(len(line) <= 80 for line in lines[1:-1])
