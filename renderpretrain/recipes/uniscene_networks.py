"""UniScene's networks: images to feature maps, maps to a bird's-eye view, the view to occupancy."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.encoders import FPN, ResNet
from renderpretrain.encoders.frozen import freeze
from renderpretrain.encoders.image_weights import load_backbone
from renderpretrain.geometry import Cameras, VoxelGrid
from renderpretrain.lifters import BEVFormerLifter, LiftSplat
from renderpretrain.masking import hide_patches
from renderpretrain.ops.batch_norm import BatchNorm2d, BatchNorm3d
from renderpretrain.recipes.sensors import ImageNormalization, has_numbers
from renderpretrain.recipes.uniscene_config import UniSceneConfig


class ImageNetwork(nn.Module):
    """An image network and what makes maps of one width of its own, shared by all cameras.

    Args:
        backbone: An :class:`~renderpretrain.encoders.ImageEncoder`; patches are hidden in the pixels.
        neck: From its maps to those that are lifted.
        frozen: Batch norms that stay as they are.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module, *, frozen: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = freeze(frozen)
        self.neck = neck
        self.normalize = ImageNormalization()

    def train(self, mode: bool = True) -> "ImageNetwork":
        """Frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self, images: Float[Tensor, "B N 3 H W"], hidden: Bool[Tensor, "B N h w"] | None = None
    ) -> list[Float[Tensor, "B N C _ _"]]:
        """Feature maps, fine to coarse; hidden patches have the mean colour. Differentiable."""
        flat = self.normalize(images).flatten(0, 1)
        if hidden is not None:
            flat = hide_patches(flat, hidden.flatten(0, 1))
        return [level.unflatten(0, images.shape[:2]) for level in self.neck(self.backbone(flat))]


def image_network(config: UniSceneConfig) -> ImageNetwork:
    """ResNet and feature pyramid.

    Raises:
        ValueError: If something is to be frozen and there are no weights, or they do not fit.
    """
    image = config.image
    backbone = ResNet(
        image.depths,
        bottleneck=image.bottleneck,
        width=image.width,
        out_indices=range(image.first_level, len(image.depths)),
        frozen_stages=image.frozen_stages,
    )
    if image.weights is not None:
        load_backbone(backbone, Path(image.weights))
    elif (image.frozen_stages or image.frozen_norms) and has_numbers(backbone):
        raise ValueError(
            "image.frozen_stages, image.frozen_norms: freezing needs image.weights, a file of "
            "pre-trained weights; or set image.frozen_stages=0 and image.frozen_norms=false"
        )
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    neck = FPN(backbone.channels, config.channels, num_outs=image.num_levels, extra_convs=True)
    return ImageNetwork(backbone, neck, frozen=norms if image.frozen_norms else ())


def attention_lifter(config: UniSceneConfig, grid: VoxelGrid) -> BEVFormerLifter:
    """The lifter of the released code."""
    sizes = config.attention
    return BEVFormerLifter(
        grid,
        config.channels,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        num_levels=config.image.num_levels,
        num_cameras=sizes.num_cameras,
        num_heights=sizes.num_heights,
        num_points=sizes.num_points,
        hidden_channels=sizes.hidden_channels,
    )


class SplatLifter(nn.Module):
    """Lift-splat to one height, two convolutions in the plane, channels dealt out to the heights.

    Args:
        grid: The volume's grid; ``Z`` divides the channels.
        channels: Width of the maps and of the plane.
        depth_bins: Of the depth distribution.
        depth_range: Nearest and farthest depth, metres.
    """

    def __init__(
        self, grid: VoxelGrid, channels: int, *, depth_bins: int, depth_range: tuple[float, float]
    ) -> None:
        super().__init__()
        heights = grid.shape[0]
        if channels % heights:
            raise ValueError(f"channels: expected a multiple of the grid's Z={heights}, got {channels}")
        self.grid = grid
        flat = grid.coarsened((1, 1, heights))
        self.splat = LiftSplat(flat, channels, depth_bins=depth_bins, depth_range=depth_range)
        self.bev = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    BatchNorm2d(channels),
                    nn.ReLU(),
                )
                for _ in range(2)
            )
        )

    def forward(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B D Z Y X"]:
        """The volume. Differentiable in the maps."""
        flat = self.splat(levels, cameras, camera_valid)[:, :, 0]
        return self.bev(flat).reshape(len(flat), -1, *self.grid.shape)


def splat_lifter(config: UniSceneConfig, grid: VoxelGrid) -> SplatLifter:
    """The lifter that the paper describes beside the released one."""
    splat = config.splat
    return SplatLifter(grid, config.channels, depth_bins=splat.depth_bins, depth_range=splat.depth_range)


class OccupancyDecoder(nn.Module):
    """Two 3D convolutions and a small network per voxel; keys as the released ``decoder``, ``predicter``.

    Args:
        in_channels: Of the volume.
        channels: Of the convolutions.
        hidden_channels: Of the network per voxel.
    """

    def __init__(self, in_channels: int, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.decoder = nn.Sequential(_conv(in_channels, channels), _conv(channels, channels))
        self.predicter = nn.Sequential(
            nn.Linear(channels, hidden_channels), nn.Softplus(), nn.Linear(hidden_channels, 1)
        )

    def forward(self, volume: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B 1 Z Y X"]:
        """Logits of being occupied. Differentiable."""
        features = self.decoder(volume)
        return self.predicter(features.movedim(1, -1)).movedim(-1, 1)


def _conv(in_channels: int, channels: int) -> nn.Sequential:
    """A 3D convolution over all neighbours, normalised and rectified."""
    return nn.Sequential(
        nn.Conv3d(in_channels, channels, 3, padding=1, bias=False), BatchNorm3d(channels), nn.ReLU()
    )
