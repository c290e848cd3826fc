"""``renderpretrain data``: what a recording holds, what is wrong with it, and recordings that are made."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from renderpretrain.cli.data_maps import maps
from renderpretrain.cli.data_prepare import prepare

data = typer.Typer(help="Look at recordings, check, prepare and make them.", no_args_is_help=True)

MANY = 50
"""Problems of a recording that are listed."""

Flag = typer.Option
Spec = Annotated[str, typer.Argument(help="NAME:PATH with its options, several joined by +; or a folder.")]
"""As ``--data`` of pretrain has it; a path alone is a folder with frames.json."""


class Kind(StrEnum):
    """What there is to simulate."""

    street = "street"
    room = "room"
    night = "room-night"


@data.callback()
def verbs() -> None:
    """Look at recordings, check, prepare and make them."""


data.command()(prepare)
data.command()(maps)


@data.command("inspect")
def inspect(
    spec: Spec,
    frame: Annotated[int, Flag(help="The scene that is drawn, from 0.", min=0)] = 0,
    out: Annotated[Path | None, Flag(help="Draw a scene: points on pictures, view from above, PNG.")] = None,
) -> None:
    """Tell what a recording holds, and by how many degrees each camera seems to be turned."""
    from renderpretrain.storage import check_target
    from renderpretrain.verbs import inspect as inspect_data

    if out is not None:
        check_target("out", out)
    inspect_data(spec, frame=frame, out=out, say=typer.echo)


@data.command("check")
def check(
    spec: Spec,
    workers: Annotated[
        int | None, Flag(help="Frames read at the same time; one a processor by default.", min=1, max=256)
    ] = None,
) -> None:
    """Open every frame once; list every problem, and what could not be tested. Exits with 1 for a problem."""
    from renderpretrain.data.checking import check_data

    wrong = False
    for name, found in check_data(spec, workers=workers):
        problems = found.problems
        wrong = wrong or bool(problems)
        _print_problems(problems)
        for note in found.notes:
            typer.echo(f"note       {note}")
        typer.echo(
            f"{name}: {len(problems) or 'no'} problem{'s' * (len(problems) > 1)} found{_noted(found.notes)}"
        )
    if wrong:
        raise typer.Exit(1)


def _noted(notes: list[str]) -> str:
    """How many notes there are."""
    return f", {len(notes)} note{'s' * (len(notes) > 1)}" if notes else ""


def _print_problems(problems: list[str]) -> None:
    """The first kinds of problems, and how many more there are."""
    from renderpretrain.data.folder.grouping import grouped

    lines = grouped(problems)
    for line in lines[:MANY]:
        typer.echo(f"problem    {line}")
    if len(lines) > MANY:
        typer.echo(f"problem    and {len(lines) - MANY} more")


@data.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    kind: Annotated[Kind, Flag(help="What is simulated.")] = Kind.street,
    scenes: Annotated[int, Flag(help="How many.", min=1)] = 8,
    frames_per_street: Annotated[int, Flag(help="Consecutive scenes of one street.", min=1)] = 1,
    image_size: Annotated[
        tuple[int, int] | None, Flag(help="Height and width of the pictures, pixels.")
    ] = None,
    seed: Annotated[int, Flag(help="Another seed, other scenes.")] = 0,
) -> None:
    """Write synthetic scenes as a scene folder."""
    from renderpretrain.data.synthetic.written import write_synthetic

    write_synthetic(
        out,
        kind=kind.value,
        scenes=scenes,
        frames_per_street=frames_per_street,
        image_size=image_size,
        seed=seed,
    )
    typer.echo(f"{out}: {scenes} scenes; read them with --data folder:{out}")
