"""NS-MAE's way from cameras to a bird's-eye map, with its masking."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import LSSFPN, SwinTransformer
from renderpretrain.encoders.image_weights import load_backbone
from renderpretrain.geometry import Cameras, RaySamples, VoxelGrid
from renderpretrain.lifters import frustum_points
from renderpretrain.masking import MaskPolicy, RandomMask, hide_depth, hide_patches
from renderpretrain.ops.batch_norm import BatchNorm2d
from renderpretrain.recipes.ns_mae_config import NSMAEConfig
from renderpretrain.recipes.sensors import ImageNormalization, draw_patches
from renderpretrain.samplers import depth_pictures

LIFTED_HEIGHTS = (-10.0, 10.0)
"""Between these the cameras' points are pooled in one BEV cell, metres."""

FEATURE_STRIDE = 8
"""Pixels per cell of the lifted feature maps: those of the second Swin stage."""


@dataclass(frozen=True)
class Lifted:
    """What the cameras saw.

    Attributes:
        bev: Features of the BEV cells.
        context: Features of the image cells.
        probabilities: Depth distribution of every image cell.
    """

    bev: Float[Tensor, "B C Y X"]
    context: Float[Tensor, "B N C h w"]
    probabilities: Float[Tensor, "B N D h w"]


class DepthLSS(nn.Module):
    """Lift and splat with a depth net that also reads a sparse depth image.

    BEVFusion's ``DepthLSSTransform`` (https://arxiv.org/abs/2205.13542), keys ``dtransform``, ``depthnet``,
    ``downsample``. Without depth images there is no ``dtransform``.

    Args:
        in_channels: Width of the feature maps.
        channels: Width of context and BEV map.
        grid: The BEV map's cells; its height does not matter.
        bins: Number of depth bins.
        depth_range: Their outer edges along the optical axis, metres.
        bev_scale: The map is splatted with so many times finer cells, and strided.
        depth_images: Whether there are any.
    """

    def __init__(  # noqa: PLR0913  the transform's sizes are its configuration
        self,
        in_channels: int,
        channels: int,
        grid: VoxelGrid,
        *,
        bins: int,
        depth_range: tuple[float, float],
        bev_scale: int,
        depth_images: bool,
    ) -> None:
        super().__init__()
        self.grid = _finer(grid, bev_scale)
        self.channels = channels
        self.bins, self.depth_range = bins, depth_range
        self.dtransform = (
            nn.Sequential(*_conv(1, 8, 1), *_conv(8, 32, 5, stride=4), *_conv(32, 64, 5, stride=2))
            if depth_images
            else None
        )
        known = in_channels + (64 if depth_images else 0)
        self.depthnet = nn.Sequential(
            *_conv(known, in_channels, 3),
            *_conv(in_channels, in_channels, 3),
            nn.Conv2d(in_channels, bins + channels, 1),
        )
        self.downsample = nn.Sequential(
            *_conv(channels, channels, 3, bias=False),
            *_conv(channels, channels, 3, stride=bev_scale, bias=False),
            *_conv(channels, channels, 3, bias=False),
        )

    def forward(
        self,
        features: Float[Tensor, "B N C h w"],
        depth: Float[Tensor, "B N H W"] | None,
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
    ) -> Lifted:
        """Depth distribution and context of every cell, pooled; no product of the two is ever stored."""
        known = features.flatten(0, 1)
        if self.dtransform is not None and depth is not None:
            known = torch.cat([known, self.dtransform(depth.flatten(0, 1)[:, None])], 1)
        out = self.depthnet(known)
        probabilities, context = out[:, : self.bins].float().softmax(1), out[:, self.bins :]
        plan = self._plan(cameras, camera_valid, (features.shape[3], features.shape[4]))
        pooled = ops.lss_pool(probabilities, context, plan)
        bev = pooled.view(len(features), *self.grid.shape[1:], -1).permute(0, 3, 1, 2)
        shape = features.shape[:2]
        return Lifted(self.downsample(bev), context.unflatten(0, shape), probabilities.unflatten(0, shape))

    @torch.no_grad()
    def _plan(
        self, cameras: Cameras, camera_valid: Bool[Tensor, "B N"], size: tuple[int, int]
    ) -> ops.LssPlan:
        """Where the image cells go."""
        bins = RaySamples.even(*self.depth_range, self.bins, device=camera_valid.device)
        points = frustum_points(cameras, bins.t_mids, size)
        cells = ops.frustum_cells(points, self.grid.shape, self.grid.scale, self.grid.offset)
        cells = torch.where(camera_valid[..., None, None, None], cells, -1)
        return ops.lss_plan(cells.flatten(0, 1), len(cells) * self.grid.num_voxels)


class CameraBranch(nn.Module):
    """Patches replaced by a token, image network, pyramid, depth net, lift and splat.

    Args:
        backbone: From images, whose hidden patches hold the token, to maps, fine to coarse.
        neck: From these to maps of which the first, an eighth of the image's size, is lifted.
        view_transform: From that map, and depth images, to the bird's-eye map.
        mask: Which patches are hidden, ``(candidates, seeds) -> mask``; every image has its own mask.
        depth_mask: Which pixels of the depth images are hidden, likewise.
        patch_size: Pixels.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        view_transform: DepthLSS,
        *,
        mask: MaskPolicy,
        depth_mask: MaskPolicy,
        patch_size: int = 8,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.policy, self.depth_policy = mask, depth_mask
        self.token = nn.Parameter(torch.zeros(3, patch_size, patch_size))
        self.backbone = backbone
        self.neck = neck
        self.view_transform = view_transform
        self.normalize = ImageNormalization()

    def hide(self, batch: Batch) -> Bool[Tensor, "B N h w"]:
        """Hidden patches; every image of a sample has its own mask."""
        images = batch.require_views("modality=lidar").images
        return draw_patches(batch, images, self.policy, self.patch_size)

    def hide_depth(self, batch: Batch) -> Bool[Tensor, "B N H W"] | None:
        """Hidden pixels of the depth images, drawn among all those of a sample; ``None`` without any."""
        depth = self._depth(batch)
        return None if depth is None else self.depth_policy(depth > 0, ops.fork(batch.seeds, 2))

    def _depth(self, batch: Batch) -> Float[Tensor, "B N H W"] | None:
        """What the LiDAR, all sweeps of it, tells of the images' depth."""
        if self.view_transform.dtransform is None:
            return None
        views = batch.require_views("modality=lidar")
        return depth_pictures(batch.points.xyz, batch.points.valid, views.cameras)

    def forward(
        self,
        batch: Batch,
        patches: Bool[Tensor, "B N h w"] | None,
        pixels: Bool[Tensor, "B N H W"] | None,
    ) -> Lifted:
        """What the cameras see, with hidden patches, and depth images with hidden pixels."""
        views, depth = batch.require_views("modality=lidar"), self._depth(batch)
        if depth is not None and pixels is not None:
            depth = hide_depth(depth, pixels)
        return self.view_transform(self.maps(batch, patches), depth, views.cameras, views.valid)

    def maps(self, batch: Batch, patches: Bool[Tensor, "B N h w"] | None) -> Float[Tensor, "B N C h w"]:
        """The neck's map."""
        seen = batch.require_views("modality=lidar").images
        images = self.normalize(seen).flatten(0, 1)
        if patches is not None:
            images = hide_patches(images, patches.flatten(0, 1), self.token)
        return self.neck(self.backbone(images))[0].unflatten(0, seen.shape[:2])


def camera_branch(config: NSMAEConfig, grid: VoxelGrid) -> CameraBranch:
    """Swin, BEVFusion's pyramid and its depth transform, as a configuration sizes them."""
    image = config.image
    backbone = SwinTransformer(
        image.depths,
        image.width,
        window=image.window,
        drop_path=image.drop_path,
        out_indices=range(1, len(image.depths)),
    )
    if image.weights is not None:
        load_backbone(backbone, Path(image.weights))
    neck = LSSFPN(backbone.channels, image.neck_channels)
    view_transform = DepthLSS(
        image.neck_channels,
        image.channels,
        grid,
        bins=image.depth_bins,
        depth_range=image.depth_range,
        bev_scale=image.bev_scale,
        depth_images=config.modality == "fusion",
    )
    return CameraBranch(
        backbone,
        neck,
        view_transform,
        mask=RandomMask(image.mask_ratio),
        depth_mask=RandomMask(image.depth_mask_ratio),
        patch_size=image.patch_size,
    )


def _finer(grid: VoxelGrid, scale: int) -> VoxelGrid:
    """One cell high, cells ``scale`` times finer, and every ``scale``-th centred on a cell of the grid.

    That is where convolutions of that stride leave their outputs.
    """
    (x, y, _), (low, high) = grid.voxel_size, LIFTED_HEIGHTS
    sizes = (x / scale, y / scale)
    shifts = [(size - fine) / 2 for size, fine in zip((x, y), sizes, strict=True)]
    lower = [low + shift for low, shift in zip(grid.lower[:2], shifts, strict=True)]
    upper = [high + shift for high, shift in zip(grid.upper[:2], shifts, strict=True)]
    return VoxelGrid((lower[0], lower[1], low, upper[0], upper[1], high), (*sizes, high - low))


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, bias: bool = True
) -> list[nn.Module]:
    """A convolution, batch normalisation and ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
    )
    return [conv, BatchNorm2d(out_channels), nn.ReLU()]
