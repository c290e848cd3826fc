"""Moved to :mod:`renderpretrain.recipes.branches` and :mod:`renderpretrain.recipes.sections`."""

from dataclasses import replace

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders.image_weights import has_numbers
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.branches import ImageNormalization, channels_last, draw_patches, set_momentum
from renderpretrain.recipes.ray_config import RayConfig
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, RayTargets, in_range

__all__ = [
    "ImageNormalization",
    "channels_last",
    "draw_patches",
    "has_numbers",
    "sensor_rays",
    "set_momentum",
]


def sensor_rays(batch: Batch, grid: VoxelGrid, choice: RayConfig, num_rays: int | None = None) -> RayTargets:
    """Camera rays through the key sweep's returns, or the LiDAR's own rays where there are no cameras.

    Drawn from the batch's seeds. Depth counts only for returns inside the grid, which samples can reach.

    Args:
        batch: The samples.
        grid: Where there is something to render.
        choice: Which rays, and how many.
        num_rays: Rays per camera, or per sweep where there are no cameras; the choice's number by default.
    """
    points, seeds = batch.points, ops.fork(batch.seeds, 4)
    batch = replace(batch, points=points.only(in_range(points, choice.near_radius, choice.far_radius)))
    if batch.views is None:
        targets = LidarBeams(num_rays or choice.rays_per_sweep)(batch, seeds)
    else:
        guided = LidarGuidedRays(num_rays or choice.rays_per_camera, stride=choice.stride, sky=choice.sky)
        targets = guided(batch, seeds)
    return replace(targets, hit=targets.hit & grid.contains(targets.ends))
