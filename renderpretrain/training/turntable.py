"""A rendered scene from all sides: a camera circles above it, and looks at its middle."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene
from renderpretrain.data.batch import collate
from renderpretrain.geometry import Cameras, Rays, VoxelGrid
from renderpretrain.recipes.recipe import Recipe, Volume, lacking
from renderpretrain.recipes.rendering import render_view
from renderpretrain.training.order import held_out_seeds
from renderpretrain.viz.animation import save_animation
from renderpretrain.viz.colors import HEIGHT_STOPS, depth_colors, ramp
from renderpretrain.viz.views import View, camera_view

FRAMES = 24
SIZE = (112, 192)
"""Height and width of a frame, pixels: 24 of them take half a minute on one core."""

ELEVATION = 35.0
"""Degrees that the camera stands above its middle."""

FIELD_OF_VIEW = 60.0
"""Degrees across."""

DISTANCE = 0.8
"""From the camera to the middle, by half the shorter side of the grid's ground."""

RAYS_AT_ONCE = 4096
OPAQUE = 0.5
"""Depth and height are drawn where a ray's opacity is more."""

SUN = (0.36, 0.28, 0.89)
"""Unit direction that heights are lit from."""


@dataclass(frozen=True)
class Look:
    """What one frame shows, before it has colours.

    Attributes:
        depth: Distances along the rays, metres.
        opaque: Where a ray meets something.
        heights: Where it ends, z in metres.
        rgb: Its colour, where the field has one.
        normals: Of what it meets, where the field has a surface.
    """

    depth: Float[Tensor, "h w"]
    opaque: Bool[Tensor, "h w"]
    heights: Float[Tensor, "h w"]
    rgb: Float[Tensor, "3 h w"] | None
    normals: Float[Tensor, "3 h w"] | None


@torch.no_grad()
def save_turntable(
    recipe: nn.Module, scene: Scene, path: Path, *, frames: int | None = None, size: tuple[int, int] = SIZE
) -> Path:
    """Write an animation of what a recipe makes of a whole scene: colour, distance, and height.

    A recipe whose field has no colour shows the other two. Of a room what is above its cameras is cut away.
    The scales of colours are the same in all frames.

    Args:
        recipe: A :class:`~renderpretrain.recipes.Recipe`; its mode is left as found.
        scene: What is shown, with nothing hidden.
        path: Ends in ``.gif``, or in ``.mp4`` where there is ffmpeg.
        frames: Places of the camera, evenly around; :data:`FRAMES` by default.
        size: Height and width of a picture, pixels.

    Raises:
        ValueError: If it is no recipe, or the file's suffix is not known.
    """
    if not isinstance(recipe, Recipe):
        raise lacking(recipe, Recipe, "a turntable")
    mode, device = recipe.training, next(recipe.parameters()).device
    recipe.eval()
    batch = collate([scene], held_out_seeds(0)).to(device)
    volume = recipe.encode(batch)
    cut = _cut(batch) if scene.z_depths is not None else None
    cameras = circling(recipe.grid, _ground(batch, recipe.grid), frames or FRAMES, size)
    looks = [_look(recipe, volume, cameras[n].to(device), cut) for n in range(*cameras.shape)]
    recipe.train(mode)
    return save_animation(path, panels(looks))


def circling(grid: VoxelGrid, ground: float, frames: int, size: tuple[int, int]) -> Cameras:
    """Cameras on a circle above a grid, all looking at the middle of its ground.

    Args:
        grid: What is looked at.
        ground: Height of the ground, metres.
        frames: How many.
        size: Height and width of their pictures, pixels.
    """
    height, width = size
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    middle = torch.cat([((lower + upper) / 2)[:2], torch.tensor([ground])])
    away = DISTANCE * float((upper - lower)[:2].min()) / 2
    turn, rise = torch.arange(frames) * (2 * math.pi / frames), math.radians(ELEVATION)
    back = torch.stack(
        [turn.cos() * math.cos(rise), turn.sin() * math.cos(rise), turn * 0 + math.sin(rise)], -1
    )
    right = torch.stack([-turn.sin(), turn.cos(), turn * 0], -1)
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, :3, 0], poses[:, :3, 2] = right, -back
    poses[:, :3, 1] = torch.linalg.cross(-back, right)
    poses[:, :3, 3] = middle + away * back
    focal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Cameras(intrinsics.expand(frames, 3, 3), poses, size)


def panels(looks: list[Look]) -> list[list[tuple[str, Tensor]]]:
    """The pictures of all frames, on scales that are common to them."""
    opaque = torch.stack([look.opaque for look in looks])
    depths = torch.stack([look.depth for look in looks])[opaque]
    heights = torch.stack([look.heights for look in looks])[opaque]
    near, far = (_quantile(depths, share, 1.0) for share in (0.01, 0.99))
    low, high = (_quantile(heights, share, 0.0) for share in (0.02, 0.98))
    bright = _quantile(
        torch.cat([look.rgb.flatten() for look in looks if look.rgb is not None] or [depths]), 0.99, 1.0
    )
    shown = []
    for look in looks:
        pictures = []
        if look.rgb is not None:
            pictures.append(
                (
                    f"rendered colour, {1 / max(bright, 0.05):.1f} times as bright",
                    look.rgb / max(bright, 0.05),
                )
            )
        depth = depth_colors(look.depth, look.opaque, near=max(near, 0.1), far=max(far, near + 0.1))
        pictures.append((f"rendered depth, {near:.0f} to {far:.0f} m", depth))
        pictures.append((f"height, {low:+.1f} to {high:+.1f} m", _lit_heights(look, low, high)))
        shown.append(pictures)
    return shown


def _look(recipe: Recipe, volume: Volume, camera: Cameras, cut: float | None) -> Look:
    """What one camera sees, of what is below a height."""
    view = camera_view(camera, 1)
    passed = torch.zeros_like(view.rays.origins[:, 0])
    if cut is not None:
        origins, directions = view.rays.origins, view.rays.directions
        fall = (-directions[:, 2]).clamp(min=1e-6)
        passed = ((origins[:, 2] - cut).clamp(min=0) / fall).clamp(max=1e4)
        view = View(Rays(origins + passed[:, None] * directions, directions), view.shape)
    parts = list(render_view(recipe, volume, view, at_once=RAYS_AT_ONCE))
    depth, opacity = (torch.cat([getattr(part, name)[0] for part in parts]) for name in ("depth", "opacity"))
    ends = view.rays.at(depth[:, None])[:, 0]

    def image(values: list[Tensor | None]) -> Tensor | None:
        there = [value[0] for value in values if value is not None]
        return torch.cat(there).T.reshape(3, *view.shape).float().cpu() if there else None

    return Look(
        (depth + passed).view(view.shape).float().cpu(),
        (opacity > OPAQUE).view(view.shape).cpu(),
        ends[:, 2].view(view.shape).float().cpu(),
        image([part.rgb for part in parts]),
        image([part.normals for part in parts]),
    )


def _lit_heights(look: Look, low: float, high: float) -> Float[Tensor, "3 h w"]:
    """Heights in colours, lit from above where there are normals; black where nothing is."""
    place = ((look.heights - low) / max(high - low, 1e-3)).clamp(0, 1)
    colors = ramp(place, HEIGHT_STOPS) * look.opaque
    if look.normals is None:
        return colors
    light = (look.normals * torch.tensor(SUN)[:, None, None]).sum(0).clamp(min=0)
    return colors * (0.4 + 0.6 * light)


def _quantile(values: Tensor, share: float, otherwise: float) -> float:
    """A quantile of any number of values."""
    if not len(values):
        return otherwise
    return float(values.sort().values[round(share * (len(values) - 1))])


def _ground(batch: Batch, grid: VoxelGrid) -> float:
    """The height that most returns have: the middle one; the grid's own middle without points."""
    heights = batch.points.xyz[0, batch.points.valid[0], 2]
    return float(heights.median()) if len(heights) else (grid.lower[2] + grid.upper[2]) / 2


def _cut(batch: Batch) -> float | None:
    """The height of the cameras."""
    views = batch.views
    return None if views is None else float(views.cameras.centers[0, views.valid[0], 2].mean())
