"""UniPAD's numbers: every published one in the ``paper`` presets, a laptop's worth in the ``tiny`` ones.

Lengths are metres throughout. The published code works in metres times ``1 / max|range|``; its depth weight
10 in those units is ``10 / max|range|`` per metre here, and its sharpness 64 of the importance pass is ``64
/ max|range|``.
"""

from typing import Literal

from pydantic import Field

from renderpretrain.recipes.calibration import CalibrationConfig
from renderpretrain.recipes.columns import MEANING, SWEEPS, Columns
from renderpretrain.recipes.ray_config import RayConfig, RayLossConfig
from renderpretrain.recipes.settings import (
    NUSCENES_SAMPLES,
    Block,
    Blocks,
    Box,
    Count,
    Depths,
    ImageSize,
    Initial,
    OptimizationConfig,
    Settings,
    Span,
    VoxelSize,
    WeightsFile,
    Width,
    Widths,
    tiny_optimization,
)


class LidarConfig(Settings):
    """The point branch: voxels, block masking, sparse encoder, dense neck."""

    voxel_size: VoxelSize = Field(
        (0.075, 0.075, 0.2), description="Encoder voxels; blocks of mask_block of them are hidden together."
    )
    mask_ratio: float = Field(0.8, ge=0, le=1, description="Share of occupied blocks that is dropped.")
    mask_block: Block = Field((8, 8, 8), description="Voxels per block (z, y, x).")
    batch_norm_momentum: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Weight of the newest batch in the running statistics of the 3D networks.",
    )
    channels: tuple[Widths, ...] = Field(
        ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        description="Widths per stage of the encoder.",
    )
    neck_blocks: Blocks = Field(5, ge=0, description="Further convolutions in each neck branch.")
    neck_channels: Widths = Field(
        (128, 256, 512), description="Width of the neck's branches, strides 1, 2, 4."
    )


class ImageConfig(Settings):
    """The camera branch: patch masking, masked backbone, pyramid, depth-weighted lifting."""

    backbone: Literal["convnext", "resnet"] = "convnext"
    weights: WeightsFile = Field(
        None,
        description="Pre-trained backbone: a .pth or .safetensors file with timm's or torchvision's keys.",
    )
    depths: Depths = Field((3, 3, 27, 3), description="Blocks per stage.")
    widths: Widths = Field((96, 192, 384, 768), description="Channels per stage; a ResNet takes the first.")
    bottleneck: bool = Field(False, description="ResNet with bottleneck blocks, as in ResNet-50.")
    drop_path: float = Field(0.2, ge=0, lt=1)
    layer_scale: Initial = Field(1e-6, gt=0, description="Initial weight of ConvNeXt's residual branches.")
    frozen_stages: Count = Field(
        1, ge=0, description="Stages that keep their weights; 0 trains all, the stem included."
    )
    first_level: Count = Field(1, ge=0, description="First stage the pyramid uses.")
    num_levels: Count = Field(4, ge=1, description="Levels of the pyramid, finest first.")
    mask_ratio: float = Field(0.3, ge=0, le=1, description="Share of patches that is set to the mean colour.")
    patch_size: Count = Field(32, gt=0, description="Pixels.")
    depth_bins: Count = Field(64, gt=0)
    depth_range: Span = (0.0, 64.0)


class RenderConfig(RayConfig):
    """Field, samples along a ray, choice of rays."""

    channels: Width = Field(32, gt=0, description="Width of the rendered volume.")
    hidden_channels: Width = 16
    sdf_blocks: Blocks = 5
    rgb_blocks: Blocks = 3
    sharpness: Initial = Field(20.0855, gt=0, description="Initial inv_s in 1/max|range|: exp(10 * 0.3).")
    upsample_sharpness: float = Field(64.0, gt=0, description="inv_s of the importance pass in 1/max|range|.")
    num_samples: Count = Field(72, gt=0)
    num_importance: Count = Field(24, ge=0)


class LossConfig(RayLossConfig):
    """Weights; depth and distance terms per metre. The published recipes use depth and rgb alone."""

    depth: float = Field(10 / 54, ge=0)
    rgb: float = Field(10.0, ge=0)
    depth_bins: float = Field(
        0.0, ge=0, description="Likelihood of measured depths under the lifter's distributions."
    )
    truncation: float = Field(0.2, gt=0, description="Metres around a measured surface.")


class UniPADConfig(Settings):
    """Everything ``UniPAD`` is built from."""

    modality: Literal["lidar", "camera", "fusion"]
    point_cloud_range: Box
    voxel_size: VoxelSize = Field(description="Voxels of the rendered volume.")
    channels: Width = Field(256, gt=0, description="Width of the lifted volume.")
    image_size: ImageSize = Field((928, 1600), description="Height and width the images are resized to.")
    sweeps: Count = Field(
        1, ge=1, description="LiDAR sweeps merged into the input; targets come from the key sweep."
    )
    points: Columns = Field(SWEEPS, description=MEANING)
    lidar: LidarConfig = LidarConfig()
    image: ImageConfig = ImageConfig()
    render: RenderConfig = RenderConfig()
    losses: LossConfig = LossConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    optimization: OptimizationConfig = OptimizationConfig()


def _paper_camera() -> UniPADConfig:
    """UniPAD-C with 0.1 m voxels: 12 epochs of one sample on each of 4 GPUs."""
    return UniPADConfig(
        modality="camera",
        point_cloud_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        voxel_size=(0.8, 0.8, 1.6),
        channels=128,
        losses=LossConfig(depth=10 / 51.2, rgb=10.0, truncation=0.1),
        optimization=OptimizationConfig(
            steps=12 * NUSCENES_SAMPLES // 4,
            batch_size=1,
            lr=2e-4,
            schedule="cosine",
            warmup_steps=500,
            warmup_ratio=1 / 3,
            min_lr_ratio=1e-3,
            clip_norm=35,
            lr_multipliers={"camera.backbone": 0.1},
            precision="bf16",
        ),
    )


def _paper_lidar() -> UniPADConfig:
    """UniPAD-L with 0.075 m voxels: 12 epochs, four samples on each of 4 GPUs, ten sweeps."""
    return UniPADConfig(
        modality="lidar",
        point_cloud_range=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0),
        voxel_size=(0.6, 0.6, 1.6),
        sweeps=10,
        render=RenderConfig(far_radius=100.0),
        losses=LossConfig(depth=10 / 54, rgb=0.0, truncation=0.2),
        optimization=OptimizationConfig(
            steps=12 * NUSCENES_SAMPLES // 16,
            batch_size=4,
            lr=2e-5,
            schedule="cyclic",
            cyclic_peak=10.0,
            cyclic_end=1e-4,
            cyclic_up=0.4,
            cyclic_momentum=(0.95, 0.85),
            clip_norm=35,
            precision="bf16",
        ),
    )


def _paper_fusion() -> UniPADConfig:
    """UniPAD-M in one run: the LiDAR recipe's grid and neck, the camera recipe's images, both losses."""
    lidar, camera = _paper_lidar(), _paper_camera()
    return lidar.model_copy(
        update={
            "modality": "fusion",
            "losses": LossConfig(depth=10 / 54, rgb=10.0, truncation=0.2),
            "optimization": camera.optimization,
        }
    )


TINY_LIDAR = LidarConfig(
    voxel_size=(0.4, 0.4, 0.4),
    mask_ratio=0.5,
    mask_block=(2, 2, 2),
    batch_norm_momentum=0.1,
    channels=((16, 32), (32, 32)),
    neck_blocks=1,
    neck_channels=(32, 32, 64),
)
TINY_IMAGE = ImageConfig(
    depths=(1, 1, 2, 1),
    widths=(32, 64, 96, 128),
    drop_path=0.0,
    layer_scale=1.0,
    frozen_stages=0,
    num_levels=1,
    depth_bins=48,
)


def _tiny(modality: Literal["lidar", "camera", "fusion"]) -> UniPADConfig:
    """Minutes on two cores: coarser voxels, narrower networks, fewer rays, more losses.

    A hidden block is one rendered voxel, as in the paper (there 8 encoder voxels wide, here 2), and half of
    them are hidden: the encoder is scored on whole sweeps, and has no epochs to get used to sparser ones. A
    run of a few hundred steps has no time to find surfaces through compositing alone, so the terms that the
    published code has with weight 0 are on: near-surface, free-space, and supervision of the lifter's depth
    distributions.

    Without cameras in the input, colour is rendered all the same where there are some, and the learning rate
    is lower: after 200 steps of depth alone at 5e-3 the encoder was a worse start for fine-tuning than fresh
    weights.
    """
    return UniPADConfig(
        modality=modality,
        point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 4.8),
        voxel_size=(0.8, 0.8, 0.8),
        channels=32,
        image_size=(128, 224),
        lidar=TINY_LIDAR,
        image=TINY_IMAGE,
        render=RenderConfig(
            sharpness=60.0, num_samples=48, num_importance=16, rays_per_camera=128, rays_per_sweep=768
        ),
        losses=LossConfig(
            depth=1.0,
            rgb=10.0,
            sdf=1.0,
            free_space=1.0,
            truncation=1.0,
            depth_bins=1.0,
        ),
        optimization=tiny_optimization(2e-3 if modality == "lidar" else 5e-3),
    )


INDOOR = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.2),
    "lidar": {"voxel_size": (0.05, 0.05, 0.1)},
    "image": {"depth_range": (0.0, 8.0)},
    "render": {"near": 0.1, "near_radius": 0.0},
    "losses": {"truncation": 0.2},
}
"""What a room changes in the ``tiny`` presets: the range of the built-in rooms and a tenth of the voxels."""


PRESETS: dict[str, dict[str, UniPADConfig]] = {
    "unipad-lidar": {"tiny": _tiny("lidar"), "paper": _paper_lidar()},
    "unipad-camera": {"tiny": _tiny("camera"), "paper": _paper_camera()},
    "unipad-fusion": {"tiny": _tiny("fusion"), "paper": _paper_fusion()},
}
"""Configurations by recipe and preset name."""
