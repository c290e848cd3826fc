"""UniPAD's two ways from a sensor to a volume, each with its masking."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.data import Batch
from renderpretrain.encoders import FPN, ConvNeXt, ResNet, SparseEncoder, VolumeNeck, Voxels
from renderpretrain.geometry import VoxelGrid
from renderpretrain.lifters import ViewLifter, depth_log_likelihood, view_coordinates
from renderpretrain.masking import RandomMask, hidden_voxels, occupied_blocks
from renderpretrain.recipes.columns import PointInput
from renderpretrain.recipes.image_weights import load_backbone
from renderpretrain.recipes.recipe import MaskedVoxels
from renderpretrain.recipes.sensors import ImageNormalization, draw_patches, has_numbers
from renderpretrain.recipes.unipad_config import UniPADConfig
from renderpretrain.samplers import RayTargets

INSTEAD = "unipad-lidar"
"""The recipe for scenes without images."""


def volume_grid(config: UniPADConfig) -> VoxelGrid:
    """Where the sparse encoder's outputs are centred, or the configured grid without LiDAR."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    if config.modality == "camera":
        return grid
    fine = VoxelGrid(config.point_cloud_range, config.lidar.voxel_size)
    out = _sparse_encoder(config).output_grid(fine)
    if out.shape != grid.shape:
        raise ValueError(
            "lidar.voxel_size, lidar.channels: expected an encoder output of "
            f"{grid.shape} voxels as voxel_size says, "
            f"got {out.shape}"
        )
    return out


class LidarBranch(nn.Module):
    """Voxels, block masking, sparse encoder, dense neck.

    Args:
        config: The recipe's.
    """

    def __init__(self, config: UniPADConfig) -> None:
        super().__init__()
        lidar = config.lidar
        self.grid = VoxelGrid(config.point_cloud_range, lidar.voxel_size)
        self.input = PointInput(config.points)
        self.block = lidar.mask_block
        self.policy = RandomMask(lidar.mask_ratio)
        self.encoder = _sparse_encoder(config)
        self.neck = VolumeNeck(
            config.channels, config.channels, channels=lidar.neck_channels, num_blocks=lidar.neck_blocks
        )

    def hide(self, batch: Batch) -> MaskedVoxels:
        """The voxels, and those in hidden blocks."""
        voxels = self.voxels(batch)
        z, y, x = (-(-n // b) for n, b in zip(self.grid.shape, self.block, strict=True))
        occupied = occupied_blocks(voxels.coords, self.block, (batch.size, z, y, x))
        blocks = self.policy(occupied, ops.fork(batch.seeds, 1))
        return MaskedVoxels(voxels, hidden_voxels(voxels.coords, self.block, blocks))

    def voxels(self, batch: Batch) -> Voxels:
        """The voxels of all points; each holds their mean."""
        points = batch.require_points("a recipe with LiDAR", "use unipad-camera")
        return self.input(batch, points.valid, self.grid)

    def forward(self, batch: Batch, masked: MaskedVoxels | None) -> Float[Tensor, "B C Z Y X"]:
        """The volume of the voxels that are left; hidden ones are dropped."""
        if masked is None:
            return self.neck(self.encoder(self.voxels(batch).to_sparse()))
        return self.neck(self.encoder(masked.voxels.to_sparse(masked.hidden)))


@dataclass(frozen=True)
class Lifted:
    """What the cameras saw.

    Attributes:
        volume: Lifted features.
        probabilities: Depth distributions of every level that was lifted.
    """

    volume: Float[Tensor, "B C Z Y X"]
    probabilities: list[Float[Tensor, "B N D _ _"]]


class CameraBranch(nn.Module):
    """Patch masking, masked image network, pyramid, depth-weighted lifting.

    Args:
        config: The recipe's.
        grid: The volume's grid.
    """

    def __init__(self, config: UniPADConfig, grid: VoxelGrid) -> None:
        super().__init__()
        image = config.image
        if any(side % image.patch_size for side in config.image_size):
            raise ValueError(
                f"image_size: expected sides divisible by image.patch_size={image.patch_size}, "
                f"got {config.image_size}"
            )
        self.patch_size = image.patch_size
        self.policy = RandomMask(image.mask_ratio)
        self.backbone = _image_backbone(config)
        if image.weights is not None:
            load_backbone(self.backbone, Path(image.weights))
        elif image.frozen_stages and has_numbers(self.backbone):
            raise ValueError(
                f"image.frozen_stages: freezing {image.frozen_stages} stages needs image.weights, "
                "a file of pre-trained weights; or set image.frozen_stages=0"
            )
        self.neck = FPN(self.backbone.channels, config.channels, num_outs=image.num_levels)
        self.project = nn.Conv2d(config.channels, config.channels, kernel_size=1)
        self.lifter = ViewLifter(
            grid, config.channels, depth_bins=image.depth_bins, depth_range=image.depth_range
        )
        self.normalize = ImageNormalization()

    def hide(self, batch: Batch) -> Bool[Tensor, "B N h w"]:
        """Hidden patches; every image of a sample has its own mask."""
        return draw_patches(batch, batch.require_views(INSTEAD).images, self.policy, self.patch_size)

    def forward(self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None) -> Lifted:
        """The volume of what the cameras see."""
        views = batch.require_views(INSTEAD)
        levels = [
            self.project(level.flatten(0, 1)).unflatten(0, views.valid.shape)
            for level in self.maps(batch, hidden)
        ]
        return Lifted(*self.lifter.lift(levels, views.cameras, views.valid))

    def maps(self, batch: Batch, hidden: Bool[Tensor, "B N h w"] | None) -> list[Float[Tensor, "B N C _ _"]]:
        """The pyramid's maps, finest first."""
        images = batch.require_views(INSTEAD).images
        mask = None if hidden is None else hidden.flatten(0, 1)[:, None]
        levels = self.neck(self.backbone(self.normalize(images).flatten(0, 1), mask))
        return [level.unflatten(0, images.shape[:2]) for level in levels]

    def depth_loss(self, lifted: Lifted, batch: Batch, targets: RayTargets) -> Float[Tensor, ""]:
        """Negative log likelihood of measured depths under the predicted distributions."""
        cameras = batch.require_views(INSTEAD).cameras
        shape = (batch.size, cameras.shape[1], -1)
        coordinates, inside = view_coordinates(
            cameras, targets.ends.reshape(*shape, 3), self.lifter.depth_range
        )
        valid = targets.hit.reshape(shape) & inside
        terms = [
            losses.masked_mean(-depth_log_likelihood(probabilities, coordinates, valid), valid)
            for probabilities in lifted.probabilities
        ]
        return torch.stack(terms).mean()


def _sparse_encoder(config: UniPADConfig) -> SparseEncoder:
    """UniPAD's sparse encoder: all stages but the last halve all axes, the third leaves z unpadded."""
    stages = len(config.lidar.channels)
    paddings = ((1, 1, 1), (1, 1, 1), (0, 1, 1))
    return SparseEncoder(
        len(config.points),
        config.channels,
        channels=config.lidar.channels,
        strides=((2, 2, 2),) * (stages - 1),
        paddings=paddings[: stages - 1],
    )


def _image_backbone(config: UniPADConfig) -> ConvNeXt | ResNet:
    """The configured network."""
    image = config.image
    used = range(image.first_level, len(image.depths))
    if image.backbone == "resnet":
        return ResNet(
            image.depths,
            bottleneck=image.bottleneck,
            width=image.widths[0],
            out_indices=used,
            frozen_stages=image.frozen_stages,
        )
    return ConvNeXt(
        image.depths,
        image.widths,
        drop_path=image.drop_path,
        layer_scale=image.layer_scale,
        out_indices=used,
        frozen_stages=image.frozen_stages,
    )
