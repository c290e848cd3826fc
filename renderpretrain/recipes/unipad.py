"""UniPAD: hide most of what the sensors saw, render the scene from what is left.

https://arxiv.org/abs/2310.08370, "UniPAD: A Universal Pre-training Paradigm for Autonomous Driving", CVPR
2024. Its class, its settings, how it is built from them, its numbers and where each comes from.
"""

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch, Needs
from renderpretrain.encoders import FPN, ImageLevel, Level, PointEncoder, VolumeConv, VolumeNeck, checking
from renderpretrain.fields import DensityField, SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import ConcatFusion, ViewLifter, sum_volumes
from renderpretrain.masking import RandomMask
from renderpretrain.recipes import branches, images, sections, settings, sparse
from renderpretrain.recipes.augment import AugmentConfig, augment_listing
from renderpretrain.recipes.branches import ImageBranch, Lifted, PointBranch, joined_width
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.columns import MEANING, SWEEPS, Columns
from renderpretrain.recipes.places import read_maps
from renderpretrain.recipes.recipe import Hidden, Told
from renderpretrain.recipes.terms import Step, choice, further_terms
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import RayTargets


class EncoderConfig(sparse.SparseConfig):
    """Voxels, sparse encoder, dense neck."""

    neck_blocks: settings.Blocks = Field(1, ge=0, description="Further convolutions in each neck branch.")
    neck_channels: settings.Widths = (32, 32, 64)
    """Width of the neck's branches, strides 1, 2, 4."""


class CameraConfig(images.ImageConfig):
    """Image network, pyramid, depth-weighted lifting."""

    depth_bins: settings.Count = Field(48, gt=0)
    depth_range: settings.Span = (0.0, 64.0)


class LossConfig(sections.RayLossConfig):
    """Weights; depth and distance terms per metre. The published recipes use depth and rgb alone."""

    depth: float = Field(10 / 54, ge=0)
    rgb: float = Field(10.0, ge=0)
    depth_bins: float = Field(0.0, ge=0)
    """Likelihood of measured depths under the lifter's distributions."""
    truncation: float = Field(0.2, gt=0, description="Metres around a measured surface.")
    balance: sections.BalanceName = "fixed"


class UniPADConfig(settings.Settings):
    """Everything ``UniPAD`` is built from."""

    modality: Literal["lidar", "camera", "fusion"]
    point_cloud_range: settings.Box
    voxel_size: settings.VoxelSize = Field(description="Voxels of the rendered volume.")
    channels: settings.Width = Field(256, gt=0, description="Width of the lifted volume.")
    image_size: settings.ImageSize = Field((928, 1600), description="Height and width images are resized to.")
    sweeps: settings.Count = Field(1, ge=1)
    """LiDAR sweeps merged into the input; targets come from the key sweep."""
    points: Columns = Field(SWEEPS, description=MEANING)
    encoder: EncoderConfig = EncoderConfig()
    mask: sections.MaskConfig = sections.MaskConfig()
    image: CameraConfig = CameraConfig()
    image_mask: sections.ImageMaskConfig = sections.ImageMaskConfig()
    fusion: Literal["sum", "concat"] = "sum"
    field: sections.FieldConfig = sections.FieldConfig()
    sampler: sections.SamplerConfig = sections.SamplerConfig()
    rays: sections.RayConfig = sections.RayConfig()
    losses: LossConfig = LossConfig()
    terms: choice.RenderedTermsConfig = choice.RenderedTermsConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    augment: AugmentConfig = AugmentConfig()
    optimization: settings.OptimizationConfig = settings.OptimizationConfig()


class UniPAD(nn.Module):
    """UniPAD-L, UniPAD-C, and UniPAD-M, which fuses both in one pre-training run.

    LiDAR: blocks of voxels are dropped before a sparse encoder and a dense neck. Cameras: patches are hidden
    from a masked image network, whose features are lifted by predicted depth. Fused: the two volumes are
    summed, or put side by side and convolved. One 3D convolution later, rays towards LiDAR returns are
    rendered by NeuS, and depth and color are compared with what the sensors saw.

    Differs from the released code, on purpose:

    * A voxel's value lives at its centre, for lifter, encoder and reader alike. Released: the lifter works
      at lower corners, the reader interpolates corner-aligned, so they disagree by up to a voxel; the
      strided sparse encoder's own shift of half a stride is ignored. Here the rendered grid is the one the
      encoder's outputs are centred on.
    * Intervals tile the ray around the positions where the field is asked. Released: the field is asked at
      interval starts, and importance samples split intervals without moving them.
    * Lengths are metres. Released: metres times ``1 / max|range|``; a depth weight of 10 there is
      ``10 / max|range|`` per metre here, a sharpness of 64 in the importance pass is ``64 / max|range|``.
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
    * Pictures are padded to a size that the patches divide, above as below. Released: nuScenes' 900 rows get
      28 of zeros below.
    * Mixed precision is bfloat16. Released: float16 with a fixed loss scale.
    * The filler's pixels are drawn with replacement, so that every camera has the same number of rays.
    * Poses of badly calibrated cameras can be learned (``calibration``)
      and rays that nothing explains discounted (``losses.inliers``). Off in ``paper``.
    * UniPAD-M is trained jointly; no released configuration does that. Without cameras the rays are the
      LiDAR's own.

    Args:
        renderer: Whose field's grid is what everything lies on: the point branch's ``out_grid``, the lifter's
            grid.
        lidar: The point branch, or ``None``.
        camera: The camera branch, or ``None``.
        fusion: From the cameras' and the points' volume, in this order, to one; their sum by default.
        losses: Weights of the terms.
        balance: What learns to weigh them further; nothing by default.
        rays: Which rays are rendered.
        to_field: From the lifted volume to the one that is rendered; a 3D convolution by default.
        calibration: Whether poses are refined; not by default.
        terms: What is added to the loss beside the method's own terms, unbalanced; see
            :class:`~renderpretrain.recipes.terms.Term`.
        preference: Which returns a training step's rays rather go to, such as
            :class:`~renderpretrain.samplers.CurvedReturns`; all alike by default.

    Raises:
        ValueError: If there is no branch, one of them is on another grid than the field, or a term that is on
            needs distances that the field does not have.
    """

    config: UniPADConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        renderer: VolumeRenderer[SDFField | DensityField],
        *,
        lidar: PointBranch | None = None,
        camera: ImageBranch | None = None,
        fusion: ConcatFusion | None = None,
        losses: LossConfig | None = None,
        balance: sections.Balance | None = None,
        rays: sections.RayConfig | None = None,
        to_field: nn.Module | None = None,
        calibration: CalibrationConfig | None = None,
        terms: Sequence[nn.Module] = (),
        preference: nn.Module | None = None,
    ) -> None:
        super().__init__()
        field = renderer.field
        if not isinstance(field, SDFField | DensityField):
            raise ValueError(
                f"renderer.field: expected an SDFField or DensityField, got {type(field).__name__}"
            )
        self.grid = field.grid
        self.weights = LossConfig() if losses is None else losses
        sections.check_distances(self.weights, field)
        self.rays = sections.RayConfig() if rays is None else rays
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.lidar = lidar
        self.camera = camera
        self.fusion = fusion
        width = joined_width(self.grid, camera, lidar, fusion)
        self.to_field = VolumeConv(width, field.channels) if to_field is None else to_field
        self.renderer = renderer
        self.balance = balance
        self.terms = nn.ModuleList(terms)
        self.preference = preference

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        if self.lidar is None and self.weights.depth:
            batch.require_points("the depth term", "set losses.depth=0")
        batch = self.calibration(batch)
        hidden = self.hide(batch)
        told: Told = [] if self.terms else None
        volume, lifted = self._encode(batch, hidden, told)
        targets = sections.sensor_rays(batch, self.grid, self.rays, preference=self.preference)
        rendered = sections.render_targets(self.renderer, volume, batch, targets, ops.fold_in(batch.seeds, 3))
        terms = self.losses(rendered, targets)
        if self.camera and lifted and self.weights.depth_bins:
            terms["depth_bins"] = self.weights.depth_bins * self.camera.depth_loss(lifted, batch, targets)
        terms = sections.balanced(self.balance, terms, self._shared())
        if self.camera and lifted:
            depths = lifted.probabilities, self.camera.lifter.depth_range
            terms |= self.calibration.alignment(batch, targets, *depths)
        terms |= self.calibration.prior()
        step = Step(batch, hidden, told or [], volume, self.renderer, targets, rendered, self.preference)
        return terms | further_terms(self.terms, step, terms)

    def _shared(self) -> list[nn.Parameter]:
        """What all terms pull at: the last layers of the volume, or of the images where these have a term."""
        part: nn.Module = self.to_field
        if self.camera and self.weights.depth_bins:
            part = self.camera.backbone if self.camera.neck is None else self.camera.neck
        return list(part.parameters())

    def hide(self, batch: Batch) -> Hidden:
        """Draw what this step hides, from the batch's seeds."""
        patches = self.camera.hide(batch) if self.camera else None
        return Hidden(patches, self.lidar.hide(batch) if self.lidar else None)

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        return self._encode(self.calibration(batch), hidden or Hidden())[0]

    def _encode(self, batch: Batch, hidden: Hidden, told: Told = None) -> tuple[Tensor, Lifted | None]:
        """The volume, and what the camera branch lifted on the way; a list is given the levels."""
        points = [self.lidar(batch, hidden.voxels, told)] if self.lidar else []
        lifted = self.camera(batch, hidden.patches, told) if self.camera else None
        volumes = [lifted.volume, *points] if lifted else points
        volume = sum_volumes(volumes) if self.fusion is None else self.fusion(volumes)
        return self.to_field(volume), lifted

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer.picture(volume, rays, seeds)

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera, or per sweep where there are no cameras; the configuration's number by
                default.
        """
        return sections.sensor_rays(self.calibration(batch), self.grid, self.rays, num_rays)

    def losses(self, rendered: Rendered, targets: RayTargets) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms; a term of weight 0 is left out."""
        return sections.ray_terms(rendered, targets, self.weights)

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be."""
        return self.calibration(batch)

    def surface_field(self) -> SDFField:
        """The field that is rendered.

        Raises:
            ValueError: If it has no surface.
        """
        if not isinstance(self.renderer.field, SDFField):
            raise ValueError("field.kind: expected sdf for a surface, got density")
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        parts = self.lidar.encoders() if self.lidar else {}
        return parts | (self.camera.encoders() if self.camera else {})

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that :meth:`encoders` say; with nothing hidden by default."""
        hidden = hidden or Hidden()
        levels: list[Level] = [*self.lidar.levels(batch, hidden.voxels)] if self.lidar else []
        return levels + (self.camera.levels(batch, hidden.patches) if self.camera else [])

    def image_levels(self, batch: Batch) -> list[ImageLevel]:
        """Those of :meth:`levels` that are on images, nothing hidden."""
        return self.camera.levels(batch) if self.camera else []

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the neck's volume, trilinearly.

        Cameras alone: the image neck's finest map, see :func:`~renderpretrain.recipes.places.read_maps`.
        """
        if self.lidar:
            return self.grid.read(self.lidar(batch, None), positions)
        views = self.calibration(batch).require_views("unipad-lidar")
        return read_maps(self.image_features(batch), positions, views)

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's finest map."""
        if self.camera is None:
            raise ValueError("unipad-lidar has no image encoder; use unipad-camera or unipad-fusion")
        return self.camera.maps(batch, None)[0]


def build(
    config: UniPADConfig, *, encoder: nn.Module | None = None, image_backbone: nn.Module | None = None
) -> UniPAD:
    """The published networks, as a configuration sizes them, or encoders of yours in their places.

    Args:
        config: The settings.
        encoder: A :class:`~renderpretrain.encoders.PointEncoder` that makes volumes of as many voxels as
            ``voxel_size`` says.
        image_backbone: An :class:`~renderpretrain.encoders.ImageEncoder`.

    Raises:
        ValueError: If an encoder of yours does not answer to a few voxels, or to an image, as it has to.
    """
    checking.check_sensors(config.modality, encoder, image_backbone)
    grid, weights = volume_grid(config, encoder), config.losses
    fused, width = config.modality == "fusion", config.channels
    lidar = _point_branch(config, encoder) if fused or config.modality == "lidar" else None
    camera = _image_branch(config, grid, image_backbone) if fused or config.modality == "camera" else None
    fusion = ConcatFusion((width, width), width) if fused and config.fusion == "concat" else None
    to_field = VolumeConv(width, config.field.channels)
    for part in (lidar if encoder is None else lidar and lidar.neck, fusion, to_field):
        branches.set_momentum(part, config.encoder.batch_norm_momentum)
    parts: dict[str, Any] = {"lidar": lidar, "camera": camera, "fusion": fusion, "to_field": to_field}
    extent = max(abs(v) for v in config.point_cloud_range)
    field = sections.build_field(config.field, grid, extent=extent, color=weights.rgb > 0)
    terms = ["depth", "rgb", "free_space", "sdf", "eikonal", *(["depth_bins"] if camera else [])]
    recipe = UniPAD(
        VolumeRenderer(field, sections.build_sampler(config.sampler, field, grid)),
        **parts,
        losses=weights,
        balance=sections.build_balance(weights.balance, [term for term in terms if getattr(weights, term)]),
        rays=config.rays,
        calibration=config.calibration,
        **choice.chosen_parts(config.terms, field),
    )
    recipe.config = config
    return recipe


def volume_grid(config: UniPADConfig, encoder: nn.Module | None = None) -> VoxelGrid:
    """Where the sparse encoder's outputs are centred, or the configured grid without LiDAR."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    if config.modality == "camera":
        return grid
    return sparse.sparse_grid(config.encoder, _encoder(config, encoder), grid)


def _encoder(config: UniPADConfig, own: nn.Module | None) -> PointEncoder:
    """UniPAD's sparse encoder, or one's own in its place."""
    if own is not None:
        return checking.own_point_encoder(own)
    return sparse.sparse_encoder(config.encoder, len(config.points), config.channels)


def _point_branch(config: UniPADConfig, own: nn.Module | None) -> PointBranch:
    """Block masking, sparse encoder, dense neck."""
    part, width, points = config.encoder, config.channels, _encoder(config, own)
    return PointBranch(
        points,
        VoxelGrid(config.point_cloud_range, part.voxel_size),
        RandomMask(config.mask.ratio),
        block=config.mask.block,
        columns=config.points,
        neck=VolumeNeck(points.out_channels, width, channels=part.neck_channels, num_blocks=part.neck_blocks),
        instead="use unipad-camera",
    )


def _image_branch(config: UniPADConfig, grid: VoxelGrid, own: nn.Module | None) -> ImageBranch:
    """Patch masking, masked image network, pyramid, depth-weighted lifting."""
    image, patch, width = config.image, config.image_mask.patch_size, config.channels
    if any(side % patch for side in config.image_size):
        raise ValueError(
            f"image_size: expected sides divisible by image_mask.patch_size={patch}, got {config.image_size}"
        )
    backbone = images.image_backbone(image, config.image_size, own)
    return ImageBranch(
        backbone,
        mask=RandomMask(config.image_mask.ratio),
        patch_size=patch,
        neck=FPN(backbone.channels, width, num_outs=image.num_levels),
        project=nn.Conv2d(width, width, kernel_size=1),
        lifter=ViewLifter(grid, width, depth_bins=image.depth_bins, depth_range=image.depth_range),
        instead="unipad-lidar",
    )


def needs(config: UniPADConfig) -> Needs:
    """What it cannot do without; looked up before anything is read."""
    return Needs(
        images=config.modality != "lidar" or config.terms.reprojection > 0,
        points=config.modality != "camera" or config.losses.depth > 0,
        most_cameras=config.calibration.places,
        ways={"points": "losses.depth=0"} if config.modality == "camera" else {},
    )


CODE = "https://github.com/Nightmare-n/UniPAD, 3d24add; configurations in projects/configs/unipad"

_CAMERA, _LIDAR = "code uvtr_cam_vs0.1_pretrain.py", "code uvtr_lidar_vs0.075_pretrain.py"

RAYS = sections.RayConfig(per_view=512, per_sweep=3072, near_radius=3.0, far_radius=50.0, stride=4, sky=0.4)
PAPER: dict[str, Any] = {
    "image_size": (928, 1600),
    "encoder": EncoderConfig(
        voxel_size=(0.075, 0.075, 0.2),
        channels=((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        batch_norm_momentum=0.01,
        neck_blocks=5,
        neck_channels=(128, 256, 512),
    ),
    "mask": sections.MaskConfig(ratio=0.8, block=(8, 8, 8)),
    "image": CameraConfig(
        backbone="convnext",
        depths=(3, 3, 27, 3),
        widths=(96, 192, 384, 768),
        drop_path=0.2,
        layer_scale=1e-6,
        frozen_stages=1,
        first_level=1,
        num_levels=4,
        depth_bins=64,
        depth_range=(0.0, 64.0),
    ),
    "image_mask": sections.ImageMaskConfig(ratio=0.3, patch_size=32),
    "field": sections.FieldConfig(
        channels=32, hidden_channels=16, sdf_blocks=5, rgb_blocks=3, sharpness=20.0855
    ),
    "sampler": sections.SamplerConfig(num_samples=72, num_importance=24, near=1.0, sharpness=64.0),
    "rays": RAYS,
}
"""What the released configurations have in common."""

_SHARED = settings.CALIBRATION | settings.listed(
    {
        "ours (code: 900 rows, padded to 928 with zeros)": "image_size",
        "code render_head.py:47-57": "field.channels",
        "code render_utils/scene_colliders.py:30-33": "sampler.near",
        "code render_head.py:160-167": "rays.near_radius",
        "code render_head.py:295-405": "rays.per_view rays.stride rays.sky",
        "ours": f"encoder.batch_norm_momentum losses.inliers losses.balance {choice.TERMS}",
        "code render_utils/fields/sdf_field.py:36-53": "field.kind field.opacity field.sharpness",
        "code render_utils/ray_samplers.py:316-448": "sampler.kind sampler.sharpness",
        "code uvtr_cam_vs0.1_pretrain.py:107-117": "field.hidden_channels field.sdf_blocks",
        "code uvtr_cam_vs0.1_pretrain.py:119-127": "sampler.num_samples sampler.num_importance",
    }
)

_LOSSES = "losses.rgb losses.free_space losses.sdf losses.eikonal"

CAMERA_SOURCES = {
    **_SHARED,
    **settings.listed(
        {
            f"{_CAMERA}:11-21": "point_cloud_range voxel_size",
            f"{_CAMERA}:66-74": "channels image.first_level image.num_levels",
            "ours (code: ConvNeXt-S of ImageNet-1k)": "image.weights",
            "ours": "image.layer_scale",
            f"{_CAMERA}:62-64": "image_mask.ratio image_mask.patch_size",
            "code uvtr_ssl.py:61-66": "image.depth_bins",
            "code uni3d_viewtrans.py:138-244": "image.depth_range",
            f"{_CAMERA}:92-94": "rays.far_radius",
            f"{_CAMERA}:107-117": "field.rgb_blocks",
            f"{_CAMERA}, 10 per 51.2 m": "losses.depth",
            _CAMERA: f"modality sweeps {_LOSSES}",
            "code uvtr_cam_vs0.075_pretrain.py:90": "losses.depth_bins",
        }
    ),
    **settings.listed({f"{_CAMERA}:51-65": "backbone depths widths drop_path frozen_stages"}, "image."),
    **settings.listed(
        {
            f"{_CAMERA}, 12 epochs": "steps",
            f"{_CAMERA}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"{_CAMERA}:222-231": "optimizer lr weight_decay lr_multipliers",
            _CAMERA: f"schedule clip_norm {settings.WARM_UP}",
            f"ours (code: fp16, {_CAMERA.removeprefix('code ')})": "precision",
            "ours": settings.OURS,
        },
        "optimization.",
    ),
}

LIDAR_SOURCES = {
    **_SHARED,
    **settings.listed(
        {
            _LIDAR: f"modality sweeps points encoder.voxel_size {_LOSSES}",
            f"{_LIDAR}:11-18": "point_cloud_range voxel_size",
            f"{_LIDAR}:58-69": "channels encoder.channels",
            f"{_LIDAR}:70-79": "encoder.neck_blocks encoder.neck_channels",
            "code mask_sparse_encoder_hd.py:126-144": "mask.ratio mask.block",
            "ours": "rays.per_sweep",
            "code render_head.py:160-167": "rays.far_radius",
            f"{_LIDAR}, 10 per 54 m": "losses.depth",
        }
    ),
    **settings.listed(
        {
            f"{_LIDAR}, 12 epochs": "steps",
            f"{_LIDAR}; 4 GPUs in dist_train_ssl.sh": "batch_size",
            f"{_LIDAR}:250": "optimizer lr weight_decay",
            _LIDAR: f"schedule clip_norm warmup_steps {settings.CYCLE}",
            f"ours (code: fp16, {_LIDAR.removeprefix('code ')})": "precision",
            "ours": f"{settings.OURS} lr_multipliers",
        },
        "optimization.",
    ),
}

_FROM_CAMERA = ("image", "optimization.", "rays.per_", "field.rgb_", "losses.rgb", "losses.depth_")

FUSION_SOURCES = {
    **{name: source for name, source in LIDAR_SOURCES.items() if not name.startswith(_FROM_CAMERA)},
    **{name: source for name, source in CAMERA_SOURCES.items() if name.startswith(_FROM_CAMERA)},
    "modality": "ours (no released configuration trains both)",
    "fusion": "ours (as UVTR, on which UniPAD builds)",
}
"""The numbers of the two others side by side."""

UNUSED = (
    settings.UNREFINED,
    *sections.RULES,
    settings.unused(" ".join(CameraConfig.model_fields), "image.", when={"modality": "lidar"}),
    settings.unused(
        "image_mask.ratio image_mask.patch_size fusion losses.depth_bins calibration.alignment",
        when={"modality": "lidar"},
    ),
    settings.unused(
        "points mask.ratio mask.block fusion encoder.voxel_size encoder.channels encoder.neck_blocks"
        " encoder.neck_channels",
        when={"modality": "camera"},
    ),
    *(settings.unused("rays.per_sweep", when={"modality": sensors}) for sensors in ("camera", "fusion")),
    *images.IMAGE_RULES,
    settings.unused("field.rgb_blocks", when={"losses.rgb": 0}),
)

TURNED = augment_listing({f"{_LIDAR}:172-176": "turn turned scale"})

SOURCES = {
    "unipad-lidar": settings.Sources(CODE, LIDAR_SOURCES | TURNED, UNUSED),
    "unipad-camera": settings.Sources(CODE, CAMERA_SOURCES | augment_listing({}), UNUSED),
    "unipad-fusion": settings.Sources(CODE, FUSION_SOURCES | TURNED, UNUSED),
}
"""By recipe."""


def _paper_camera() -> UniPADConfig:
    """UniPAD-C with 0.1 m voxels: 12 epochs of one sample on each of 4 GPUs."""
    return UniPADConfig(
        modality="camera",
        point_cloud_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        voxel_size=(0.8, 0.8, 1.6),
        channels=128,
        **PAPER,
        losses=LossConfig(depth=10 / 51.2, rgb=10.0, truncation=0.1),
        optimization=settings.OptimizationConfig(
            steps=12 * settings.NUSCENES_SAMPLES // 4,
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
        channels=256,
        sweeps=10,
        augment=AugmentConfig(turn=22.5, scale=(0.95, 1.05)),
        **PAPER | {"rays": RAYS.model_copy(update={"far_radius": 100.0})},
        losses=LossConfig(depth=10 / 54, rgb=0.0, truncation=0.2),
        optimization=settings.OptimizationConfig(
            steps=12 * settings.NUSCENES_SAMPLES // 16,
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
    losses, optimization = LossConfig(depth=10 / 54, rgb=10.0, truncation=0.2), _paper_camera().optimization
    fused = {"modality": "fusion", "losses": losses, "optimization": optimization}
    return _paper_lidar().model_copy(update=fused)


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
        encoder=EncoderConfig(voxel_size=(0.4, 0.4, 0.4)),
        mask=sections.MaskConfig(ratio=0.5, block=(2, 2, 2)),
        field=sections.FieldConfig(sharpness=60.0),
        sampler=sections.SamplerConfig(num_samples=48, num_importance=16),
        rays=sections.RayConfig(per_view=128, per_sweep=768),
        losses=LossConfig(depth=1.0, rgb=10.0, sdf=1.0, free_space=1.0, truncation=1.0, depth_bins=1.0),
        optimization=settings.tiny_optimization(2e-3 if modality == "lidar" else 5e-3),
    )


INDOOR = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.2),
    "encoder": {"voxel_size": (0.05, 0.05, 0.1)},
    "image": {"depth_range": (0.0, 8.0)},
    "sampler": {"near": 0.1},
    "rays": {"near_radius": 0.0},
    "losses": {"truncation": 0.2},
}
"""What a room changes in the ``tiny`` presets: the range of the built-in rooms and a tenth of the voxels."""

PRESETS: dict[str, dict[str, UniPADConfig]] = {
    "unipad-lidar": {"tiny": _tiny("lidar"), "paper": _paper_lidar()},
    "unipad-camera": {"tiny": _tiny("camera"), "paper": _paper_camera()},
    "unipad-fusion": {"tiny": _tiny("fusion"), "paper": _paper_fusion()},
}
"""Configurations by recipe and preset name."""

RENAMED = (
    settings.moved("lidar", "encoder", "voxel_size batch_norm_momentum channels neck_blocks neck_channels")
    | settings.moved("lidar", "mask", "mask_ratio:ratio mask_block:block")
    | settings.moved("image", "image_mask", "mask_ratio:ratio patch_size")
    | settings.moved("render", "field", "channels hidden_channels sdf_blocks rgb_blocks sharpness")
    | settings.moved("render", "sampler", "near num_samples num_importance upsample_sharpness:sharpness")
    | settings.moved("render", "rays", "rays_per_camera:per_view rays_per_sweep:per_sweep")
    | settings.moved("render", "rays", "near_radius far_radius stride sky")
)
"""Today's names of settings by those that were saved before."""
