"""What a recipe makes of a moment: what it sees and what not, what it renders, and what its encoders say."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene
from renderpretrain.data.occupancy import label_occupancy
from renderpretrain.geometry import VoxelGrid
from renderpretrain.masking import hide_patches
from renderpretrain.recipes.features import FeaturePalette, Features, feature_picture, scene_batch
from renderpretrain.recipes.recipe import (
    HasSurface,
    Hidden,
    Recipe,
    Volume,
    lacking,
)
from renderpretrain.recipes.rendering import refined, render_view
from renderpretrain.viewer.contents import (
    Cells,
    Cloud,
    Contents,
    Layer,
    PicturedCamera,
    pictured_camera,
    rgb_bytes,
    value_colors,
)
from renderpretrain.viewer.recording import POINT_SHARE, cells_by_height, recording_contents
from renderpretrain.viz import depth_colors, extract_mesh
from renderpretrain.viz.views import View, camera_view, range_view

RAYS = 12_000
"""Rays that are rendered of a scene, shared by its cameras; some seconds of one core."""

RAYS_AT_ONCE = 4096
OPAQUE = 0.5
"""Rendered points and pictures of depth hold rays with more opacity."""

HIDDEN, VISIBLE = (235, 120, 50), (110, 150, 190)
"""Colours of voxels that the encoder does not see, and of those that it does."""


@dataclass(frozen=True)
class Seen:
    """A scene as a recipe saw it, and what it made of it.

    Attributes:
        scene: The moment.
        batch: The same, with the cameras where the recipe believes them to be.
        hidden: What the encoder did not see.
        volume: Of the rest.
    """

    scene: Scene
    batch: Batch
    hidden: Hidden
    volume: Volume


@torch.no_grad()
def trained_contents(
    recipe: nn.Module,
    scene: Scene,
    colored: dict[str, tuple[Features, FeaturePalette]],
    track: Float[Tensor, "T 3"],
    *,
    title: str,
    rays: int = RAYS,
) -> Contents:
    """A scene as ``recording_contents`` has it, and what a recipe makes of it.

    The recipe sees what it sees in a training step: a part of the scene is hidden, the same one at each call.

    Args:
        recipe: A :class:`~renderpretrain.recipes.Recipe` in ``eval()`` mode.
        scene: As the recipe sees it.
        colored: What encoders say of the scene and the colours of that, by what it is called.
        track: Where the sensor was in the frames of the recording.
        title: What the scene is called.
        rays: How many are rendered at most.

    Raises:
        ValueError: If it is no recipe.
    """
    if not isinstance(recipe, Recipe):
        raise lacking(recipe, Recipe, "the viewer")
    batch = scene_batch(scene, next(recipe.parameters()).device)
    hidden = recipe.hide(batch)
    seen = Seen(scene, refined(recipe, batch), hidden, recipe.encode(batch, hidden))
    plain = recording_contents(scene, track, title=title)
    rendered, pictures = _rendered(recipe, seen, rays, plain.reach)
    layers, remarks = [], list(plain.remarks)
    for layer in plain.layers:
        if layer.name == "points":
            clouds = (thing for thing in layer.things if isinstance(thing, Cloud))
            layer = replace(layer, things=tuple(_with_features(cloud, colored) for cloud in clouds))
        if layer.name == "cameras":
            layer = replace(layer, things=tuple(_cameras(recipe, seen, pictures, colored)))
        layers.append(layer)
    if rendered is not None:
        layers.append(Layer("rendered depth", (rendered,), shown=False))
    else:
        remarks.append(f"rendered depth: no ray meets anything (opacity above {OPAQUE})")
    layers += _voxels(seen)
    for part in (_occupancy(recipe, seen), _field_cells(recipe, seen), _surface(recipe, seen)):
        (remarks if isinstance(part, str) else layers).append(part)  # type: ignore[arg-type]
    return replace(plain, layers=tuple(layers), remarks=tuple(remarks))


def _with_features(cloud: Cloud, colored: dict[str, tuple[Features, FeaturePalette]]) -> Cloud:
    """The points with colours by what encoders say of them."""
    found = {
        name: rgb_bytes(palette.points(features["points"]))
        for name, (features, palette) in colored.items()
        if palette.points is not None and "points" in features
    }
    return replace(cloud, colors={**cloud.colors, **found})


def _rendered(
    recipe: Recipe, seen: Seen, rays: int, reach: float
) -> tuple[Cloud | None, dict[int, dict[str, Tensor]]]:
    """Where rendered rays end, and each camera's rendered pictures."""
    views, pictures = seen.batch.views, {}
    ends, colors = [], []
    for n, view in _looks(seen, rays):
        depth, opacity, rgb = _render(recipe, seen.volume, view)
        there = opacity > OPAQUE
        ends.append(view.rays.at(depth[:, None])[:, 0][there].cpu())
        far = max(float(depth[there].max()) if there.any() else 1.0, 0.1)
        shown = depth_colors(
            depth.view(view.shape).cpu(), there.view(view.shape).cpu(), near=far / 10, far=far
        )
        by_depth = shown.flatten(1).mT[there.cpu()]
        colors.append(by_depth if rgb is None else rgb[there].cpu())
        if views is not None:
            pictures[n] = {"rendered depth": shown}
            if rgb is not None:
                pictures[n]["rendered colour"] = rgb.view(*view.shape, 3).permute(2, 0, 1).cpu()
    points = torch.cat(ends).float()
    if not len(points):
        return None, pictures
    by = {"height": value_colors(points[:, 2]), "colour": rgb_bytes(torch.cat(colors))}
    return Cloud(points, by, 2 * reach * POINT_SHARE), pictures


def _looks(seen: Seen, rays: int) -> Iterator[tuple[int, View]]:
    """The cameras there are, each with as many rays as its share; all around the LiDAR without any."""
    views = seen.batch.views
    there = [] if views is None else torch.nonzero(views.valid[0])[:, 0].tolist()
    if views is None or not there:
        yield 0, range_view(seen.batch.points.origin[0])
        return
    height, width = views.cameras.image_size
    stride = max(1, math.ceil(math.sqrt(len(there) * height * width / rays)))
    for n in there:
        yield n, camera_view(views.cameras[0, n], stride)


def _render(recipe: Recipe, volume: Volume, view: View) -> tuple[Tensor, Tensor, Tensor | None]:
    """Depth, opacity and, where there is one, colour of a view's rays."""
    parts = list(render_view(recipe, volume, view, at_once=RAYS_AT_ONCE))
    colors = [part.rgb[0] for part in parts if part.rgb is not None]
    depth, opacity = (torch.cat([getattr(part, name)[0] for part in parts]) for name in ("depth", "opacity"))
    return depth.float(), opacity.float(), torch.cat(colors).float() if colors else None


def _cameras(
    recipe: Recipe,
    seen: Seen,
    rendered: dict[int, dict[str, Tensor]],
    colored: dict[str, tuple[Features, FeaturePalette]],
) -> Iterator[PicturedCamera]:
    """The cameras where the recipe believes them to be, with all that their pictures can show."""
    views = seen.batch.views
    if views is None:
        return
    size = views.cameras.image_size
    for n in seen.scene.cameras_there:
        image = views.images[0, n]
        pictures = {"picture": image}
        if seen.hidden.patches is not None:
            patches = seen.hidden.patches[0, n]
            pictures["masked picture"] = hide_patches(image[None], patches[None])[0]
        pictures |= rendered.get(n, {})
        for name, (features, palette) in colored.items():
            if palette.images is not None and "images" in features:
                pictures[name] = feature_picture(features["images"][n], palette.images, size)
        yield pictured_camera(seen.scene.camera_names[n], views.cameras[0, n], pictures)


def _voxels(seen: Seen) -> list[Layer]:
    """Voxels that the encoder sees and those that it does not; hidden points where there are no voxels."""
    masked = seen.hidden.voxels
    if masked is not None:
        index = masked.voxels.coords[:, 1:].flip(-1).float()  # z, y, x to x, y, z
        centers, grid = masked.voxels.grid.to_world(index).cpu(), masked.voxels.grid
        hidden = masked.hidden.cpu()
        return [
            Layer(name, (_plain_cells(centers[chosen], grid, color),), shown=False)
            for name, chosen, color in (
                ("visible voxels", ~hidden, VISIBLE),
                ("hidden voxels", hidden, HIDDEN),
            )
        ]
    if seen.hidden.dropped is None:
        return []
    dropped = seen.hidden.dropped[0].cpu()
    points = seen.batch.points.xyz[0].cpu()[dropped]
    colors = torch.tensor(HIDDEN, dtype=torch.uint8).expand(len(points), 3).contiguous()
    return [Layer("hidden points", (Cloud(points, {"hidden": colors}, 0.1),), shown=False)]


def _plain_cells(centers: Float[Tensor, "K 3"], grid: VoxelGrid, color: tuple[int, int, int]) -> Cells:
    """Voxels of one colour."""
    colors = torch.tensor(color, dtype=torch.uint8).expand(len(centers), 3)
    return Cells(centers, grid.voxel_size, colors.contiguous())


def _occupancy(recipe: Recipe, seen: Seen) -> Layer | str:
    """Voxels of the recipe's grid in which beams ended."""
    name = "occupancy, measured"
    if not len(seen.scene.points):
        return f"{name}: the scene has no points"
    try:
        labels = label_occupancy([seen.scene], 0, recipe.grid)
    except ValueError as error:
        return f"{name}: {error}"
    return Layer(name, (cells_by_height(labels.occupied, recipe.grid),), shown=False)


def _field_cells(recipe: Recipe, seen: Seen) -> Layer | str:
    """Voxels whose middles are solid by the field, without those that are hidden among others."""
    name = "occupancy, from the field"
    if not isinstance(recipe, HasSurface):
        return f"{name}: {type(recipe).__name__} has no surface"
    try:
        field = recipe.surface_field()
    except ValueError as error:
        return f"{name}: {error}"
    centers = field.grid.centers(seen.volume.device).view(1, -1, 3)
    parts = [field.surface(seen.volume, part)[0] for part in centers.split(2**16, 1)]
    solid = (torch.cat(parts) < 0).view(field.grid.shape).cpu()
    outer = outermost(solid)
    if not outer.any():
        return f"{name}: all is {'solid' if solid.any() else 'free'}"
    return Layer(name, (cells_by_height(outer, field.grid),), shown=False)


def outermost(solid: Bool[Tensor, "Z Y X"]) -> Bool[Tensor, "Z Y X"]:
    """Solid voxels of which at least one of the six neighbours is free; outside of the grid all is solid."""
    around = nn.functional.pad(solid, (1, 1, 1, 1, 1, 1), value=True)
    inner = torch.ones_like(solid)
    for axis in range(3):
        for start in (0, 2):
            shifted = around.narrow(axis, start, solid.shape[axis])
            for other in range(3):
                if other != axis:
                    shifted = shifted.narrow(other, 1, solid.shape[other])
            inner &= shifted
    return solid & ~inner


def _surface(recipe: nn.Module, seen: Seen) -> Layer | str:
    """The surface of the field as a mesh."""
    try:
        if not isinstance(recipe, HasSurface):
            raise lacking(recipe, HasSurface, "a surface")
        return Layer("surface", (extract_mesh(recipe.surface_field(), seen.volume),), shown=False)
    except ValueError as error:
        return f"surface: {str(error).removeprefix('mesh: ')}"
