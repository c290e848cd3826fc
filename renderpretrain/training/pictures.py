"""What the recipe sees and what it renders, as one PNG."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renderpretrain.data import Batch, Scene, collate
from renderpretrain.geometry import Rays
from renderpretrain.masking import hide_patches
from renderpretrain.renderers import Rendered
from renderpretrain.training.evaluate import refined
from renderpretrain.viz import class_colours, depth_colours, error_colours, normal_colours, save_sheet
from renderpretrain.viz.views import View, camera_cells, camera_view, range_cells, range_view

RAYS_AT_ONCE = 4096
NEAR, FAR = 2.0, 60.0
"""Ends of the depth colour scale, metres."""

PICTURE_SEED = 7
"""The mask in the pictures is the same from start to end, so that they can be compared."""

Panels = list[tuple[str, Tensor]]


@torch.no_grad()
def save_picture(recipe: Any, scene: Scene, path: Path, *, title: str, max_views: int = 3) -> Path:
    """Write input, masked input, rendered colour, depth, normals and classes, and what is true, of one scene.

    The volume is encoded from the masked input, as in training, and seen from where the recipe believes the
    cameras to be (``calibration``).

    Args:
        recipe: A recipe; its mode (training or not) is left as found.
        scene: What to show.
        path: The PNG; its folder is made.
        title: First line of the sheet.
        max_views: Cameras shown, spread over those there are; without cameras a range image is shown.
    """
    device = next(recipe.parameters()).device
    batch = collate([scene], torch.tensor([PICTURE_SEED])).to(device)
    mode = recipe.training
    recipe.eval()
    hidden = recipe.hide(batch)
    volume, batch = recipe.encode(batch, hidden), refined(recipe, batch)
    points = None if hidden.points is None else hidden.points[0]
    rows = []
    if batch.cameras is None:
        rows.append(("LiDAR", _range_panels(recipe, volume, batch, points)))
    else:
        count = len(scene.camera_names)
        for n in range(0, count, max(1, -(-count // max_views))):
            rows.append(
                (scene.camera_names[n], _camera_panels(recipe, volume, batch, n, hidden.patches, points))
            )
    recipe.train(mode)
    return save_sheet(path, f"{title}   {scene.name}", rows)


def _camera_panels(
    recipe: Any, volume: Tensor, batch: Batch, n: int, patches: Tensor | None, hidden_points: Tensor | None
) -> Panels:
    """One camera's row."""
    if batch.cameras is None or batch.images is None:
        return []
    camera, image = batch.cameras[0, n], batch.images[0, n]
    stride = max(1, image.shape[-1] // 224)
    view = camera_view(camera, stride)
    points = batch.points[0, :, :3]
    cells, visible = camera_cells(camera, points, stride)
    visible = visible & batch.point_valid[0] & (batch.points[0, :, 4] == 0)
    panels: Panels = [("input", image)]
    if patches is not None:
        panels.append(("masked input", hide_patches(image[None], patches[0, n][None])[0]))
    if hidden_points is not None:
        kept = view.rasterize(points, cells, visible & ~hidden_points)
        panels.append(("masked input, LiDAR", _depth(*kept)))
    rendered = _render(recipe, volume, view, batch)
    panels += _rendered_panels(rendered, view, view.rasterize(points, cells, visible))
    if "classes" in rendered and batch.pixel_labels is not None:
        panels.append(("classes", class_colours(batch.pixel_labels[0, n, ::stride, ::stride].cpu())))
    return panels


def _range_panels(recipe: Any, volume: Tensor, batch: Batch, hidden_points: Tensor | None) -> Panels:
    """The row of a sweep without cameras."""
    origin, points = batch.lidar_origins[0], batch.points[0, :, :3]
    view, cells = range_view(origin), range_cells(origin, points)
    valid = batch.point_valid[0] & (batch.points[0, :, 4] == 0)
    panels: Panels = [
        ("input", _depth(*view.rasterize(points, cells, valid))),
    ]
    if hidden_points is not None:
        panels.append(("masked input", _depth(*view.rasterize(points, cells, valid & ~hidden_points))))
    rendered = _render(recipe, volume, view, batch)
    return panels + _rendered_panels(rendered, view, view.rasterize(points, cells, valid))


def _rendered_panels(rendered: dict[str, Tensor], view: View, target: tuple[Tensor, Tensor]) -> Panels:
    """Colour (where the field has one), depth, normals, target depth and error, classes."""
    height, width = view.shape
    colour, caption = torch.full((3, height, width), 0.2), "rendered colour (no colour loss)"
    if "rgb" in rendered:
        colour, caption = rendered["rgb"].view(height, width, 3).permute(2, 0, 1), "rendered colour"
    panels: Panels = [(caption, colour)]
    depth = rendered["depth"].view(height, width)
    panels.append(("rendered depth", _depth(depth, rendered["opacity"].view(height, width) > 0.5)))
    if "normals" in rendered:
        panels.append(
            ("normals", normal_colours(rendered["normals"].view(height, width, 3).permute(2, 0, 1).cpu()))
        )
    measured, hit = target
    error = (depth - measured).abs() / measured.clamp(min=1.0)
    panels.append(("target depth", _depth(measured, hit)))
    panels.append(("error, red = 50 %", error_colours(error.cpu(), hit.cpu(), worst=0.5)))
    if "classes" in rendered:
        panels.append(("rendered classes", class_colours(rendered["classes"].view(height, width).cpu())))
    return panels


def _render(recipe: Any, volume: Tensor, view: View, batch: Batch) -> dict[str, Tensor]:
    """Render a view in chunks."""
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(view.rays.origins), RAYS_AT_ONCE):
        chunk = view.rays[slice(start, start + RAYS_AT_ONCE)]
        rendered: Rendered = recipe.render(volume, Rays(chunk.origins[None], chunk.directions[None]))
        found: dict[str, Tensor | None] = {
            "depth": rendered.depth,
            "opacity": rendered.opacity,
            "rgb": rendered.rgb,
            "normals": rendered.normals,
            "classes": recipe.classes(batch, rendered) if hasattr(recipe, "classes") else None,
        }
        for name, value in found.items():
            if value is not None:
                parts.setdefault(name, []).append(value[0])
    return {name: torch.cat(values) for name, values in parts.items()}


def _depth(depth: Tensor, valid: Tensor) -> Tensor:
    """Depth in the sheet's colours."""
    return depth_colours(depth.cpu(), valid.cpu(), near=NEAR, far=FAR)
