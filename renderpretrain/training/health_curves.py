"""How the health of a run's features went, as one sheet of curves."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from renderpretrain.runs.collapse import levels_of, norms_of
from renderpretrain.runs.metrics import Row
from renderpretrain.training.health import Health
from renderpretrain.viz.plots import Line, Plot, save_plots

Read = Callable[[Row], int | float]
"""From the numbers of one level to a point of its curve."""


def save_health_curves(path: Path, rows: Sequence[Row], latest: Mapping[str, Health], *, title: str) -> Path:
    """Write the curves of a run: rank, spread and dead channels over the steps, and the last spectrum.

    With a plot of every encoder's gradients where these were measured.

    Args:
        path: The PNG; its folder is made.
        rows: Of ``metrics.jsonl``.
        latest: What the last look has found, by level.
        title: First line of the sheet.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    spectra = [
        Line(name, range(1, health.channels + 1), list(accumulate(health.variances)))
        for name, health in latest.items()
    ]
    curves = (
        (
            "directions used (RankMe), share of the width",
            (0.0, 1.02),
            lambda found: found["rank"] / found["channels"],
        ),
        ("spread of directions (unit_std), 1 is even", (0.0, None), lambda found: found["unit_std"]),
        ("share of dead channels", (-0.02, 1.02), lambda found: found["dead"]),
    )
    plots = [Plot(name, "step", _level_lines(rows, read), limits) for name, limits, read in curves]
    plots.insert(
        1, Plot("variance in the first directions, last look", "directions", spectra, (0.0, 1.02), "x")
    )
    plots += [
        Plot(f"gradient of each term on {encoder}", "step", lines, log="y")
        for encoder, lines in _gradient_lines(rows).items()
    ]
    return save_plots(path, title, plots)


def _level_lines(rows: Sequence[Row], read: Read) -> list[Line]:
    """A line for each level, of what is read of its numbers."""
    points: dict[str, dict[int | float, int | float]] = {}
    for row in rows:
        for level, found in levels_of(row).items():
            points.setdefault(level, {})[row["step"]] = read(found)
    return [Line(level, list(of), list(of.values())) for level, of in points.items()]


def _gradient_lines(rows: Sequence[Row]) -> dict[str, list[Line]]:
    """A line for each term, by encoder; terms that do not move it are left out."""
    points: dict[str, dict[str, dict[int | float, int | float]]] = {}
    for row in rows:
        for encoder, norms in norms_of(row).items():
            for term, norm in norms.items():
                if norm > 0:
                    points.setdefault(encoder, {}).setdefault(term, {})[row["step"]] = norm
    return {
        encoder: [Line(term, list(of), list(of.values())) for term, of in terms.items()]
        for encoder, terms in points.items()
    }
