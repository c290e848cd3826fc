"""``renderpretrain view``: a run or a recording in a browser."""

from typing import Annotated

import typer

from renderpretrain.cli import completing


def view(
    target: Annotated[
        str,
        typer.Argument(
            help="A run folder, or data as for pretrain: synthetic, folder:PATH.",
            autocompletion=completing.complete_run,
        ),
    ],
    scene: Annotated[
        int | None, typer.Option(help="The first scene shown, from 0; of a run a held-out one.", min=0)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Scenes of a run to choose from: all, training or held-out.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines look.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Where to listen; 0 is any that is free.", min=0, max=65535)
    ] = 8080,
    device: Annotated[str, typer.Option(help="Where a run computes: auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Show a recording, or what a run hides, renders and says of it, in a browser. Ctrl-C ends it."""
    from renderpretrain.verbs.viewing import view as view_target

    view_target(target, scene=scene, split=split, host=host, port=port, device=device, say=typer.echo)
