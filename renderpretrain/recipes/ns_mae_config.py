"""NS-MAE's numbers: every published one in the ``paper`` preset, a laptop's worth in the ``tiny`` one.

Lengths are metres throughout. The released code counts the bird's-eye depth in slices of 0.2 m; a weight per
metre here is five times as large as one per slice there.
"""

from typing import Literal

from pydantic import Field

from renderpretrain.recipes.calibration import CalibrationConfig
from renderpretrain.recipes.columns import MEANING, SWEEPS, Columns
from renderpretrain.recipes.ray_config import RayConfig
from renderpretrain.recipes.settings import (
    NUSCENES_SAMPLES,
    Box,
    Count,
    Depths,
    ImageSize,
    OptimizationConfig,
    Settings,
    Span,
    VoxelSize,
    WeightsFile,
    Width,
    Widths,
    tiny_optimization,
)


class SwinConfig(Settings):
    """The camera branch: patch masking, Swin, pyramid, depth net, lift and splat."""

    weights: WeightsFile = Field(
        None, description="Pre-trained backbone with timm's keys: .pth or .safetensors; published: none."
    )
    depths: Depths = Field((2, 2, 6, 2), description="Blocks per stage.")
    width: Width = Field(96, gt=0, description="Channels of the first stage.")
    window: Count = Field(7, gt=0)
    drop_path: float = Field(0.2, ge=0, lt=1)
    neck_channels: Width = Field(256, gt=0)
    channels: Width = Field(80, gt=0, description="Width of the lifted context and of the camera's BEV map.")
    mask_ratio: float = Field(0.5, ge=0, le=1, description="Share of patches replaced by the token.")
    patch_size: Count = Field(8, gt=0, description="Pixels.")
    depth_mask_ratio: float = Field(
        0.9, ge=0, le=1, description="Share of the depth pixels hidden from the depth net; fusion only."
    )
    depth_bins: Count = Field(118, gt=0)
    depth_range: Span = Field((0.75, 59.75), description="Outer edges of the bins.")
    bev_scale: Count = Field(2, ge=1, description="BEV cells are splatted this much finer, then strided.")


class SparseConfig(Settings):
    """The point branch: voxels, voxel masking, sparse encoder."""

    voxel_size: VoxelSize = (0.075, 0.075, 0.2)
    mask_ratio: float = Field(0.9, ge=0, le=1, description="Share of the occupied voxels that is dropped.")
    channels: tuple[Widths, ...] = Field(
        ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)), description="Widths per stage."
    )
    out_channels: Width = Field(128, gt=0, description="Width of the encoder's slices.")
    batch_norm_momentum: float = Field(0.01, gt=0, le=1)


class NSMAERenderConfig(RayConfig):
    """Rays for evaluation, pictures and ``losses.ray_depth``; the published terms need none."""

    num_samples: Count = Field(192, gt=0, description="Even samples of a ray through the density volume.")


class NSMAELossConfig(Settings):
    """Weights, ours; published: rgb 1e4, depth 0.01, bev_depth 0.01 per slice of 0.2 m.

    With the published ones a colour error of 0.03 counts 300 and a depth error of ten metres 0.1, and the
    released code then multiplies both depth terms by 1e-6 from the first step on. Here all start near 1.
    """

    rgb: float = Field(20.0, ge=0, description="Mean squared error of the perspective colours.")
    depth: float = Field(0.1, ge=0, description="Perspective depth, per metre.")
    bev_depth: float = Field(1.0, ge=0, description="Depth under the top of the grid, per metre.")
    ray_depth: float = Field(
        0.0, ge=0, description="Depth of sensor rays through the density volume, per metre; not published."
    )


class NSMAEConfig(Settings):
    """Everything ``NSMAE`` is built from."""

    modality: Literal["fusion", "camera", "lidar"] = "fusion"
    point_cloud_range: Box
    voxel_size: VoxelSize = Field(description="BEV cells, and the slices of the density.")
    image_size: ImageSize = Field((256, 704), description="Height and width images are resized to.")
    sweeps: Count = Field(
        1, ge=1, description="LiDAR sweeps merged into the input; targets are the key sweep."
    )
    points: Columns = Field(SWEEPS, description=MEANING)
    lidar: SparseConfig = SparseConfig()
    image: SwinConfig = SwinConfig()
    render: NSMAERenderConfig = NSMAERenderConfig()
    losses: NSMAELossConfig = NSMAELossConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    optimization: OptimizationConfig = OptimizationConfig()


def _paper() -> NSMAEConfig:
    """The released configuration: 50 epochs, two samples on each of 8 GPUs, ten sweeps."""
    return NSMAEConfig(
        point_cloud_range=(-54.0, -54.0, -5.0, 54.0, 54.0, 3.0),
        voxel_size=(0.6, 0.6, 0.2),
        sweeps=10,
        optimization=OptimizationConfig(
            steps=50 * NUSCENES_SAMPLES // 16,
            batch_size=2,
            lr=1e-4,
            schedule="cyclic",
            clip_norm=35,
            precision="bf16",
        ),
    )


def _tiny() -> NSMAEConfig:
    """Minutes on two cores: small images, coarser cells, narrow networks.

    Half of the voxels and depth pixels are hidden instead of nine tenths: the encoder is scored on whole
    sweeps, and has no epochs to get used to sparser ones. The view from above does not mind thin fog, which a
    ray along the street meets for fifty metres, and a few hundred steps do not clear it: ``ray_depth``, which
    the published method does not have, is on.
    """
    return NSMAEConfig(
        point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 4.8),
        voxel_size=(0.8, 0.8, 0.4),
        image_size=(128, 224),
        lidar=SparseConfig(
            voxel_size=(0.4, 0.4, 0.4),
            mask_ratio=0.5,
            channels=((16, 32), (32, 32)),
            out_channels=32,
            batch_norm_momentum=0.1,
        ),
        image=SwinConfig(
            depths=(1, 1, 2, 1),
            width=32,
            drop_path=0.0,
            neck_channels=64,
            channels=32,
            depth_mask_ratio=0.5,
            depth_bins=59,
            bev_scale=1,
        ),
        render=NSMAERenderConfig(num_samples=96, rays_per_camera=128, rays_per_sweep=768),
        losses=NSMAELossConfig(ray_depth=0.3),
        optimization=tiny_optimization(2e-3),
    )


NS_MAE_INDOOR = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.1),
    "lidar": {"voxel_size": (0.05, 0.05, 0.1)},
    "image": {"depth_range": (0.0, 8.0)},
    "render": {"near": 0.1, "near_radius": 0.0},
}
"""What a room changes in the ``tiny`` preset: the range of the built-in rooms and a tenth of the cells."""


NS_MAE_PRESETS: dict[str, NSMAEConfig] = {"tiny": _tiny(), "paper": _paper()}
"""Configurations by preset name."""
