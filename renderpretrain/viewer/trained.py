"""What a recipe makes of a moment: what it sees and what not, what it renders, and what its encoders say."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene, collate
from renderpretrain.data.occupancy import label_occupancy
from renderpretrain.geometry import Views, VoxelGrid
from renderpretrain.masking import hide_patches
from renderpretrain.recipes.recipe import (
    HasImageFeatures,
    HasPointFeatures,
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
from renderpretrain.viz import FeatureColors, depth_colors, extract_mesh, feature_colors
from renderpretrain.viz.views import View, camera_view, range_view

RAYS = 12_000
"""Rays that are rendered of a scene, shared by its cameras; some seconds of one core."""

RAYS_AT_ONCE = 4096
OPAQUE = 0.5
"""Rendered points and pictures of depth hold rays with more opacity."""

MASK_SEED = 7
"""What is hidden of a scene is the same at every checkpoint, so that these can be compared."""

HIDDEN, VISIBLE = (235, 120, 50), (110, 150, 190)
"""Colours of voxels that the encoder does not see, and of those that it does."""

Features = dict[str, Tensor]
"""What encoders say: ``points`` ``(P, C)`` of each point, ``images`` ``(N, C, h, w)``."""


@dataclass(frozen=True)
class FeaturePalette:
    """Which colours the features of one state of the weights have, the same in all scenes.

    Attributes:
        points: Of features of points; ``None`` where there are none.
        images: Of features of images; likewise.
    """

    points: FeatureColors | None = None
    images: FeatureColors | None = None

    @staticmethod
    def of(features: Features) -> "FeaturePalette":
        """Fitted on what encoders say of one scene."""
        maps = features.get("images")
        rows = {"points": features.get("points")}
        rows["images"] = None if maps is None else maps.movedim(1, -1).flatten(0, -2)
        return FeaturePalette(
            **{
                name: feature_colors(found)
                for name, found in rows.items()
                if found is not None and int(found.isfinite().all(1).sum()) > 1
            }
        )


def scene_batch(scene: Scene, device: torch.device) -> Batch:
    """A scene as a batch of one, whose random numbers are always the same."""
    return collate([scene], torch.tensor([MASK_SEED])).to(device)


@torch.no_grad()
def encoder_features(recipe: nn.Module, scene: Scene) -> Features:
    """What the encoders of a recipe say of the whole scene: of its points, and of its pictures.

    Args:
        recipe: In ``eval()`` mode; one that says nothing of points or pictures gives none.
        scene: As the recipe sees it.
    """
    device = next(recipe.parameters()).device
    batch, found = scene_batch(scene, device), Features()
    if isinstance(recipe, HasPointFeatures) and len(scene.points):
        found["points"] = recipe.point_features(batch, batch.points.xyz)[0].cpu()
    if isinstance(recipe, HasImageFeatures) and batch.views is not None and _has_images(recipe):
        found["images"] = recipe.image_features(batch)[0].cpu()
    return found


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


def _has_images(recipe: nn.Module) -> bool:
    """Whether a recipe of this kind has an encoder of images: it may be built without one."""
    return any("image" in name for name in recipe.encoders()) if isinstance(recipe, Recipe) else True


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
    for n in seen.scene.cameras_there:
        image = views.images[0, n]
        pictures = {"picture": image}
        if seen.hidden.patches is not None:
            patches = seen.hidden.patches[0, n]
            pictures["masked picture"] = hide_patches(image[None], patches[None])[0]
        pictures |= rendered.get(n, {})
        for name, (features, palette) in colored.items():
            if palette.images is not None and "images" in features:
                pictures[name] = feature_picture(features["images"][n], palette.images, views)
        yield pictured_camera(seen.scene.camera_names[n], views.cameras[0, n], pictures)


def feature_picture(
    features: Float[Tensor, "C h w"], colors: FeatureColors, views: Views
) -> Float[Tensor, "3 H W"]:
    """The colours of an image's features, smoothly enlarged to the image's size."""
    shown = colors(features.movedim(0, -1)).movedim(-1, 0)
    size = views.images.shape[-2:]
    return nn.functional.interpolate(shown[None], size=size, mode="bilinear", align_corners=False)[0]


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
        return f"{name}: all is free"
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
