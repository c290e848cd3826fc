"""The transfer report: what of an encoder arrives in a host, key by key, and how much that is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Rows
from rich.text import Text

from renderpretrain.terminal import printable
from renderpretrain.transfer.layouts import Shape

WIDEST = 1000
"""Characters of a table where no terminal limits it."""


@dataclass(frozen=True)
class NormReport:
    """Constants of a part's batch norms, which no checkpoint carries.

    Attributes:
        ours: ``eps`` and momentum it was trained with.
        host: Those of the host's own configuration; ``None`` where it has none of its own.
    """

    ours: tuple[float, float]
    host: tuple[float, float] | None


@dataclass(frozen=True)
class PartReport:
    """One encoder on its way. Keys are those of the file that is written.

    Attributes:
        name: Ours, such as ``point_encoder``.
        module: What becomes of it.
        matched: Copied as they are.
        reshaped: The same numbers in another order.
        added: Only there; written as what does nothing.
        missing: There, but not here: they keep their initial values.
        unexpected: Written, but the other side has no such key.
        unused: Ours, by our keys, that have no place there.
        norm: Batch norm constants, if it has any.
        verified: Largest difference of outputs over the largest output, once compared.
        notes: What else to know.
    """

    name: str
    module: str
    matched: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    reshaped: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    added: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    missing: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    unexpected: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    unused: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    norm: NormReport | None = None
    verified: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def filled(self) -> int:
        """How many of the host's numbers the file fills."""
        return sum(map(_numbers, (self.matched, self.reshaped, self.added)))

    @property
    def expected(self) -> int:
        """Numbers the other side has."""
        return self.filled + _numbers(self.missing)


@dataclass(frozen=True)
class TransferReport:
    """What happened to all parts of an export or an import.

    Attributes:
        direction: Such as ``openpcdet (OpenPCDet)``.
        parts: Those that have a place there.
        unplaced: Parts that have none, with their kind.
        notes: What else to know.
    """

    direction: str
    parts: tuple[PartReport, ...]
    unplaced: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the other side's numbers, in the modules that are transferred, that are filled."""
        expected = sum(part.expected for part in self.parts)
        unexpected = sum(_numbers(part.unexpected) for part in self.parts)
        return sum(part.filled for part in self.parts) / max(expected + unexpected, 1)

    def check(self, min_match: int | float, why: str = "") -> None:
        """Refuse a transfer that leaves too much behind; ``why`` ends the line.

        Raises:
            ValueError: Naming the share, what was asked, and the first key that is missing.
        """
        if self.share < min_match:
            raise ValueError(
                f"{self.direction}: {self.share:.1%} of the parameters would be filled, --min-match asks for "
                f"{min_match:.0%}{self._first_gap()}{why}"
            )

    def _first_gap(self) -> str:
        """The first key that shows why."""
        for part in self.parts:
            for what, keys in (("missing", part.missing), ("unexpected", part.unexpected)):
                for key, shape in keys.items():
                    return f"; first {what}: {key} {shape}"
        return ""

    def as_tree(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        parts = [{**asdict(p), "filled": p.filled, "expected": p.expected} for p in self.parts]
        return {
            "direction": self.direction,
            "share": self.share,
            "parts": parts,
            "homeless": dict(self.unplaced),
            "notes": list(self.notes),
        }


def print_report(report: TransferReport, console: Console) -> None:
    """The report as a table of counts, and what did not simply match, by name.

    No heading is cut. Where there is no terminal, the table is as wide as its words.
    """
    _print_line(console, f"{report.direction}: {report.share:.1%} of the parameters")
    rows = _counts(report)
    if not console.is_terminal:
        rows.width = console.measure(rows, options=console.options.update(max_width=WIDEST)).maximum
    console.print(rows, crop=False)
    for part in report.parts:
        for what, keys in (
            ("missing", part.missing),
            ("unexpected", part.unexpected),
            ("unused", part.unused),
        ):
            _print_keys(console, what, keys)
        _print_norm(console, part)
    for name, kind in report.unplaced.items():
        _print_line(console, f"no place for {name} ({kind})")
    for note in (*(note for part in report.parts for note in part.notes), *report.notes):
        _print_line(console, f"note: {note}")


def _print_line(console: Console, line: str) -> None:
    """A line as it is: keys of a checkpoint may look like rich's markup, or hold control characters."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _counts(report: TransferReport) -> Rows:
    """How many tensors of every part go which way."""
    rows = Rows(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("part", overflow="fold")
    for column in ("matched", "reshaped", "added", "missing", "unexpected", "unused", "verified"):
        rows.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    for part in report.parts:
        groups = (part.matched, part.reshaped, part.added, part.missing, part.unexpected, part.unused)
        verified = "" if part.verified is None else f"{part.verified:.0e}"
        name = Text(printable(f"{part.name} -> {part.module}"))
        rows.add_row(name, *(str(len(g)) for g in groups), verified)
    return rows


def _print_keys(console: Console, what: str, keys: Mapping[str, Shape], most: int = 6) -> None:
    """The first few keys of a group."""
    for key in list(keys)[:most]:
        _print_line(console, f"{what}: {key} {keys[key]}")
    if len(keys) > most:
        _print_line(console, f"{what}: and {len(keys) - most} more")


def _print_norm(console: Console, part: PartReport) -> None:
    """Batch norm constants, where they differ."""
    if part.norm and part.norm.host and part.norm.ours != part.norm.host:
        _print_line(
            console, f"batch norm of {part.name}: eps, momentum {part.norm.ours} here, {part.norm.host} there"
        )


def _numbers(shapes: Mapping[str, Shape]) -> int:
    """How many numbers tensors hold; counters of batches do not count."""
    total = 0
    for key, shape in shapes.items():
        if not key.endswith(("num_batches_tracked", "relative_position_index")):
            size = 1
            for side in shape:
                size *= side
            total += size
    return total
