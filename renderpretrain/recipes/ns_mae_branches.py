"""NS-MAE's two ways from a sensor to a bird's-eye map, each with its masking."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import LSSFPN, SparseEncoder, SwinTransformer, Voxels
from renderpretrain.geometry import Cameras, RaySamples, VoxelGrid
from renderpretrain.lifters import frustum_points
from renderpretrain.masking import RandomMask, hide_depth, hide_patches, voxel_candidates
from renderpretrain.ops.batch_norm import BatchNorm2d
from renderpretrain.recipes.columns import PointInput
from renderpretrain.recipes.image_weights import load_backbone
from renderpretrain.recipes.ns_mae_config import NSMAEConfig
from renderpretrain.recipes.recipe import MaskedVoxels
from renderpretrain.recipes.sensors import ImageNormalization, draw_patches, set_momentum
from renderpretrain.samplers import depth_pictures

LIFTED_HEIGHTS = (-10.0, 10.0)
"""Between these the cameras' points are pooled in one BEV cell, metres."""

FEATURE_STRIDE = 8
"""Pixels per cell of the lifted feature maps: those of the second Swin stage."""


def density_grid(config: NSMAEConfig) -> VoxelGrid:
    """The rendered grid: columns where the sparse encoder's outputs are centred, or the configured grid."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    if config.modality == "camera":
        return grid
    fine = VoxelGrid(config.point_cloud_range, config.lidar.voxel_size)
    out = sparse_encoder(config).output_grid(fine)
    if out.shape[1:] != grid.shape[1:]:
        raise ValueError(
            f"lidar.voxel_size, lidar.channels: expected an encoder output of {grid.shape[1:]} columns as "
            f"voxel_size says, got {out.shape[1:]}"
        )
    box = (*out.lower[:2], grid.lower[2], *out.upper[:2], grid.upper[2])
    return VoxelGrid(box, config.voxel_size)


def sparse_encoder(config: NSMAEConfig) -> SparseEncoder:
    """BEVFusion's sparse encoder: all stages but the last halve all axes, the output halves z once more."""
    stages = len(config.lidar.channels)
    paddings = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
    return SparseEncoder(
        len(config.points),
        config.lidar.out_channels,
        channels=config.lidar.channels,
        strides=((2, 2, 2),) * (stages - 1),
        paddings=paddings[: stages - 1],
        out_geometry=((3, 1, 1), (2, 1, 1), 0),
    )


class LidarBranch(nn.Module):
    """Voxels, uniform masking, sparse encoder; its slices become channels of the BEV map.

    Args:
        config: The recipe's.
    """

    def __init__(self, config: NSMAEConfig) -> None:
        super().__init__()
        lidar = config.lidar
        self.grid = VoxelGrid(config.point_cloud_range, lidar.voxel_size)
        self.input = PointInput(config.points)
        self.policy = RandomMask(lidar.mask_ratio)
        self.encoder = sparse_encoder(config)
        self.out_grid = self.encoder.output_grid(self.grid)
        self.channels = lidar.out_channels * self.out_grid.shape[0]
        set_momentum(self.encoder, lidar.batch_norm_momentum)

    def hide(self, batch: Batch) -> MaskedVoxels:
        """The voxels, and those that are hidden."""
        voxels = self.voxels(batch)
        candidates, places = voxel_candidates(voxels.coords, batch.size)
        mask = self.policy(candidates, ops.fork(batch.seeds, 1))
        return MaskedVoxels(voxels, mask[voxels.coords[:, 0].long(), places])

    def voxels(self, batch: Batch) -> Voxels:
        """The voxels of all points; each holds their mean."""
        points = batch.require_points("a recipe with LiDAR", "use modality=camera")
        return self.input(batch, points.valid, self.grid)

    def forward(self, batch: Batch, masked: MaskedVoxels | None) -> Float[Tensor, "B C Y X"]:
        """The BEV map of the voxels that are left: the volume's slices are its channels."""
        return self.volume(batch, masked).flatten(1, 2)

    def volume(self, batch: Batch, masked: MaskedVoxels | None) -> Float[Tensor, "B C Z Y X"]:
        """The encoder's output on ``out_grid``; hidden voxels are dropped."""
        if masked is None:
            return self.encoder(self.voxels(batch).to_sparse())
        return self.encoder(masked.voxels.to_sparse(masked.hidden))


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
    """Patches replaced by a token, Swin, pyramid, depth net, lift and splat.

    Args:
        config: The recipe's.
        grid: The BEV map's cells.
    """

    def __init__(self, config: NSMAEConfig, grid: VoxelGrid) -> None:
        super().__init__()
        image = config.image
        self.patch_size = image.patch_size
        self.policy = RandomMask(image.mask_ratio)
        self.depth_policy = RandomMask(image.depth_mask_ratio)
        self.token = nn.Parameter(torch.zeros(3, image.patch_size, image.patch_size))
        self.backbone = SwinTransformer(
            image.depths,
            image.width,
            window=image.window,
            drop_path=image.drop_path,
            out_indices=range(1, len(image.depths)),
        )
        if image.weights is not None:
            load_backbone(self.backbone, Path(image.weights))
        self.neck = LSSFPN(self.backbone.channels, image.neck_channels)
        self.view_transform = DepthLSS(
            image.neck_channels,
            image.channels,
            grid,
            bins=image.depth_bins,
            depth_range=image.depth_range,
            bev_scale=image.bev_scale,
            depth_images=config.modality == "fusion",
        )
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
