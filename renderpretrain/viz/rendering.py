"""What a renderer sees of a volume from one camera: the picture at the end of a loop of one's own."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Cameras, Rays
from renderpretrain.renderers import Rendered
from renderpretrain.viz.colors import depth_colors
from renderpretrain.viz.sheet import save_sheet
from renderpretrain.viz.views import camera_view

RAYS_AT_ONCE = 4096
OPAQUE = 0.5
"""Depth is drawn where a ray's opacity is more."""


@torch.no_grad()
def save_rendering(
    path: str | Path,
    renderer: Callable[[Tensor, Rays], Rendered],
    volume: Float[Tensor, "1 C Z Y X"],
    camera: Cameras,
    *,
    image: Float[Tensor, "3 H W"] | None = None,
    stride: int = 1,
) -> Path:
    """Write colour, depth and opacity of one view as a PNG; depth is bright nearby, black below 0.5 opacity.

    Args:
        path: The PNG; its folder is made.
        renderer: ``(volume, rays) -> Rendered``, such as :class:`~renderpretrain.renderers.VolumeRenderer`.
        volume: Of one sample.
        camera: One camera, without batch axes: ``batch.views.cameras[0, 0]``.
        image: What it saw, drawn beside; RGB in [0, 1].
        stride: Pixels between neighbouring rays.

    Raises:
        ValueError: If there are several volumes or cameras.
    """
    check_shape("volume", volume, "1 C Z Y X")
    if camera.shape:
        raise ValueError(
            f"camera: expected a single one, such as cameras[0, 0], got a batch {tuple(camera.shape)}"
        )
    view = camera_view(camera, stride)
    parts = []
    for start in range(0, len(view.rays.origins), RAYS_AT_ONCE):
        rays = view.rays[slice(start, start + RAYS_AT_ONCE)]
        parts.append(renderer(volume, Rays(rays.origins[None], rays.directions[None])))
    depth = torch.cat([part.depth[0] for part in parts]).view(view.shape).cpu()
    opacity = torch.cat([part.opacity[0] for part in parts]).view(view.shape).cpu()
    far = max(float(depth.max()), 1.0)
    colors = [part.rgb[0] for part in parts if part.rgb is not None]
    panels = [] if image is None else [("seen", image)]
    if colors:
        panels.append(("rendered", torch.cat(colors).T.reshape(3, *view.shape)))
    panels.append((f"depth, to {far:.0f} m", depth_colors(depth, opacity > OPAQUE, near=far / 10, far=far)))
    panels.append(("opacity", opacity.expand(3, -1, -1)))
    return save_sheet(Path(path), "", [("", panels)])
