"""UniScene's numbers: every published one in the ``paper`` preset, a laptop's worth in the ``tiny`` one.

Lengths are metres throughout, as in the published code. Where a number is not the authors' its description
says ``ours``.
"""

from typing import Literal

from pydantic import Field

from renderpretrain.recipes.schedule import NUSCENES_SAMPLES, OptimizationConfig, tiny_optimization
from renderpretrain.recipes.settings import (
    Blocks,
    Box,
    Count,
    Depths,
    Distance,
    ImageSize,
    Settings,
    Span,
    VoxelSize,
    WeightsFile,
    Width,
)


class ImageConfig(Settings):
    """The image network: ResNet and pyramid."""

    weights: WeightsFile = Field(
        None,
        description="Pre-trained backbone: a .pth or .safetensors file with timm's or torchvision's keys.",
    )
    depths: Depths = Field((3, 4, 23, 3), description="Blocks per stage; ResNet-101.")
    width: Width = Field(64, gt=0, description="Channels of the first stage.")
    bottleneck: bool = Field(True, description="Bottleneck blocks, as in ResNet-50 and ResNet-101.")
    frozen_stages: Count = Field(
        1, ge=0, description="Stages that keep their weights; 0 trains all, the stem included."
    )
    frozen_norms: bool = Field(True, description="All batch norms of the backbone keep what was loaded.")
    first_level: Count = Field(1, ge=0, description="First stage the pyramid uses.")
    num_levels: Count = Field(4, ge=1, description="Levels of the pyramid, finest first.")


class AttentionConfig(Settings):
    """Lifting by attention (``lifter: bevformer``)."""

    num_layers: Blocks = Field(6, ge=1)
    num_heads: Count = Field(8, ge=1)
    num_heights: Count = Field(4, ge=1, description="Reference points of a pillar.")
    num_points: Count = Field(8, ge=1, description="Reads per head and level, a multiple of num_heights.")
    hidden_channels: Width = Field(512, gt=0, description="Width of the feed-forward networks.")
    num_cameras: Count = Field(6, ge=1)
    history: Count = Field(4, ge=0, description="Frames before the present one that are remembered.")
    history_drop: float = Field(
        0.25, ge=0, le=1, description="Share of them that a training step leaves out."
    )


class SplatConfig(Settings):
    """Lifting by a depth distribution (``lifter: lss``); the numbers are ours, none is released."""

    depth_bins: Count = Field(59, gt=0)
    depth_range: Span = (1.0, 60.0)


class GridMaskConfig(Settings):
    """Stripes of squares that training hides from the image network."""

    probability: float = Field(0.7, ge=0, le=1, description="Of a sample being masked at all.")
    ratio: float = Field(0.5, ge=0, le=1, description="Share of a period that stays visible, per axis.")
    smallest: Count = Field(2, ge=2, description="Pixels; the largest period is the image's height.")


class LabelConfig(Settings):
    """Occupancy labels from LiDAR frames."""

    reach: Count = Field(2, ge=0, description="Frames on either side whose beams label a scene.")
    near: Distance = Field(
        2.0, ge=0, description="Closer returns label nothing, metres; ours: the recording car."
    )


class DecoderConfig(Settings):
    """From the volume to logits; thrown away after pre-training."""

    channels: Width = Field(32, gt=0)
    hidden_channels: Width = Field(64, gt=0)


class RenderConfig(Settings):
    """Rendering the logits, to score and to look at them. All ours."""

    num_samples: Count = Field(192, gt=0)
    near: Distance = Field(1.0, ge=0, description="Metres in front of the sensor that hold nothing.")
    length: float | None = Field(
        None, gt=0, description="Metres at which a voxel is opaque with its probability; null: its edge."
    )
    rays_per_camera: Count = Field(512, gt=0)
    near_radius: Distance = 3.0
    far_radius: Distance = 50.0
    stride: Count = Field(4, gt=0, description="Pixels between the filler's grid points.")
    sky: float = Field(0.4, ge=0, lt=1, description="Share of the image height without filler.")


class LossConfig(Settings):
    """Focal loss on observed voxels, and rendered depth (per metre), which is ours."""

    occupancy: float = Field(1.0, ge=0)
    gamma: float = Field(2.0, ge=0)
    alpha: float = Field(0.25, ge=0, le=1, description="Weight of occupied voxels; free ones have the rest.")
    depth: float = Field(0.0, ge=0, description="Weight of the rendered logits' depth error; ours.")


class UniSceneConfig(Settings):
    """Everything ``UniScene`` is built from."""

    lifter: Literal["bevformer", "lss"] = "bevformer"
    point_cloud_range: Box
    voxel_size: VoxelSize
    channels: Width = Field(256, gt=0, description="Of the bird's-eye view; a multiple of its heights.")
    image_size: ImageSize = Field((928, 1600), description="Height and width the images are resized to.")
    sweeps: Literal[1] = Field(1, description="Labels take whole frames: older sweeps lack an origin.")
    image: ImageConfig = ImageConfig()
    attention: AttentionConfig = AttentionConfig()
    splat: SplatConfig = SplatConfig()
    grid_mask: GridMaskConfig = GridMaskConfig()
    labels: LabelConfig = LabelConfig()
    decoder: DecoderConfig = DecoderConfig()
    render: RenderConfig = RenderConfig()
    losses: LossConfig = LossConfig()
    optimization: OptimizationConfig = OptimizationConfig()

    @property
    def history(self) -> int:
        """Frames that are remembered; only attention has a memory."""
        return self.attention.history if self.lifter == "bevformer" else 0


def _paper() -> UniSceneConfig:
    """The released configuration: 24 epochs of one sample on each of 8 GPUs."""
    return UniSceneConfig(
        point_cloud_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        voxel_size=(0.512, 0.512, 0.5),
        optimization=OptimizationConfig(
            steps=24 * NUSCENES_SAMPLES // 8,
            batch_size=1,
            lr=2e-4,
            schedule="cosine",
            warmup_steps=500,
            warmup_ratio=1 / 3,
            min_lr_ratio=1e-3,
            clip_norm=35,
            lr_multipliers={"images.backbone": 0.1},
        ),
    )


def _tiny() -> UniSceneConfig:
    """Minutes on two cores: a quarter of the area, coarser voxels, small networks, one remembered frame.

    Voxels as high as the paper's would let rays that graze the road end short of it by a fifth: opacity
    begins above a layer of occupied voxels. The depth term moves it to where the LiDAR says. The grid is
    cut so that the road lies in the upper half of its voxels. The focal loss weighs occupied and free voxels
    alike, which is what the released two channels amount to.
    """
    return UniSceneConfig(
        point_cloud_range=(-25.6, -25.6, -3.25, 25.6, 25.6, 4.75),
        voxel_size=(0.8, 0.8, 0.5),
        channels=64,
        image_size=(96, 160),
        image=ImageConfig(
            depths=(1, 1, 1, 1),
            width=24,
            bottleneck=False,
            frozen_stages=0,
            frozen_norms=False,
            num_levels=1,
        ),
        attention=AttentionConfig(
            num_layers=1, num_heads=4, num_points=4, hidden_channels=128, history=1, history_drop=0.0
        ),
        splat=SplatConfig(depth_bins=48, depth_range=(1.0, 37.0)),
        labels=LabelConfig(near=0.0),
        decoder=DecoderConfig(channels=16, hidden_channels=32),
        render=RenderConfig(num_samples=128, length=1.5, rays_per_camera=128),
        losses=LossConfig(alpha=0.5, depth=0.02),
        optimization=tiny_optimization(4e-3),
    )


UNISCENE_PRESETS: dict[str, UniSceneConfig] = {"tiny": _tiny(), "paper": _paper()}
"""Configurations by preset name."""
