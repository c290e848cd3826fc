"""What the recipe sees and what it renders, as one PNG."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.data import Batch, Scene, collate
from renderpretrain.geometry import Views, VoxelGrid
from renderpretrain.masking import hide_patches
from renderpretrain.recipes.recipe import Recipe, SaysClasses, Volume, lacking
from renderpretrain.recipes.rendering import refined, render_view
from renderpretrain.viz import class_colors, depth_colors, error_colors, normal_colors, save_sheet
from renderpretrain.viz.colors import ERROR_STOPS
from renderpretrain.viz.views import View, camera_cells, camera_view, range_cells, range_view

RAYS_AT_ONCE = 4096
DEPTH_SPAN = 10.0
"""How many times the near end of the depth colours their far end is."""

OPAQUE = 0.5
"""Rendered depth fades where a ray's opacity is less; errors are drawn wherever there is a target."""

WORST_ERROR = 0.5
"""Of the depth, from which on an error has the reddest colour."""

PICTURE_SEED = 7
"""The mask in the pictures is the same from start to end, so that they can be compared."""

Panels = list[tuple[str, Tensor]]


@dataclass(frozen=True)
class DepthScale:
    """Which depths the colours stand for, the same in all panels of a sheet.

    Attributes:
        far: Metres of the darkest colour; the brightest is for a tenth of it.
    """

    far: float

    @staticmethod
    def of(grid: VoxelGrid, places: Float[Tensor, "N 3"]) -> "DepthScale":
        """Depths as far as the farthest side of the grid is from any of the sensors (metres)."""
        lower, upper = places.new_tensor(grid.lower), places.new_tensor(grid.upper)
        return DepthScale(torch.maximum(upper - places, places - lower).max().item())

    def panel(self, name: str, depth: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"]) -> tuple[str, Tensor]:
        """A picture of depths in metres, black where not valid."""
        return name, depth_colors(depth.cpu(), valid.cpu(), near=self.far / DEPTH_SPAN, far=self.far)

    def legend(self) -> dict[str, Float[Tensor, "3"]]:
        """What the colours of the panels mean."""
        metres = torch.tensor([[self.far / DEPTH_SPAN, self.far / DEPTH_SPAN**0.5, self.far]])
        colours = self.panel("", metres, torch.ones_like(metres, dtype=torch.bool))[1]
        named = {f"{float(depth):.2g} m": colours[:, 0, n] for n, depth in enumerate(metres[0])}
        named |= {f"nothing; rendered depth fades below an opacity of {OPAQUE}": torch.zeros(3)}
        shares = torch.linspace(0, WORST_ERROR, len(ERROR_STOPS))[None]
        colours = error_colors(shares, torch.ones_like(shares, dtype=torch.bool), worst=WORST_ERROR)
        words = [f"{100 * share:.0f} %" for share in shares[0].tolist()]
        words = [f"depth error {words[0]}", *words[1:-1], f"{words[-1]} and more"]
        return named | {name: colours[:, 0, n] for n, name in enumerate(words)}


@dataclass(frozen=True)
class _Shown:
    """What every row of a sheet needs.

    Attributes:
        recipe: What renders.
        volume: Of the masked input.
        batch: The scene, with the cameras that the recipe believes in.
        patches: Hidden ones, of the first and only sample.
        points: Likewise.
        scale: Of its depths.
    """

    recipe: Recipe
    volume: Volume
    batch: Batch
    patches: Bool[Tensor, "N h w"] | None
    points: Bool[Tensor, " P"] | None
    scale: DepthScale


@torch.no_grad()
def save_picture(
    recipe: nn.Module,
    scene: Scene,
    path: Path,
    *,
    title: str,
    max_views: int = 3,
    cameras: Sequence[str] = (),
) -> Path:
    """Write input, masked input, rendered colour, depth, normals and classes, and what is true, of one scene.

    The volume is encoded from the masked input, as in training, and seen from where the recipe believes the
    cameras to be.

    Args:
        recipe: A :class:`~renderpretrain.recipes.Recipe`, the sides of whose grid end the depth colours; its
            mode (training or not) is left as found.
        scene: What to show.
        path: The PNG; its folder is made.
        title: First line of the sheet.
        max_views: Cameras shown, see :func:`telling_cameras`; without cameras a range image is shown.
        cameras: Names of those to show instead.

    Raises:
        ValueError: If it is no recipe, or the scene has no camera of a name.
    """
    if not isinstance(recipe, Recipe):
        raise lacking(recipe, Recipe, "a picture")
    asked = _places(scene, cameras)
    device = next(recipe.parameters()).device
    batch = collate([scene], torch.tensor([PICTURE_SEED])).to(device)
    mode = recipe.training
    recipe.eval()
    hidden = recipe.hide(batch)
    volume, batch = recipe.encode(batch, hidden), refined(recipe, batch)
    patches, points = (None if mask is None else mask[0] for mask in (hidden.patches, hidden.points))
    views = batch.views
    there = [] if views is None else torch.nonzero(views.valid[0])[:, 0].tolist()
    places = views.cameras.centers[0, there] if there and views else batch.points.origin
    shown = _Shown(recipe, volume, batch, patches, points, DepthScale.of(recipe.grid, places))
    chosen = asked or telling_cameras(batch, there, max_views)
    rows = [(scene.camera_names[n], _camera_panels(shown, views, n)) for n in chosen if views]
    rows = rows or [("LiDAR", _range_panels(shown))]
    recipe.train(mode)
    return save_sheet(path, f"{title}   {scene.name}", rows, legend=shown.scale.legend())


def _places(scene: Scene, names: Sequence[str]) -> list[int]:
    """The places of cameras by their names."""
    there = {} if scene.cameras is None else {scene.camera_names[n]: int(n) for n in scene.cameras_there}
    absent = [name for name in names if name not in there]
    if absent:
        known = ", ".join(there) or "none, for the scene has no cameras"
        raise ValueError(f"camera: expected one of {known}, got {absent[0]}")
    return [there[name] for name in names]


def telling_cameras(batch: Batch, there: list[int], most: int) -> list[int]:
    """The first camera, and of the others those that see near and far at once, in their own order.

    A wall in front of a camera tells nothing of a scene. Which ones are chosen depends on the points alone,
    so that a scene is seen by the same cameras from start to end.

    Args:
        batch: One scene; without points the first cameras are chosen.
        there: Places of the cameras that the scene has.
        most: How many are chosen at most.
    """
    views = batch.views
    if views is None or len(there) <= most:
        return there
    points = batch.points.xyz[0, batch.points.valid[0]]
    spreads = {}
    for n in there[1:]:
        _, depth, visible = views.cameras[0, n].project(points)
        distance = depth[visible]
        spreads[n] = float(distance.log().std()) if len(distance) > 1 else 0.0
    best = sorted(spreads, key=lambda n: -spreads[n])[: most - 1]
    return sorted([there[0], *best])


def _camera_panels(shown: _Shown, views: Views, n: int) -> Panels:
    """The panels of one camera, a row of the sheet: colours, depths, classes; black where it saw nothing."""
    batch = shown.batch
    camera, image = views.cameras[0, n], views.images[0, n]
    stride = max(1, image.shape[-1] // 224)
    view = camera_view(camera, stride)
    points = batch.points.xyz[0]
    cells, visible = camera_cells(camera, points, stride)
    visible = visible & batch.points.key[0]
    rendered = _render(shown, view)
    panels: Panels = [("input", image)]
    masked = []
    if shown.patches is not None:
        masked.append(("masked input", hide_patches(image[None], shown.patches[n][None])[0]))
    if shown.points is not None:
        kept = view.rasterize(points, cells, visible & ~shown.points)
        masked.append(shown.scale.panel("masked input, points", *thickened(*kept)))
    # Lines of four: what was seen stands above what was measured, whichever of the two was masked.
    panels += [*masked[:1], *_color_panels(rendered, view), *masked[1:]]
    panels += _depth_panels(rendered, view, view.rasterize(points, cells, visible), shown.scale)
    panels += _class_panels(rendered, view)
    if "classes" in rendered and views.labels is not None:
        panels.append(("classes", class_colors(views.labels[0, n, ::stride, ::stride].cpu())))
    if views.image_valid is None:
        return panels
    seen = views.image_valid[0, n, ::stride, ::stride].cpu()
    return [(name, panel * seen if panel.shape[1:] == seen.shape else panel) for name, panel in panels]


def _range_panels(shown: _Shown) -> Panels:
    """The row of a sweep without cameras."""
    batch, scale = shown.batch, shown.scale
    origin, points = batch.points.origin[0], batch.points.xyz[0]
    view, cells = range_view(origin), range_cells(origin, points)
    valid = batch.points.key[0]
    panels: Panels = [scale.panel("input", *view.rasterize(points, cells, valid))]
    if shown.points is not None:
        panels.append(scale.panel("masked input", *view.rasterize(points, cells, valid & ~shown.points)))
    rendered = _render(shown, view)
    panels += _depth_panels(rendered, view, view.rasterize(points, cells, valid), scale, thick=False)
    return panels + _color_panels(rendered, view) + _class_panels(rendered, view)


def _color_panels(rendered: dict[str, Tensor], view: View) -> Panels:
    """Colour (where the field has one) and normals."""
    colour, caption = torch.full((3, *view.shape), 0.2), "rendered colour (no colour loss)"
    if "rgb" in rendered:
        colour, caption = rendered["rgb"].view(*view.shape, 3).permute(2, 0, 1), "rendered colour"
    panels: Panels = [(caption, colour)]
    if "normals" in rendered:
        normals = rendered["normals"].view(*view.shape, 3).permute(2, 0, 1)
        panels.append(("normals", normal_colors(normals.cpu())))
    return panels


def _depth_panels(
    rendered: dict[str, Tensor],
    view: View,
    target: tuple[Tensor, Tensor],
    scale: DepthScale,
    *,
    thick: bool = True,
) -> Panels:
    """Rendered depth, target depth and the error, the last two in dots that can be seen."""
    depth, opacity = (rendered[name].view(view.shape) for name in ("depth", "opacity"))
    name, shown = scale.panel("rendered depth", depth, opacity > 0)
    panels: Panels = [(name, shown * (opacity / OPAQUE).clamp(max=1).cpu())]
    measured, hit = target
    error = (depth - measured).abs() / measured.clamp(min=1.0)
    if thick:
        error, (measured, hit) = thickened(error, hit, nearest=False)[0], thickened(measured, hit)
    panels.append(scale.panel("target depth", measured, hit))
    panels.append(("depth error", error_colors(error.cpu(), hit.cpu(), worst=WORST_ERROR)))
    return panels


def _class_panels(rendered: dict[str, Tensor], view: View) -> Panels:
    """Rendered classes, of a recipe that says any."""
    if "classes" not in rendered:
        return []
    return [("rendered classes", class_colors(rendered["classes"].view(view.shape).cpu()))]


def thickened(
    values: Float[Tensor, "h w"], there: Bool[Tensor, "h w"], *, nearest: bool = True
) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """Single pixels as squares of 3 x 3: single ones are lost to the eye where a sensor measures few.

    Args:
        values: Of the pixels.
        there: Which of them have one; these keep it.
        nearest: Of several in a square the least value shows, as what is near hides what is far; else the
            greatest, as what is wrong is to be seen.
    """
    sign = -1.0 if nearest else 1.0
    spread = torch.where(there, sign * values, -torch.inf)[None, None]
    spread = nn.functional.max_pool2d(spread, 3, stride=1, padding=1)[0, 0]
    found = spread.isfinite()
    return torch.where(there, values, torch.where(found, sign * spread, 0.0)), found


def _render(shown: _Shown, view: View) -> dict[str, Tensor]:
    """What the recipe makes of a view, by what it shows."""
    recipe = shown.recipe
    parts: dict[str, list[Tensor]] = {}
    for rendered in render_view(recipe, shown.volume, view, at_once=RAYS_AT_ONCE):
        found: dict[str, Tensor | None] = {
            "depth": rendered.depth,
            "opacity": rendered.opacity,
            "rgb": rendered.rgb,
            "normals": rendered.normals,
            "classes": recipe.classes(shown.batch, rendered) if isinstance(recipe, SaysClasses) else None,
        }
        for name, value in found.items():
            if value is not None:
                parts.setdefault(name, []).append(value[0])
    return {name: torch.cat(values) for name, values in parts.items()}
