"""PonderV2 indoors: render a room's pictures and depth from a fifth of its points.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm".
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import SparseUNet, VolumeUNet, voxelize
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import lift_voxels
from renderpretrain.masking import RandomMask
from renderpretrain.recipes.calibration import Calibration
from renderpretrain.recipes.ponder_indoor_config import PonderIndoorConfig
from renderpretrain.recipes.ray_terms import ray_terms
from renderpretrain.recipes.sensors import Hidden, set_momentum
from renderpretrain.renderers import NeuSRenderer, Rendered
from renderpretrain.samplers import PixelRays, RayTargets, add_depth

POINT_COLUMNS = 4
"""x, y, z, intensity."""


class PonderIndoor(nn.Module):
    """A few of the points to voxels, sparse U-Net, volume, dense U-Net, rendered pixels of posed RGB-D views.

    The field reads the volume in two halves, one for the distance, one for the colour, and does not see
    positions: what it knows of a place is what the encoder said of it. Needs no labels.

    Differs from the released code, on purpose:

    * The encoder reads position and intensity (the luminance of the pixel a built-in room's point comes
      from): what points carry here. Released: colour and normal.
    * All scenes share one metric cube, and weights are converted (``ponder_indoor_config``). Released: each
      scene is shrunk into a unit cube by its own largest side. Gradient, distance and depth are in the same
      unit; released, the gradient is taken in coordinates 1.101 times as large.
    * A voxel's value lives at its centre, for lifter and reader alike. Released: the reader shrinks the room
      by a tenth, up to six voxels at the walls.
    * The importance pass asks the field at the samples' places. Released: at unshifted coordinates, mostly
      outside the volume.
    * Intervals tile the ray around the positions where the field is asked. Released: the field is asked at
      interval starts.
    * The mask is a value handed down, used in training only, and a share of the points to the point.
    * A voxel holds the mean of its points. Released: one of them at random.
    * Pixels lie at +0.5. Released: at whole numbers, half a pixel off.
    * A view with few valid pixels gives fewer rays. Released: fixed-size stacking fails.
    * A pixel whose surface lies outside the cube supervises colour but not depth. Released: it is taught
      black.
    * Losses are averaged over the rays of each sample, then over the batch.
    * Pixels are drawn per sample from the batch's seeds, on the device. Released: rays of all pixels are made
      and indexed, in loops over samples and views, with a detour over the CPU.
    * The field runs in float32; mixed precision is bfloat16. Released: float16 with a loss scale.
    * Poses of badly calibrated cameras can be learned (``calibration``)
      and rays that nothing explains discounted (``losses.inliers``). Off in ``paper``.
    * No augmentation (released: rotation, scaling, flips), no semantic term and one data set at a time.

    Args:
        config: See :class:`~renderpretrain.recipes.ponder_indoor_config.PonderIndoorConfig`.
    """

    def __init__(self, config: PonderIndoorConfig) -> None:
        super().__init__()
        self.config = config
        self.calibration = Calibration(config.calibration)
        unet, field = config.encoder, config.field
        self.fine = VoxelGrid(config.point_cloud_range, unet.voxel_size)
        self.grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
        self.policy = RandomMask(config.drop_ratio)
        self.encoder = SparseUNet(
            POINT_COLUMNS, channels=unet.channels, depths=unet.depths, stem_channels=unet.stem_channels
        )
        set_momentum(self.encoder, unet.batch_norm_momentum)
        self.neck = VolumeUNet(self.encoder.out_channels, field.channels, channels=config.neck_channels)
        self.renderer = NeuSRenderer(
            SDFField(
                self.grid,
                field.channels,
                hidden_channels=field.hidden_channels,
                geometry_channels=field.geometry_channels,
                sdf_blocks=field.sdf_blocks,
                rgb_blocks=field.rgb_blocks,
                extent=max(b - a for a, b in zip(self.grid.lower, self.grid.upper, strict=True)),
                sharpness=field.sharpness,
                colour=config.losses.rgb > 0,
                split=config.losses.rgb > 0,
                positions=False,
            ),
            num_samples=field.num_samples,
            num_importance=field.num_importance,
            near=field.near,
            sharpness=field.upsample_sharpness,
        )

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        targets = self.targets(batch)
        volume = self.encode(batch, self.hide(batch))
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        return ray_terms(rendered, targets, self.config.losses) | self.calibration.prior()

    def hide(self, batch: Batch) -> Hidden:
        """The points that are dropped, drawn from the batch's seeds."""
        return Hidden(None, self.policy(batch.point_valid, ops.fork(batch.seeds, 1)))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        dropped = None if hidden is None else hidden.points
        valid = batch.point_valid if dropped is None else batch.point_valid & ~dropped
        voxels = voxelize(batch.points[..., :POINT_COLUMNS], valid, self.fine)
        features = self.encoder(voxels.to_sparse()).features
        return self.neck(lift_voxels(features, voxels.coords, self.fine, self.grid, batch.size))

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer(volume, rays, seeds)

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Pixels with a depth, and what the sensor measured there, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per view; the configuration's number by default.
        """
        batch = self.calibration(batch)
        cameras, images, depths = batch.cameras, batch.images, batch.z_depths
        measured, camera_valid = batch.z_depth_valid, batch.camera_valid
        if cameras is None or images is None or camera_valid is None or depths is None or measured is None:
            raise ValueError(
                f"scene {batch.names[0]!r} has no depth images: ponder-indoor needs posed RGB-D views, as "
                "--data synthetic-room; for LiDAR use ponder-outdoor"
            )
        draw = PixelRays(num_rays or self.config.rays_per_view)
        targets = draw(measured, cameras, camera_valid, images, ops.fork(batch.seeds, 4))
        targets = add_depth(targets, depths, measured, cameras)
        return replace(targets, hit=targets.hit & self.grid.contains(targets.ends))

    def encoders(self) -> dict[str, nn.Module]:
        """The part that is taken home to be fine-tuned."""
        return {"point_encoder": self.encoder}
