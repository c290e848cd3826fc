"""``renderpretrain render``: a picture from a run's newest checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def render(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    frame: Annotated[int | None, typer.Option(help="Scene index; the first held-out one by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw input, masked input, rendering and error of one scene, and name the picture."""
    from renderpretrain.cli.job import trained
    from renderpretrain.training import RunFolder
    from renderpretrain.training.distributed import choose_device
    from renderpretrain.training.pictures import save_picture

    job, state = trained(run)
    dataset = job.open()
    index = frame if frame is not None else min(len(dataset) - job.holdout, len(dataset) - 1)
    if not 0 <= index < len(dataset):
        raise ValueError(f"frame: expected a number from 0 to {len(dataset) - 1}, got {index}")
    model = job.build()
    model.load_state_dict(state["model"])
    picture = RunFolder(run).pictures / f"frame_{index:06d}.png"
    title = f"{job.recipe} {job.preset}, step {state['step']}, frame {index}"
    typer.echo(save_picture(model.to(choose_device(device)), dataset[index], picture, title=title))
