"""PonderV2's numbers indoors: every published one in the ``paper`` preset, a laptop's worth in ``tiny``.

Lengths are metres throughout. The published code shrinks every scene into a unit cube by its own largest
side and measures depth, distance and sharpness there. Here the cube is the same for all scenes, ``SIDE``
metres wide, and a length or a weight per length is converted with that: the truncation of 0.05 is 0.05 SIDE,
depth 1, near-surface 10 and free-space 1 per unit are 1 / SIDE, 10 / SIDE and 1 / SIDE per metre, and the
initial ``inv_s`` of 20.1 and the sharpness of 64 of the importance pass are per SIDE. Colour, eikonal and
classes have no length. For scenes of another size set ``point_cloud_range``, ``voxel_size`` and these alike.
"""

from pydantic import Field

from renderpretrain.recipes.calibration import CalibrationConfig
from renderpretrain.recipes.columns import COLOR_NORMAL, INTENSITY, MEANING, Features
from renderpretrain.recipes.ponder_config import EMBEDDINGS, FieldConfig, LossConfig, UNetConfig
from renderpretrain.recipes.schedule import OptimizationConfig, tiny_optimization
from renderpretrain.recipes.settings import (
    Blocks,
    Box,
    Count,
    Distance,
    ImageSize,
    Settings,
    VoxelSize,
    Width,
    Widths,
)

SIDE = 6.4
"""Metres: side of the published unit cube here, the largest built-in room."""

FLOOR = -0.2
"""Metres: height of the cube's lower face; the published cube stands on the scene's lowest point, too."""


class SplitFieldConfig(FieldConfig):
    """A field whose distance and colour read different halves of the volume."""

    channels: Width = Field(128, gt=0, description="Width of the rendered volume; half of it per network.")
    hidden_channels: Width = Field(128, gt=0, description="Width of the networks.")
    geometry_channels: Width = Field(64, gt=0, description="Width of what the distance tells the colour.")
    sdf_blocks: Blocks = Field(1, ge=0, description="Hidden layers of the distance network.")
    rgb_blocks: Blocks = Field(
        0, ge=0, description="Hidden layers of the colour network; with 0 it is linear."
    )
    num_samples: Count = Field(96, gt=0, description="Even samples along a ray.")
    num_importance: Count = Field(36, ge=0, description="Samples added near the surface.")
    near: Distance = Field(0.01 * SIDE, ge=0, description="Metres in front of the sensor that hold nothing.")


class IndoorLossConfig(LossConfig):
    """The same with PPT's term."""

    alignment: float = Field(
        0.0, ge=0, description="Of the encoder's voxels with their points' classes; needs embeddings, too."
    )


class PonderIndoorConfig(Settings):
    """Everything ``PonderIndoor`` is built from."""

    point_cloud_range: Box = (
        -SIDE / 2,
        -SIDE / 2,
        FLOOR,
        SIDE / 2,
        SIDE / 2,
        FLOOR + SIDE,
    )
    voxel_size: VoxelSize = Field(
        (SIDE / 128, SIDE / 128, SIDE / 32), description="Voxels of the rendered volume."
    )
    image_size: ImageSize = Field((480, 640), description="Height and width images are resized to.")
    sweeps: Count = Field(1, ge=1, description="Sweeps merged into the input; rooms have one.")
    points: Features = Field(INTENSITY, description=MEANING)
    domains: Count = Field(
        1,
        ge=1,
        le=256,
        description="Data sets trained on at once, each with its own normalisation in the encoder.",
    )
    context_channels: Width = Field(256, gt=0, description="Width of a data set's learned embedding.")
    embeddings: str | None = Field(None, description=EMBEDDINGS)
    drop_ratio: float = Field(0.8, ge=0, le=1, description="Share of the points that is dropped.")
    encoder: UNetConfig = UNetConfig(voxel_size=(0.02, 0.02, 0.02))
    neck_channels: Widths = Field(
        (32, 64, 128, 256), description="Width of the dense U-Net's levels, fine to coarse."
    )
    field: SplitFieldConfig = SplitFieldConfig()
    rays_per_view: Count = Field(256, gt=0, description="Pixels with a depth that are rendered, per view.")
    losses: IndoorLossConfig = IndoorLossConfig(
        depth=1 / SIDE,
        rgb=10.0,
        sdf=10 / SIDE,
        free_space=1 / SIDE,
        eikonal=0.01,
        truncation=0.05 * SIDE,
    )
    calibration: CalibrationConfig = CalibrationConfig()
    optimization: OptimizationConfig = OptimizationConfig()


SCANNET_SCENES = 1201
"""Scenes of ScanNet's training split: what the published passes count."""


STRUCTURED3D_ROOMS = 18348
"""Rooms of Structured3D's training split, as PPT counts them."""

CLASS_TERMS = {"semantic": 0.1, "alignment": 1.0}
"""Published weights of the terms that need classes."""


def _with_classes(config: PonderIndoorConfig, embeddings: str, **weights: float) -> PonderIndoorConfig:
    """The same with the terms that need classes."""
    losses = config.losses.model_copy(update=weights)
    return config.model_copy(update={"embeddings": embeddings, "losses": losses})


def _paper() -> PonderIndoorConfig:
    """ScanNet alone: 2000 passes, eight scenes on each of 4 GPUs, one cycle from a tenth of 2e-3."""
    config = PonderIndoorConfig(
        points=COLOR_NORMAL,
        optimization=OptimizationConfig(
            steps=2000 * SCANNET_SCENES // 32,
            batch_size=8,
            optimizer="sgd",
            lr=2e-4,
            weight_decay=1e-4,
            schedule="cyclic",
            cyclic_peak=10.0,
            cyclic_end=1e-4,
            cyclic_up=0.05,
            clip_norm=None,
            precision="bf16",
        ),
    )
    return _with_classes(config, "hashed:512", **CLASS_TERMS)


def _paper_ppt() -> PonderIndoorConfig:
    """Structured3D, ScanNet and S3DIS, of which the first has four sevenths of the samples, in float32.

    400 passes of the first set, 64 samples a step, one cycle from a tenth of 8e-4.
    """
    paper = _paper()
    changed = {"steps": 400 * STRUCTURED3D_ROOMS * 7 // 4 // 64, "lr": 8e-5, "precision": "fp32"}
    optimization = paper.optimization.model_copy(update=changed)
    return paper.model_copy(update={"domains": 3, "optimization": optimization})


def _tiny() -> PonderIndoorConfig:
    """Minutes on two cores: coarser voxels, narrower networks, fewer rays, heavier distance terms.

    The built-in rooms are as wide as the published cube and half as high; their points are a tenth of a
    recording's, hence the coarser voxels. The field starts sharper than a long run needs it.
    """
    return PonderIndoorConfig(
        point_cloud_range=(-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
        voxel_size=(0.1, 0.1, 0.1),
        image_size=(96, 128),
        encoder=UNetConfig(
            voxel_size=(0.05, 0.05, 0.05),
            stem_channels=16,
            channels=(16, 32, 32, 32),
            depths=(1, 1, 1, 1),
            batch_norm_momentum=0.1,
        ),
        neck_channels=(16, 32, 64),
        field=SplitFieldConfig(
            channels=32,
            hidden_channels=32,
            geometry_channels=16,
            sharpness=60.0,
            num_samples=48,
            num_importance=16,
            near=0.1,
        ),
        rays_per_view=128,
        losses=IndoorLossConfig(depth=1.0, rgb=10.0, sdf=10.0, free_space=5.0, eikonal=0.01, truncation=0.3),
        optimization=tiny_optimization(5e-3),
    )


INDOOR_PRESETS = {
    "tiny": _tiny(),
    "tiny-semantic": _with_classes(_tiny(), "hashed:32", semantic=0.1, alignment=0.1),
    "paper": _paper(),
    "paper-ppt": _paper_ppt(),
}
"""Configurations by name; ``tiny`` needs no classes, ``paper-ppt`` is for several data sets at once.

The published vectors are CLIP's of the names of classes; ``--set embeddings=FILE.npz`` gives such. As long as
nobody does, a name has a random vector, always the same.
"""
