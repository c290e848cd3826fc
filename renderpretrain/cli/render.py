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
    from renderpretrain.cli.job import make_job, saved_job
    from renderpretrain.training import RunFolder, load_checkpoint, newest_checkpoint
    from renderpretrain.training.distributed import choose_device
    from renderpretrain.training.pictures import save_picture

    folder = RunFolder(run)
    saved = saved_job(run)
    job = make_job(str(saved.get("recipe")), {}, [], saved=saved)
    path = newest_checkpoint(folder.checkpoints)
    if path is None:
        raise ValueError(f"{run}: expected a checkpoint in {folder.checkpoints}, found none")
    state = load_checkpoint(path)
    dataset = job.open()
    index = frame if frame is not None else min(len(dataset) - job.holdout, len(dataset) - 1)
    if not 0 <= index < len(dataset):
        raise ValueError(f"frame: expected a number from 0 to {len(dataset) - 1}, got {index}")
    model = job.build()
    model.load_state_dict(state["model"])
    picture = folder.pictures / f"frame_{index:06d}.png"
    title = f"{job.recipe} {job.preset}, step {state['step']}, frame {index}"
    typer.echo(save_picture(model.to(choose_device(device)), dataset[index], picture, title=title))
