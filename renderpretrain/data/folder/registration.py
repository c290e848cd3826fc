"""Depth images that another camera took than the picture: seen from the picture's camera."""

from dataclasses import replace

import numpy as np
import torch

from renderpretrain.data.folder.geometry import nearest_rigid, one_camera, pixel_centers
from renderpretrain.data.folder.schema import IndoorFrame, Lens
from renderpretrain.geometry import Cameras


def registered(z_depth: torch.Tensor, frame: IndoorFrame, camera: Cameras) -> torch.Tensor:
    """The depth image that the picture's camera would have taken, ``(H, W)``; 0 where it does not know.

    Where both cameras look through one point along one axis, every pixel takes what the depth image holds
    along its line of sight. Otherwise every measured pixel is moved to where the picture's camera sees it,
    and the nearest of those that meet in one pixel stays.

    Args:
        z_depth: ``(H, W)`` metres along the optical axis, 0 = not measured.
        frame: What the index says of the view.
        camera: The picture's, for pictures of the depth image's size.
    """
    if frame.depth_intrinsics is None:
        return z_depth
    size = (z_depth.shape[0], z_depth.shape[1])
    motion = np.eye(4) if frame.depth_to_color is None else nearest_rigid(frame.depth_to_color)
    own = one_camera(frame.depth_intrinsics, Lens(), motion, size)
    seen = replace(camera, camera_to_world=torch.eye(4))
    if frame.depth_to_color is None:
        return _along_lines_of_sight(z_depth, own, seen)
    return _moved(z_depth, own, seen)


def _along_lines_of_sight(z_depth: torch.Tensor, own: Cameras, seen: Cameras) -> torch.Tensor:
    """What the depth image holds along the line of sight of every pixel."""
    rays = seen.rays(pixel_centers(seen.image_size))
    pixels, _, inside = own.project(rays.origins + rays.directions)
    u, v = torch.where(inside[:, None], pixels, 0.0).long().unbind(-1)
    return torch.where(inside, z_depth[v, u], 0.0).view(z_depth.shape)


def _moved(z_depth: torch.Tensor, own: Cameras, seen: Cameras) -> torch.Tensor:
    """Every measured pixel where the other camera sees it, the nearest where several meet."""
    measured = torch.nonzero(z_depth > 0)
    rows, columns = measured.unbind(-1)
    rays = own.rays(torch.stack([columns, rows], -1) + 0.5)
    along = rays.directions @ own.camera_to_world[:3, 2]
    points = rays.origins + (z_depth[rows, columns] / along)[:, None] * rays.directions
    pixels, _, inside = seen.project(points)
    u, v = pixels[inside].long().unbind(-1)
    nearest = torch.full((z_depth.numel(),), torch.inf)
    nearest.scatter_reduce_(0, v * z_depth.shape[1] + u, points[inside, 2], "amin")
    return torch.where(nearest.isfinite(), nearest, 0.0).view(z_depth.shape)
