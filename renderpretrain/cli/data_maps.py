"""``renderpretrain data maps``: what a teacher says of a run's images, on the disk before the run."""

from pathlib import Path
from typing import Annotated

import typer

from renderpretrain.cli import completing

Flag = typer.Option
AS_THE_RUN = "As the run has it."

Recipe = Annotated[str, Flag(help="That will read them.", autocompletion=completing.complete_recipe)]
Preset = Annotated[str | None, Flag(help=AS_THE_RUN, autocompletion=completing.complete_preset)]
Data = Annotated[str | None, Flag(help=AS_THE_RUN, autocompletion=completing.complete_data)]


def maps(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    teacher: Annotated[str, Flag(help="A network on images of yours, package.module:factory.")],
    recipe: Recipe = "render-distill-lidar",
    preset: Preset = None,
    data: Data = None,
    scenes: Annotated[int | None, Flag(help=AS_THE_RUN, min=1)] = None,
    holdout: Annotated[int | None, Flag(help=AS_THE_RUN, min=0)] = None,
    set_: Annotated[list[str] | None, Flag("--set", help=AS_THE_RUN)] = None,
    config: Annotated[Path | None, Flag(help=AS_THE_RUN)] = None,
    channels: Annotated[int, Flag(help="Main directions that are kept of every layer.", min=1)] = 64,
    device: Annotated[str, Flag(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Write a teacher's features of every image that a run will see; interrupted, it goes on."""
    from renderpretrain.runs.settings import parse_assignment
    from renderpretrain.verbs import write_teacher_maps

    stored = write_teacher_maps(
        out,
        teacher,
        recipe,
        preset=preset,
        data=data,
        scenes=scenes,
        holdout=holdout,
        settings=[parse_assignment(text) for text in set_ or []],
        config=config,
        channels=channels,
        device=device,
        say=typer.echo,
    )
    widths = " and ".join(map(str, stored.channels))
    typer.echo(
        f"{out}: maps of {widths} channels; `renderpretrain pretrain {recipe} --set teacher.maps={out}` with "
        "the same data reads them"
    )
