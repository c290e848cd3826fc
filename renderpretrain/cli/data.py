"""``renderpretrain data``: what a recording holds, and what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderpretrain.cli.data_prepare import prepare

if TYPE_CHECKING:
    from renderpretrain.data import Scene, SceneFolder

data = typer.Typer(help="Look at recordings.", no_args_is_help=True)

LOOKED_AT = 8
"""Scenes whose numbers are told."""

PICTURE_SIZE = (180, 320)
"""Height and width of a camera's picture on the sheet, pixels."""

MANY = 50
"""Problems that are listed."""


@data.callback()
def verbs() -> None:
    """Look at recordings and check them."""


data.command("prepare")(prepare)


@data.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="A folder with frames.json.")],
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the first scene's points on its pictures, PNG.")
    ] = None,
    outside: Annotated[
        bool, typer.Option("--outside", help="frames.json may name files outside of the folder.")
    ] = False,
) -> None:
    """Read all of a recording; print what it holds and every problem. Exits with 1 where there is one."""
    from renderpretrain.data import SceneFolder, validate_scene_folder
    from renderpretrain.storage import check_target

    if picture is not None:
        check_target("picture", picture)
    problems = validate_scene_folder(path, outside=outside)
    try:
        folder = SceneFolder(path, image_size=PICTURE_SIZE, outside=outside)
        for line in _counts(folder):
            typer.echo(line)
        if picture is not None:
            typer.echo(f"picture    {_draw(folder[0], picture)}")
    except ValueError as error:
        if not problems:
            problems = [str(error)]
    if problems:
        _print_problems(problems)
        raise typer.Exit(1)
    typer.echo("no problem found")


def _print_problems(problems: list[str]) -> None:
    """The first problems, and how many more there are."""
    for problem in problems[:MANY]:
        typer.echo(f"problem    {problem}")
    if len(problems) > MANY:
        typer.echo(f"problem    and {len(problems) - MANY} more")


def _counts(folder: "SceneFolder") -> Iterator[str]:
    """What there is, in numbers."""
    places = {round(k * (len(folder) - 1) / max(LOOKED_AT - 1, 1)) for k in range(LOOKED_AT)}
    scenes = [folder[place] for place in sorted(places)]
    yield f"format     {folder.index.format}, {len(folder.index.frames)} frames, {len(folder)} scenes"
    yield f"looked at  {len(scenes)} scenes, evenly over all"
    names = list(dict.fromkeys(name for scene in scenes for name in scene.camera_names))
    if folder.image_size is not None and names:
        yield f"pictures   {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
    if len(folder.class_names) > 1:
        yield f"classes    {', '.join(folder.class_names)}"
    counts = [len(scene.points) for scene in scenes]
    yield f"points     {min(counts):,} to {max(counts):,} a scene"
    if max(counts):
        yield from _ranges(scenes)


def _ranges(scenes: list["Scene"]) -> Iterator[str]:
    """Where the points of some scenes lie, and their values."""
    import numpy as np
    import torch

    points = torch.cat([scene.points for scene in scenes])
    for column, name in enumerate(("x [m]", "y [m]", "z [m]", "intensity")):
        low, middle, high = np.percentile(points[:, column].numpy(), (1, 50, 99))
        yield f"{name:<11}{low:.2f} to {high:.2f} but for 1 % on either side, median {middle:.2f}"
    distances = torch.cat([(scene.points[:, :3] - scene.lidar_origin).norm(dim=-1) for scene in scenes])
    yield f"distance   {float(distances.min()):.2f} to {float(distances.max()):.2f} m from where rays start"
    depths = [scene.z_depths[scene.z_depth_valid] for scene in scenes if scene.z_depths is not None]
    if depths:
        depth = torch.cat(depths)
        yield f"depth      {float(depth.min()):.2f} to {float(depth.max()):.2f} m"


def _draw(scene: "Scene", path: Path) -> Path:
    """The points of a scene on all its pictures, one below the other."""
    from renderpretrain.viz import points_on_image, save_sheet

    if scene.images is None or scene.cameras is None:
        raise ValueError(f"picture: expected pictures to draw on, got none in scene {scene.name}")
    rows = []
    for number, name in enumerate(scene.camera_names):
        image, camera = scene.images[number], scene.cameras[number]
        drawn = points_on_image(image, camera, scene.points[:, :3])
        rows.append((name, [("picture", image), ("points", drawn)]))
    return save_sheet(path, scene.name, rows, height=2 * PICTURE_SIZE[0])
