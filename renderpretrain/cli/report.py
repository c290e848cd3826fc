"""``renderpretrain report``: run folders in, one HTML page out."""

from pathlib import Path
from typing import Annotated

import typer

from renderpretrain.cli import completing


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Run folders.",
            show_default=False,
            autocompletion=completing.complete_run,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the folder of one run, beside the first of several."),
    ] = None,
) -> None:
    """Write one HTML page: what was run, curves, pictures, scores; several runs side by side."""
    from renderpretrain.verbs.reporting import report as write

    typer.echo(f"report     {write(runs, out=out)}")
