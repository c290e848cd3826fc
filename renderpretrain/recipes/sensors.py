"""What recipes share: what they ask of a batch, the masks they draw on it, and what images are scaled to."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.geometry import VoxelGrid
from renderpretrain.masking import MaskPolicy, patch_candidates
from renderpretrain.recipes.ray_config import RayConfig
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, RayTargets, in_range

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What published image networks expect of RGB in [0, 1]."""


class ImageNormalization(nn.Module):
    """RGB in [0, 1] to what published image networks expect."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
        """Differentiable. On a GPU the channels come last in memory, as its convolutions want in bf16."""
        images = (images - self.mean) / self.std
        return channels_last(images) if images.is_cuda else images


def channels_last(images: Float[Tensor, "*batch C H W"]) -> Float[Tensor, "*batch C H W"]:
    """The same numbers in ``torch.channels_last`` memory, which every layer that follows keeps."""
    flat = images.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return flat.unflatten(0, images.shape[:-3])


def draw_patches(
    batch: Batch, images: Tensor, policy: MaskPolicy, patch_size: int
) -> Bool[Tensor, "B N h w"]:
    """Hidden patches; every image of a sample has its own mask."""
    count = images.shape[1]
    candidates = patch_candidates(images.flatten(0, 1), patch_size)
    return policy(candidates, ops.per_camera(batch.seeds, count)).unflatten(0, (batch.size, count))


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


def has_numbers(module: nn.Module) -> bool:
    """Whether a module is more than shapes, which is what the meta device holds of one."""
    return not next(module.parameters()).is_meta


def set_momentum(part: nn.Module | None, momentum: float) -> None:
    """Set the running statistics' momentum of a part's batch norms."""
    for module in part.modules() if part else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
