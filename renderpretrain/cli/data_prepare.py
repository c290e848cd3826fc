"""``renderpretrain data prepare``: a recording as one folder, or as shards for many machines."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

Flag = typer.Option


def prepare(
    data: Annotated[str, typer.Argument(help="A recording, NAME:PATH with its options.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    shards: Annotated[bool, Flag("--shards", help="Tar files of many frames, for shards:OUT.")] = False,
    shard_mb: Annotated[int, Flag(help="Megabytes of a shard.", min=1, max=2**20)] = 512,
    limit: Annotated[int | None, Flag(help="Only so many frames.", min=1)] = None,
    workers: Annotated[int, Flag(help="Processes that write.", min=0, max=256)] = 0,
    resume: Annotated[bool, Flag("--resume", help="Go on where it ended.")] = False,
    skip_bad: Annotated[bool, Flag("--skip-bad", help="Leave out frames that cannot be read.")] = False,
) -> None:
    """Write a recording as a scene folder or as shards; what is whole is never written again."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from renderpretrain.verbs import prepare as prepare_data

    columns = (TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("frames", total=None)
        count = prepare_data(
            data,
            out,
            shards=shards,
            shard_megabytes=shard_mb,
            limit=limit,
            workers=workers,
            resume=resume,
            skip_bad=skip_bad,
            # A path may hold what rich takes for colours.
            say=partial(bar.console.print, markup=False, highlight=False, soft_wrap=True),
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    typer.echo(f"{out}: {count} frames; read them with --data {'shards' if shards else 'folder'}:{out}")
