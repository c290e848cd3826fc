"""Writes ``docs/results.md`` from ``docs/results/*.json``: ``python benchmarks/results_page.py``.

A file says what was measured (``title``, ``what``), ``date``, ``commit``, ``machine``, the ``commands`` that
make it again, ``caveats``, and ``tables`` of ``columns`` and ``rows``. A cell is a text, a number, ``null``
where nothing was measured, a list of one number per seed, or their ``mean`` and ``std``. ``pictures`` are
files below ``docs`` with a line of text.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
ABOUT = """# Results

What was measured, the newest first, each with the commands that make it again. Every figure is kept in
`docs/results/`; `python benchmarks/results_page.py` makes this page of it. What operators and steps cost:
[What things cost](../benchmarks/README.md).
"""
BETWEEN = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
"""A mean and its deviation, which stay on one line."""


def read_results(folder: Path = DOCS / "results") -> list[dict[str, Any]]:
    """What the files say, the newest first; ``file`` is the name of each."""
    found = [json.loads(path.read_text()) | {"file": path.name} for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda result: result["date"], reverse=True)


def cell(value: Any, digits: int | None) -> str:
    """A cell as the page shows it; numbers of seeds as their mean and standard deviation.

    Args:
        value: Of the file.
        digits: Behind the point of a number that is not whole; by default as many as the file has.
    """
    if isinstance(value, list):
        value = {"mean": statistics.mean(value), "std": statistics.stdev(value)}
    if isinstance(value, dict):
        return f"{value['mean']:.3f}{BETWEEN}{value['std']:.3f}"
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}f}"
    return "" if value is None else str(value)


def table(described: dict[str, Any], rows: Sequence[Sequence[Any]] | None = None) -> str:
    """A table of Markdown, below its caption; of some of its rows if they are given."""
    lines = [described["columns"], ["---"] * len(described["columns"])]
    shown = described["rows"] if rows is None else rows
    lines += [[cell(value, described.get("digits")) for value in row] for row in shown]
    caption = described.get("caption", "")
    return (caption + "\n\n" if caption else "") + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(result: dict[str, Any]) -> str:
    """What one file says: its words, its tables, its pictures, how it was made."""
    parts = [f"## {result['title']}", result["what"], *map(table, result["tables"])]
    parts += [f"![{p['text']}]({p['file']})" for p in result.get("pictures", [])]
    parts += ["\n".join(f"- {caveat}" for caveat in result.get("caveats", []))]
    commit, file = result["commit"], result["file"]
    commit = commit if isinstance(commit, str) else ", ".join(f"{k} {v}" for k, v in commit.items())
    runs = {1: "one pre-training run each"}.get(
        result["pretraining_runs"], f"{result['pretraining_runs']} runs"
    )
    about = [f"{result['date']}, {result['machine']}", runs, commit, f"[{file}](results/{file})"]
    parts += ["; ".join(about) + "."]
    parts += ["```\n" + "\n".join(result["commands"]) + "\n```"]
    return "\n\n".join(part for part in parts if part)


def page(results: list[dict[str, Any]]) -> str:
    """The whole page."""
    return "\n".join([ABOUT, *(section(result) + "\n" for result in results)])


if __name__ == "__main__":
    (DOCS / "results.md").write_text(page(read_results()))
