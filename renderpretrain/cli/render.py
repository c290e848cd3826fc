"""``renderpretrain render``: a picture from a run's newest checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from renderpretrain.cli import completing

if TYPE_CHECKING:
    from torch import nn

    from renderpretrain.data import SceneDataset

RAYS_PER_SENSOR = 4096
"""Rays per camera, or per sweep without cameras, of a point cloud."""


CameraNames = Annotated[
    list[str] | None, typer.Option(help="Show this camera alone, by its name; several times for more.")
]
Picture = Annotated[
    Path | None, typer.Option(help="The picture, PNG; frame_*.png in the run's pictures by default.")
]


def render(
    run: Annotated[Path, typer.Argument(help="A run folder.", autocompletion=completing.complete_run)],
    frame: Annotated[int | None, typer.Option(help="Scene index; the first held-out one by default.")] = None,
    camera: CameraNames = None,
    out: Picture = None,
    mesh: Annotated[Path | None, typer.Option(help="Also write the surface, as a PLY file.")] = None,
    points: Annotated[Path | None, typer.Option(help="Also write rendered depth as points, PLY.")] = None,
    features: Annotated[Path | None, typer.Option(help="Also draw features before and after, PNG.")] = None,
    turntable: Annotated[Path | None, typer.Option(help="Also write the scene from all sides, GIF.")] = None,
    data: Annotated[str | None, typer.Option(help="As for pretrain; the run's own by default.")] = None,
    refine: Annotated[int, typer.Option(help="Steps of the mesh per voxel.", min=1)] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw input, masked input, rendering and error of one scene, and name what was written."""
    from renderpretrain.runs import RunFolder, read_run
    from renderpretrain.training import choose_device
    from renderpretrain.training.feature_pictures import save_features
    from renderpretrain.training.pictures import save_picture
    from renderpretrain.training.trained import fresh_recipe, load_recipe
    from renderpretrain.training.turntable import save_turntable
    from renderpretrain.verbs.scenes import scenes_of

    _check_files({"out": out, "mesh": mesh, "points": points, "features": features, "turntable": turntable})
    read = read_run(run).checked()
    job = read.description
    dataset, held_out = scenes_of(job, data, say=typer.echo)
    index = frame if frame is not None else min(len(dataset) - held_out, len(dataset) - 1)
    if not 0 <= index < len(dataset):
        raise ValueError(f"frame: expected a number from 0 to {len(dataset) - 1}, got {index}")
    model = load_recipe(read, choose_device(device), say=typer.echo).eval()
    picture = out or RunFolder(run).pictures / f"frame_{index:06d}.png"
    title = f"{job.title}, step {read.step}, frame {index}"
    typer.echo(save_picture(model, dataset[index], picture, title=title, cameras=camera or ()))
    for written in _write_shapes(model, dataset, index, mesh, points, refine):
        typer.echo(written)
    if features:
        fresh = fresh_recipe(job, choose_device(device)).eval()
        typer.echo(save_features(fresh, model, dataset[index], features, title=title))
    if turntable:
        typer.echo(save_turntable(model, dataset[index], turntable))


def _check_files(files: dict[str, Path | None]) -> None:
    """Refuse files that cannot be written, by the flags that name them, before anything is computed."""
    from renderpretrain.storage import check_target
    from renderpretrain.viz.animation import check_animation
    from renderpretrain.viz.mesh import marching_cubes

    told = {name: path for name, path in files.items() if path is not None}
    seen: dict[Path, str] = {}
    for name, path in told.items():
        check_target(name, path)
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            raise ValueError(f"{name}: expected another file than the {other}'s, got {path}")
    for name in ("out", "features"):
        if name in told and told[name].suffix.lower() != ".png":
            raise ValueError(f"{name}: expected a file that ends in .png, got {told[name]}")
    if "turntable" in told:
        check_animation("turntable", told["turntable"])
    if "mesh" in told:
        marching_cubes()  # that it is missing is found before anything is computed


def _write_shapes(
    model: "nn.Module",
    dataset: "SceneDataset",
    index: int,
    mesh: Path | None,
    points: Path | None,
    refine: int,
) -> Iterator[Path]:
    """Write what was asked for, of whole inputs; points first, for there may be no surface."""
    import torch

    from renderpretrain.recipes.recipe import HasSurface, RendersRays, lacking
    from renderpretrain.recipes.rendering import render_parts
    from renderpretrain.training.order import held_out_batch
    from renderpretrain.viz import extract_mesh, rendered_points, write_ply

    if not mesh and not points:
        return
    if not isinstance(model, RendersRays):
        raise lacking(model, RendersRays, "a point cloud")
    with torch.no_grad():
        batch = held_out_batch(dataset, index).to(next(model.parameters()).device)
        volume = model.encode(batch)
        if points:
            rays = model.targets(batch, RAYS_PER_SENSOR).rays
            yield write_ply(points, rendered_points(list(render_parts(model, volume, rays)), rays))
        if mesh:
            if not isinstance(model, HasSurface):
                raise lacking(model, HasSurface, "a mesh")
            yield write_ply(mesh, extract_mesh(model.surface_field(), volume, refine=refine))
