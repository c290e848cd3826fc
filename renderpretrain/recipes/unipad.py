"""UniPAD: hide most of what the sensors saw, render the scene from what is left.

https://arxiv.org/abs/2310.08370, "UniPAD: A Universal Pre-training Paradigm for Autonomous Driving", CVPR
2024.
"""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import FPN, ConvNeXt, ResNet, SparseEncoder, VolumeConv, VolumeNeck
from renderpretrain.encoders.image_weights import load_backbone
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import ViewLifter
from renderpretrain.masking import RandomMask
from renderpretrain.recipes.branches import ImageBranch, Lifted, PointBranch
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.ray_config import RayConfig
from renderpretrain.recipes.ray_terms import ray_terms
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.sensors import has_numbers, sensor_rays, set_momentum
from renderpretrain.recipes.unipad_config import LossConfig, UniPADConfig
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
        renderer: Whose field's grid is what everything lies on: the point branch's ``out_grid``, the lifter's
            grid.
        lidar: The point branch, or ``None``.
        camera: The camera branch, or ``None``.
        losses: Weights of the terms.
        rays: Which rays are rendered.
        to_field: From the lifted volume to the one that is rendered; a 3D convolution by default.
        calibration: Whether poses are refined; not by default.

    Raises:
        ValueError: If there is no branch, or one of them is on another grid than the field.
    """

    config: UniPADConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        renderer: VolumeRenderer,
        *,
        lidar: PointBranch | None = None,
        camera: ImageBranch | None = None,
        losses: LossConfig | None = None,
        rays: RayConfig | None = None,
        to_field: nn.Module | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> None:
        super().__init__()
        field = renderer.field
        if not isinstance(field, SDFField):
            raise ValueError(f"renderer.field: expected an SDFField, got {type(field).__name__}")
        self.grid = field.grid
        self.weights = LossConfig() if losses is None else losses
        self.rays = RayConfig() if rays is None else rays
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.lidar = lidar
        self.camera = camera
        self.to_field = VolumeConv(self._width(), field.channels) if to_field is None else to_field
        self.renderer = renderer

    def _width(self) -> int:
        """Channels of the lifted volume."""
        widths = {}
        if self.lidar:
            self._check_grid("lidar.out_grid", self.lidar.out_grid)
            widths["lidar.out_channels"] = self.lidar.out_channels
        if self.camera:
            self._check_grid("camera.lifter.grid", self.camera.lifter.grid)
            widths["camera.lifter"] = self.camera.lifter.channels
        if not widths:
            raise ValueError("lidar, camera: expected at least one branch, got none")
        if len(set(widths.values())) > 1:
            said = ", ".join(f"{name} {width}" for name, width in widths.items())
            raise ValueError(f"lidar, camera: expected volumes of one width, got {said}")
        return next(iter(widths.values()))

    def _check_grid(self, name: str, grid: VoxelGrid) -> None:
        """Raise ``ValueError`` unless a branch's grid is the field's."""
        if grid != self.grid:
            raise ValueError(
                f"{name}: expected the grid of renderer.field, {self.grid.shape} voxels of "
                f"{self.grid.voxel_size} m from {self.grid.lower}, got {grid.shape} of {grid.voxel_size} m "
                f"from {grid.lower}; make the field with {name}"
            )

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        if self.lidar is None and self.weights.depth:
            batch.require_points("the depth term", "set losses.depth=0")
        batch = self.calibration(batch)
        volume, lifted = self._encode(batch, self.hide(batch))
        targets = self._targets(batch)
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        terms = self.losses(rendered, targets)
        if self.camera and lifted and self.weights.depth_bins:
            likelihood = self.camera.depth_loss(lifted, batch, targets)
            terms["depth_bins"] = self.weights.depth_bins * likelihood
        if self.camera and lifted:
            depths = lifted.probabilities, self.camera.lifter.depth_range
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
        return sensor_rays(batch, self.grid, self.rays, num_rays)

    def losses(self, rendered: Rendered, targets: RayTargets) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms; a term of weight 0 is left out."""
        return ray_terms(rendered, targets, self.weights)

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be."""
        return self.calibration(batch)

    def surface_field(self) -> SDFField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        parts: dict[str, nn.Module | None] = {}
        if self.lidar:
            parts |= {"point_encoder": self.lidar.encoder, "point_neck": self.lidar.neck}
        if self.camera:
            parts |= {"image_backbone": self.camera.backbone, "image_neck": self.camera.neck}
        return {name: part for name, part in parts.items() if part is not None}

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the neck's volume, trilinearly.

        Cameras alone: the image neck's finest map, see :func:`~renderpretrain.recipes.places.read_maps`.
        """
        if self.lidar:
            return ops.grid_sample(self.lidar(batch, None), positions, self.grid.scale, self.grid.offset)
        views = self.calibration(batch).require_views("unipad-lidar")
        return read_maps(self.image_features(batch), positions, views.cameras, views.valid)

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's finest map."""
        if self.camera is None:
            raise ValueError("unipad-lidar has no image encoder; use unipad-camera or unipad-fusion")
        return self.camera.maps(batch, None)[0]


def build(config: UniPADConfig) -> UniPAD:
    """The published networks, as a configuration sizes them."""
    grid = volume_grid(config)
    fused = config.modality == "fusion"
    lidar = _point_branch(config) if fused or config.modality == "lidar" else None
    camera = _image_branch(config, grid) if fused or config.modality == "camera" else None
    render = config.render
    to_field = VolumeConv(config.channels, render.channels)
    for part in (lidar, to_field):
        set_momentum(part, config.lidar.batch_norm_momentum)
    field = SDFField(
        grid,
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
    recipe = UniPAD(
        VolumeRenderer(field, sampler),
        lidar=lidar,
        camera=camera,
        losses=config.losses,
        rays=render,
        to_field=to_field,
        calibration=config.calibration,
    )
    recipe.config = config
    return recipe


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


def _point_branch(config: UniPADConfig) -> PointBranch:
    """Block masking, sparse encoder, dense neck."""
    lidar = config.lidar
    encoder = _sparse_encoder(config)
    neck = VolumeNeck(
        config.channels, config.channels, channels=lidar.neck_channels, num_blocks=lidar.neck_blocks
    )
    return PointBranch(
        encoder,
        VoxelGrid(config.point_cloud_range, lidar.voxel_size),
        RandomMask(lidar.mask_ratio),
        block=lidar.mask_block,
        columns=config.points,
        neck=neck,
        instead="use unipad-camera",
    )


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


def _image_branch(config: UniPADConfig, grid: VoxelGrid) -> ImageBranch:
    """Patch masking, masked image network, pyramid, depth-weighted lifting."""
    image = config.image
    if any(side % image.patch_size for side in config.image_size):
        raise ValueError(
            f"image_size: expected sides divisible by image.patch_size={image.patch_size}, "
            f"got {config.image_size}"
        )
    backbone = _image_backbone(config)
    if image.weights is not None:
        load_backbone(backbone, Path(image.weights))
    elif image.frozen_stages and has_numbers(backbone):
        raise ValueError(
            f"image.frozen_stages: freezing {image.frozen_stages} stages needs image.weights, "
            "a file of pre-trained weights; or set image.frozen_stages=0"
        )
    neck = FPN(backbone.channels, config.channels, num_outs=image.num_levels)
    project = nn.Conv2d(config.channels, config.channels, kernel_size=1)
    lifter = ViewLifter(grid, config.channels, depth_bins=image.depth_bins, depth_range=image.depth_range)
    return ImageBranch(
        backbone,
        lifter,
        RandomMask(image.mask_ratio),
        patch_size=image.patch_size,
        neck=neck,
        project=project,
        instead="unipad-lidar",
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
