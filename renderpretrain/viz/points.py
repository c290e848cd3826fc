"""Points drawn on pictures: whether a calibration is right is seen at a glance."""

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.geometry import Cameras
from renderpretrain.viz.colors import depth_colors
from renderpretrain.viz.views import camera_cells, camera_view


def points_on_image(
    image: Float[Tensor, "3 H W"],
    camera: Cameras,
    points: Float[Tensor, "P 3"],
    *,
    stride: int = 2,
    near: int | float = 2.0,
    far: int | float = 60.0,
) -> Float[Tensor, "3 H W"]:
    """A picture, dimmed, with what points it sees in squares of their distance's colour.

    Args:
        image: RGB in [0, 1].
        camera: One camera, of the picture's size.
        points: World points, metres.
        stride: Pixels along a square's side; it divides the picture's sides.
        near: Metres of the brightest colour.
        far: Metres of the darkest.
    """
    cells, visible = camera_cells(camera, points, stride)
    distance, hit = camera_view(camera, stride).rasterize(points, cells, visible)
    colors = depth_colors(distance, hit, near=near, far=far)
    drawn = colors.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    covered = hit.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
    return torch.where(covered, drawn, 0.7 * image)
