"""UniPAD: hide most of what the sensors saw, render the scene from what is left.

https://arxiv.org/abs/2310.08370, "UniPAD: A Universal Pre-training Paradigm for Autonomous Driving", CVPR
2024.
"""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import VolumeConv
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays
from renderpretrain.recipes.calibration import Calibration
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.ray_terms import ray_terms
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.sensors import sensor_rays, set_momentum
from renderpretrain.recipes.unipad_branches import (
    INSTEAD,
    CameraBranch,
    LidarBranch,
    Lifted,
    volume_grid,
)
from renderpretrain.recipes.unipad_config import UniPADConfig
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import NeuSImportance, RayTargets


class UniPAD(nn.Module):
    """UniPAD-L, UniPAD-C, and UniPAD-M, which fuses both in one pre-training run.

    LiDAR: blocks of voxels are dropped before a sparse encoder and a dense neck. Cameras: patches are hidden
    from a masked image network, whose features are lifted by predicted depth. Fused: the two volumes are
    summed. One 3D convolution later, rays towards LiDAR returns are rendered by NeuS, and depth and colour
    are compared with what the sensors saw.

    Differs from the released code, on purpose:

    * A voxel's value lives at its centre, for lifter, encoder and reader alike. Released: the lifter works
      at lower corners, the reader interpolates corner-aligned, so they disagree by up to a voxel; the
      strided sparse encoder's own shift of half a stride is ignored. Here the rendered grid is the one the
      encoder's outputs are centred on.
    * Intervals tile the ray around the positions where the field is asked. Released: the field is asked at
      interval starts, and importance samples split intervals without moving them.
    * Lengths are metres; the published weights are converted (``unipad_config``).
    * The mask is a value handed down, used in training only. Released: a module-level global, applied at
      test time too.
    * Rays are chosen, jittered and masked per sample from the batch's seeds, on the device. Released:
      numpy's global generator in loops over samples and cameras.
    * A return outside the grid, which no sample can reach, supervises colour but not depth; rays that miss
      the grid render as empty. Released: an assertion stops the run.
    * Targets come from the key sweep alone. Released: up to ten sweeps, which smear what moves.
    * Voxel indices round down. Released: ``int()`` truncates towards zero, folding the strip outside the
      lower faces into the first voxels.
    * The field runs in float32. Released: under fp16 training its distance network runs in half precision.
    * Losses are averaged over the rays of each sample, then over the batch, as released; an empty sample
      counts 0.
    * Voxels average all their points, and there is no limit on voxels. Released: at most 10 points and
      120,000 voxels.
    * Images are resized to a size that the patches divide. Released: 900 rows are padded to 928 with zeros.
    * Mixed precision is bfloat16. Released: float16 with a fixed loss scale.
    * The filler's pixels are drawn with replacement, so that every camera has the same number of rays.
    * No augmentation of points (released UniPAD-L: rotation by 22.5 degrees, scaling by 5 %).
    * Poses of badly calibrated cameras can be learned (``calibration``)
      and rays that nothing explains discounted (``losses.inliers``). Off in ``paper``.
    * UniPAD-M is trained jointly; no released configuration does that. Without cameras the rays are the
      LiDAR's own.

    Args:
        config: See :class:`~renderpretrain.recipes.unipad_config.UniPADConfig`.
    """

    def __init__(self, config: UniPADConfig) -> None:
        super().__init__()
        self.config = config
        self.grid = volume_grid(config)
        self.calibration = Calibration(config.calibration)
        fused = config.modality == "fusion"
        self.lidar = LidarBranch(config) if fused or config.modality == "lidar" else None
        self.camera = CameraBranch(config, self.grid) if fused or config.modality == "camera" else None
        render = config.render
        self.to_field = VolumeConv(config.channels, render.channels)
        for part in (self.lidar, self.to_field):
            set_momentum(part, config.lidar.batch_norm_momentum)
        field = SDFField(
            self.grid,
            render.channels,
            hidden_channels=render.hidden_channels,
            sdf_blocks=render.sdf_blocks,
            rgb_blocks=render.rgb_blocks,
            extent=max(abs(v) for v in config.point_cloud_range),
            sharpness=render.sharpness,
            color=config.losses.rgb > 0,
        )
        sampler = NeuSImportance(
            field,
            num_samples=render.num_samples,
            num_importance=render.num_importance,
            near=render.near,
            sharpness=render.upsample_sharpness,
        )
        self.renderer = VolumeRenderer(field, sampler)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        if self.lidar is None and self.config.losses.depth:
            batch.require_points("the depth term", "set losses.depth=0")
        batch = self.calibration(batch)
        volume, lifted = self._encode(batch, self.hide(batch))
        targets = self._targets(batch)
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        terms = self.losses(rendered, targets)
        if self.camera and lifted and self.config.losses.depth_bins:
            likelihood = self.camera.depth_loss(lifted, batch, targets)
            terms["depth_bins"] = self.config.losses.depth_bins * likelihood
        if lifted:
            depths = lifted.probabilities, self.config.image.depth_range
            terms |= self.calibration.alignment(batch, targets, *depths)
        return terms | self.calibration.prior()

    def hide(self, batch: Batch) -> Hidden:
        """Draw what this step hides, from the batch's seeds."""
        patches = self.camera.hide(batch) if self.camera else None
        return Hidden(patches, self.lidar.hide(batch) if self.lidar else None)

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        return self._encode(self.calibration(batch), hidden or Hidden())[0]

    def _encode(self, batch: Batch, hidden: Hidden) -> tuple[Tensor, Lifted | None]:
        """The volume, and what the camera branch lifted on the way."""
        lifted = self.camera(batch, hidden.patches) if self.camera else None
        volume = lifted.volume if lifted else None
        if self.lidar:
            seen = self.lidar(batch, hidden.voxels)
            volume = seen if volume is None else volume + seen
        return self.to_field(volume), lifted

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer(volume, rays, seeds)

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera, or per sweep where there are no cameras; the configuration's number by
                default.
        """
        return self._targets(self.calibration(batch), num_rays)

    def _targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """The same, of cameras that are refined already."""
        return sensor_rays(batch, self.grid, self.config.render, num_rays)

    def losses(self, rendered: Rendered, targets: RayTargets) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms; a term of weight 0 is left out."""
        return ray_terms(rendered, targets, self.config.losses)

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be."""
        return self.calibration(batch)

    def surface_field(self) -> SDFField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        parts: dict[str, nn.Module] = {}
        if self.lidar:
            parts |= {"lidar_encoder": self.lidar.encoder, "lidar_neck": self.lidar.neck}
        if self.camera:
            parts |= {"image_backbone": self.camera.backbone, "image_neck": self.camera.neck}
        return parts

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the neck's volume, trilinearly.

        Cameras alone: the image neck's finest map, see :func:`~renderpretrain.recipes.places.read_maps`.
        """
        if self.lidar:
            return ops.grid_sample(self.lidar(batch, None), positions, self.grid.scale, self.grid.offset)
        views = self.calibration(batch).require_views(INSTEAD)
        return read_maps(self.image_features(batch), positions, views.cameras, views.valid)

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's finest map."""
        if self.camera is None:
            raise ValueError("unipad-lidar has no image encoder; use unipad-camera or unipad-fusion")
        return self.camera.maps(batch, None)[0]
