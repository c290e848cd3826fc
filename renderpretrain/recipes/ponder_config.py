"""PonderV2's numbers outdoors: every published one in the ``paper`` presets, a laptop's worth in ``tiny``.

Lengths are metres throughout. The published code squeezes the box of 108 x 108 x 8 m into a unit cube, axis
by axis, and measures depth, distance and sharpness there. Here space keeps its shape and 108 m are the unit
of what a weight belongs to: depth 10 there is ``10 / 108`` per metre, and the initial ``inv_s`` of 20.1 and
the sharpness of 64 of the importance pass are per 108 m.
"""

from pydantic import Field

from renderpretrain.recipes.columns import INTENSITY, MEANING, Features
from renderpretrain.recipes.ray_config import RayLossConfig
from renderpretrain.recipes.schedule import NUSCENES_SAMPLES, OptimizationConfig, tiny_optimization
from renderpretrain.recipes.settings import (
    Block,
    Blocks,
    Box,
    Count,
    Depths,
    Distance,
    ImageSize,
    Initial,
    Settings,
    VoxelSize,
    Width,
    Widths,
)

EMBEDDINGS = "An .npz of class names and vectors, or hashed:C for C random numbers per name."


class UNetConfig(Settings):
    """The sparse U-Net that is pre-trained, and its voxels."""

    voxel_size: VoxelSize = (0.1, 0.1, 0.1)
    stem_channels: Width = Field(32, gt=0, description="Width of the stem.")
    channels: Widths = Field(
        (32, 64, 128, 256, 256, 128, 96, 96), description="Width per stage, down, then up."
    )
    depths: Depths = Field((2, 3, 4, 6, 2, 2, 2, 2), description="Residual blocks per stage.")
    batch_norm_momentum: float = Field(
        0.01, gt=0, le=1, description="Weight of the newest batch in the running statistics."
    )


class MaskConfig(Settings):
    """Blocks of voxels whose features are replaced by a token."""

    ratio: float = Field(0.8, ge=0, le=1, description="Share of occupied blocks.")
    block: Block = Field((8, 8, 8), description="Voxels per block (z, y, x).")


class FieldConfig(Settings):
    """Field, and samples along a ray."""

    channels: Width = Field(32, gt=0, description="Width of the rendered volume.")
    hidden_channels: Width = Field(16, gt=0, description="Width of the networks.")
    sdf_blocks: Blocks = Field(5, ge=0, description="Hidden layers of the distance network.")
    rgb_blocks: Blocks = Field(3, ge=0, description="Hidden layers of the colour and the embedding network.")
    sharpness: Initial = Field(20.0855, gt=0, description="Initial inv_s in 1/extent: exp(10 * 0.3).")
    upsample_sharpness: float = Field(64.0, gt=0, description="inv_s of the importance pass in 1/extent.")
    num_samples: Count = Field(72, gt=0, description="Even samples along a ray.")
    num_importance: Count = Field(24, ge=0, description="Samples added near the surface.")
    near: Distance = Field(0.01, ge=0, description="Metres in front of the sensor that hold nothing.")


class OutdoorRayConfig(Settings):
    """Which LiDAR returns are rendered."""

    per_camera: Count = Field(512, gt=0, description="Rays per camera.")
    per_sweep: Count = Field(3072, gt=0, description="Rays where there are no cameras.")
    near_radius: Distance = Field(
        3.0, ge=0, description="Returns nearer than that in the plane are not used."
    )


class LossConfig(RayLossConfig):
    """The same with the term that compares rendered embeddings with those of classes."""

    semantic: float = Field(0.0, ge=0, description="Needs embeddings and classes of what rays hit.")
    temperature: float = Field(0.01, gt=0, description="Of the softmax over classes.")


class PonderOutdoorConfig(Settings):
    """Everything ``PonderOutdoor`` is built from."""

    point_cloud_range: Box = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)
    voxel_size: VoxelSize = Field((0.6, 0.6, 1.6), description="Voxels of the rendered volume.")
    image_size: ImageSize = Field((900, 1600), description="Height and width images are resized to.")
    sweeps: Count = Field(
        1, ge=1, description="LiDAR sweeps merged into the input; targets are the key sweep."
    )
    points: Features = Field(INTENSITY, description=MEANING)
    embeddings: str | None = Field(None, description=EMBEDDINGS)
    input_scale: tuple[float, float, float, float] = Field(
        (1.0, 1.0, 1.0, 1.0),
        description="What x, y, z and intensity are divided by before the encoder; other columns are not.",
    )
    encoder: UNetConfig = UNetConfig()
    mask: MaskConfig = MaskConfig()
    field: FieldConfig = FieldConfig()
    rays: OutdoorRayConfig = OutdoorRayConfig()
    losses: LossConfig = LossConfig()
    optimization: OptimizationConfig = OptimizationConfig()


def _paper() -> PonderOutdoorConfig:
    """Depth alone: 24 epochs, four samples on each of 4 GPUs, one cycle from a tenth of 2e-4."""
    return PonderOutdoorConfig(
        optimization=OptimizationConfig(
            steps=24 * NUSCENES_SAMPLES // 16,
            batch_size=4,
            lr=2e-5,
            weight_decay=0.01,
            schedule="cyclic",
            cyclic_peak=10.0,
            cyclic_end=0.01,
            cyclic_up=0.4,
            clip_norm=None,
            precision="bf16",
        ),
    )


def _with_losses(config: PonderOutdoorConfig, **weights: float) -> PonderOutdoorConfig:
    """The same with other weights."""
    return config.model_copy(update={"losses": config.losses.model_copy(update=weights)})


def _tiny() -> PonderOutdoorConfig:
    """Minutes on two cores: coarser voxels, a narrower network, fewer rays, more losses.

    A hidden block is one rendered voxel, as in the paper within a quarter (there 0.8 m of 0.6 m). A few
    hundred steps have no time to find surfaces through compositing alone, so near-surface and free-space
    terms are on, and the field starts sharper. Nor have they time to notice an intensity of 0.3 beside
    positions of 10 m, or to learn colours from the fifth of the blocks that the paper leaves: inputs are
    scaled and less is hidden. Colour weighs more than a metre, as in ``paper-colour`` (a hundred times).
    """
    return PonderOutdoorConfig(
        point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 4.8),
        voxel_size=(0.8, 0.8, 0.8),
        image_size=(128, 224),
        encoder=UNetConfig(
            voxel_size=(0.4, 0.4, 0.4),
            stem_channels=16,
            channels=(16, 32, 32, 32),
            depths=(1, 1, 1, 1),
            batch_norm_momentum=0.1,
        ),
        input_scale=(10.0, 10.0, 2.0, 0.25),
        mask=MaskConfig(ratio=0.4, block=(2, 2, 2)),
        field=FieldConfig(sharpness=120.0, num_samples=48, num_importance=16, near=1.0),
        rays=OutdoorRayConfig(per_camera=128, per_sweep=768),
        losses=LossConfig(depth=1.0, rgb=50.0, sdf=1.0, free_space=1.0, truncation=1.0),
        optimization=tiny_optimization(5e-3),
    )


OUTDOOR_PRESETS = {
    "tiny": _tiny(),
    "paper": _paper(),
    "paper-colour": _with_losses(_paper(), rgb=10.0),
    "paper-semantic": _with_losses(_paper(), semantic=0.1),
}
"""Configurations by name; ``paper`` renders depth alone, the others add a term."""


OUTDOOR_IN_A_ROOM = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.2),
    "input_scale": (2.0, 2.0, 1.0, 0.25),
    "encoder": {"voxel_size": (0.05, 0.05, 0.1)},
    "field": {"near": 0.1},
    "rays": {"near_radius": 0.0},
    "losses": {"truncation": 0.2},
}
"""What a room changes in the ``tiny`` preset: the range of the built-in rooms and smaller voxels."""
