"""Where to look from: a camera's image plane, or all around a LiDAR."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.geometry import Cameras, Rays
from renderpretrain.samplers import pixel_grid, z_buffer


@dataclass(frozen=True)
class View:
    """A picture's rays in reading order, and where points fall in it.

    Attributes:
        rays: ``h * w`` rays of the world.
        shape: ``(h, w)``.
        camera: The camera whose pixels the cells are, where there is one.
    """

    rays: Rays
    shape: tuple[int, int]
    camera: Cameras | None = None

    def rasterize(
        self, points: Float[Tensor, "P 3"], cells: Float[Tensor, "P 2"], visible: Bool[Tensor, " P"]
    ) -> tuple[Float[Tensor, "h w"], Bool[Tensor, "h w"]]:
        """Distance of the nearest point in each cell, and which cells hold one.

        Args:
            points: World points, metres.
            cells: Their ``(column, row)`` in cells, from :func:`camera_cells` or :func:`range_cells`.
            visible: Which points to draw.
        """
        height, width = self.shape
        column, row = cells.unbind(-1)
        inside = visible & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        distance = (points - self.rays.origins[0]).norm(dim=-1)
        nearest = z_buffer(cells, distance, inside, self.shape)[0][:-1].view(height, width)
        return torch.where(nearest.isinf(), 0.0, nearest), ~nearest.isinf()


def camera_view(camera: Cameras, stride: int) -> View:
    """The middles of ``stride`` x ``stride`` pixels of one camera."""
    pixels, shape = pixel_grid(camera, stride)
    height, width = shape
    coarse = camera.crop(0, 0, (height * stride, width * stride)).resize(shape)
    return View(camera.rays(pixels + (stride - 1) / 2), shape, coarse)


def camera_cells(
    camera: Cameras, points: Float[Tensor, "P 3"], stride: int
) -> tuple[Float[Tensor, "P 2"], Bool[Tensor, " P"]]:
    """Cells of world points in :func:`camera_view`, and which are visible."""
    pixels, _, visible = camera.project(points)
    return torch.where(visible[:, None], pixels, 0.0) / stride, visible


RANGE_ELEVATION = (math.radians(-28), math.radians(12))
"""Lowest and highest elevation of a range image; covers the automotive sensors."""


def range_view(origin: Float[Tensor, "3"], shape: tuple[int, int] = (32, 360)) -> View:
    """View around a LiDAR: rows from high to low, columns by azimuth, +y in the middle, +x right of it."""
    low, high = RANGE_ELEVATION
    rows = high - (torch.arange(shape[0], device=origin.device) + 0.5) / shape[0] * (high - low)
    columns = ((torch.arange(shape[1], device=origin.device) + 0.5) / shape[1] - 0.5) * 2 * math.pi
    elevation, azimuth = torch.meshgrid(rows, columns, indexing="ij")
    directions = torch.stack(
        [elevation.cos() * azimuth.sin(), elevation.cos() * azimuth.cos(), elevation.sin()], -1
    ).reshape(-1, 3)
    return View(Rays(origin.expand_as(directions), directions), shape)


def range_cells(
    origin: Float[Tensor, "3"], points: Float[Tensor, "P 3"], shape: tuple[int, int] = (32, 360)
) -> Float[Tensor, "P 2"]:
    """Cells of world points in :func:`range_view`."""
    low, high = RANGE_ELEVATION
    x, y, z = (points - origin).unbind(-1)
    azimuth = torch.atan2(x, y) / (2 * math.pi) + 0.5
    elevation = (high - torch.atan2(z, torch.hypot(x, y))) / (high - low)
    return torch.stack([azimuth * shape[1], elevation * shape[0]], -1)


def labels_from_above(
    points: Float[Tensor, "P 3"], labels: Int[Tensor, " P"], *, across: int = 200
) -> Int[Tensor, "h w"]:
    """The label of the highest point of every cell: x to the right, y up.

    Args:
        points: World points, metres. The picture holds all of them, and no more.
        labels: Of the points; those of class 0 and below are left out.
        across: Cells along the longer side.
    """
    place, extent = points - points.amin(0), points.amax(0) - points.amin(0)
    cell = (float(extent[:2].max()) / across) or 1.0
    column, row = (place[:, :2] / cell).floor().long().clamp(max=across - 1).unbind(-1)
    width, height = (min(int(side / cell) + 1, across) for side in extent[:2].tolist())
    order = points[:, 2].argsort()
    order = order[labels[order] > 0]
    index = (height - 1 - row) * width + column
    highest = torch.full((height * width,), -1, device=points.device)
    rank = torch.arange(len(order), device=points.device)
    highest = highest.scatter_reduce(0, index[order], rank, "amax")
    shown = torch.zeros_like(highest)
    shown[highest >= 0] = labels[order[highest[highest >= 0]]]
    return shown.view(height, width)
