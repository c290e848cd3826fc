"""PonderV2 indoors: render a room's pictures, depth and classes from a fifth of its points.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm"; several data sets at once as in https://arxiv.org/abs/2308.09718, "Towards Large-scale
3D Representation Learning with Multi-dataset Point Prompt Training" (PPT).

Lengths are metres throughout. The published code shrinks every scene into a unit cube by its own largest
side and measures depth, distance and sharpness there. Here the cube is the same for all scenes, ``SIDE``
metres wide, and a length or a weight per length is converted with that: the truncation of 0.05 is 0.05 SIDE,
depth 1, near-surface 10 and free-space 1 per unit are 1 / SIDE, 10 / SIDE and 1 / SIDE per metre, and the
initial ``inv_s`` of 20.1 and the sharpness of 64 of the importance pass are per SIDE. Colour, eikonal and
classes have no length. For scenes of another size set ``point_cloud_range``, ``voxel_size`` and these alike.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch, Needs
from renderpretrain.encoders import Domains, Level, SparseUNet, VolumeUNet, Voxels, grid_levels
from renderpretrain.fields import DensityField, SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import lift_voxels
from renderpretrain.masking import MaskPolicy, RandomMask
from renderpretrain.recipes.augment import AugmentConfig, augment_listing
from renderpretrain.recipes.branches import set_momentum
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.columns import COLOR_NORMAL, INTENSITY, MEANING, Features, PointInput
from renderpretrain.recipes.places import encode_voxels, read_voxels
from renderpretrain.recipes.ponder_terms import (
    CODE,
    EMBEDDINGS,
    FORMER_NAMES,
    SHARED_CYCLE,
    SHARED_RULES,
    SHARED_SOURCES,
    ClassVectors,
    DistanceFieldConfig,
    SemanticLossConfig,
    UNetConfig,
    alignment,
    check_parts,
    known_labels,
    read_vectors,
    semantic_terms,
    width_of,
)
from renderpretrain.recipes.recipe import Hidden, Told
from renderpretrain.recipes.sections import (
    Balance,
    SamplerConfig,
    balanced,
    build_balance,
    build_field,
    build_sampler,
    ray_terms,
    render_targets,
)
from renderpretrain.recipes.settings import (
    CALIBRATION,
    UNREFINED,
    Blocks,
    Box,
    Count,
    ImageSize,
    OptimizationConfig,
    Settings,
    Sources,
    VoxelSize,
    Width,
    Widths,
    listed,
    tiny_optimization,
    unused,
)
from renderpretrain.recipes.terms import Step, further_terms
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import PixelRays, RayTargets, read_pixels

SIDE = 6.4
"""Metres: side of the published unit cube here; corners of turned built-in rooms lie outside."""

FLOOR = -0.2
"""Metres: height of the cube's lower face; the published cube stands on the scene's lowest point, too."""


class SplitFieldConfig(DistanceFieldConfig):
    """A field whose distance and color read different halves of the volume."""

    channels: Width = Field(128, gt=0, description="Width of the rendered volume; half of it per network.")
    hidden_channels: Width = Field(128, gt=0, description="Width of the networks.")
    geometry_channels: Width = Field(64, gt=0, description="Width of what the distance tells the color.")
    sdf_blocks: Blocks = Field(1, ge=0, description="Hidden layers of the distance network.")
    rgb_blocks: Blocks = Field(
        0, ge=0, description="Hidden layers of the color network; with 0 it is linear."
    )


class PointMaskConfig(Settings):
    """What is hidden of a room: points, one by one."""

    ratio: float = Field(0.8, ge=0, le=1, description="Share of the points that is dropped.")


class PixelRayConfig(Settings):
    """Settings of which pixels are rendered."""

    per_view: Count = Field(256, gt=0, description="Pixels with a depth, per view.")


class IndoorLossConfig(SemanticLossConfig):
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
    encoder: UNetConfig = UNetConfig(voxel_size=(0.02, 0.02, 0.02))
    mask: PointMaskConfig = PointMaskConfig()
    neck_channels: Widths = Field(
        (32, 64, 128, 256), description="Width of the dense U-Net's levels, fine to coarse."
    )
    field: SplitFieldConfig = SplitFieldConfig(sharpness=20.0855)
    sampler: SamplerConfig = SamplerConfig(
        kind="neus_importance", num_samples=96, num_importance=36, near=0.01 * SIDE, sharpness=64.0
    )
    rays: PixelRayConfig = PixelRayConfig()
    losses: IndoorLossConfig = IndoorLossConfig(
        depth=1 / SIDE,
        rgb=10.0,
        sdf=10 / SIDE,
        free_space=1 / SIDE,
        eikonal=0.01,
        truncation=0.05 * SIDE,
    )
    calibration: CalibrationConfig = CalibrationConfig()
    augment: AugmentConfig = AugmentConfig()
    optimization: OptimizationConfig = OptimizationConfig()


WITHOUT_CLASSES = "losses.semantic=0 losses.alignment=0"
"""What does without classes."""


class PonderIndoor(nn.Module):
    """A few of the points to voxels, sparse U-Net, volume, dense U-Net, rendered pixels of posed RGB-D views.

    The field reads the volume in two halves, one for the distance, one for colour and class, and does not see
    positions: what it knows of a place is what the encoder said of it. The terms of depth, distance and
    colour need no labels. Where scenes have classes, a rendered embedding is compared with that of the
    pixel's class, and a voxel's feature with that of its points' classes (PPT's alignment).

    With ``domains`` above one, every data set has its own batch norms in the encoder, steered by a learned
    embedding of the set (PPT's prompt), and its own list of classes. Equal names have one vector.

    Differs from the released code, on purpose:

    * PPT's alignment is part of the loss. Released: computed, logged and dropped.
    * A class's vector is read by its name. Released: with several prompts per name, the mean mixes names.
    * All classes are learnt. Released: the first one, the wall, never gets a target.
    * The rays of other samples are no negatives. Released: all rays of a batch.
    * A batch may mix data sets; each set's statistics are its own. Released: batches of one set only.
    * The ``tiny`` presets' encoder reads position and intensity (the pixel's luminance). Released, and in
      ``paper``: colour and normal, here that of the depth image around a pixel, there that of a mesh.
    * All scenes share one metric cube, and weights are converted. Released: each
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
    * Where the world is mirrored its pictures are, too. Vectors of classes are random unless a file gives
      CLIP's.

    Args:
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder`, or a
            :class:`~renderpretrain.encoders.PointEncoder`, whose volume is read at the voxels' centres; ours
            or yours.
        voxels: The voxels' grid.
        neck: From the features, averaged in the cells of the field's grid, to the rendered volume.
        renderer: Whose field's grid is rendered.
        mask: Which points are dropped, ``(candidates, seeds) -> mask``.
        columns: Columns of the points that the encoder reads, as means over voxels.
        losses: Weights of the terms.
        balance: What learns to weigh them further; nothing by default.
        terms: What is added to the loss beside the method's own terms, unbalanced; see
            :class:`~renderpretrain.recipes.terms.Term`.
        rays: Which pixels are rendered.
        classes: Vectors of class names, for the semantic term and the alignment.
        to_classes: From an encoder's feature to such a vector, for the alignment.
        contexts: Embedding of every data set that is mixed, for an encoder that takes ``domains``.
        calibration: Whether poses are refined; not by default.
    """

    config: PonderIndoorConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        encoder: nn.Module,
        voxels: VoxelGrid,
        neck: nn.Module,
        renderer: VolumeRenderer,
        *,
        mask: MaskPolicy,
        columns: tuple[str, ...] = COLOR_NORMAL,
        losses: IndoorLossConfig | None = None,
        balance: Balance | None = None,
        terms: Sequence[nn.Module] = (),
        rays: PixelRayConfig | None = None,
        classes: ClassVectors | None = None,
        to_classes: nn.Linear | None = None,
        contexts: nn.Embedding | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> None:
        super().__init__()
        self.grid = check_parts(encoder, renderer, voxels, columns)[0].grid
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.weights = IndoorLossConfig() if losses is None else losses
        self.rays = PixelRayConfig() if rays is None else rays
        self.vectors = classes
        self.fine = voxels
        self.input = PointInput(columns)
        self.policy = mask
        self.contexts = contexts
        self.encoder = encoder
        self.to_classes = to_classes
        self.neck = neck
        self.renderer = renderer
        self.balance = balance
        self.terms = nn.ModuleList(terms)

    @property
    def _several(self) -> bool:
        """Whether data sets are mixed, of which some may have no classes."""
        return self.contexts is not None

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        batch = self.calibration(batch)
        weights, targets, hidden = self.weights, self._targets(batch), self.hide(batch)
        told: Told = [] if self.terms else None
        voxels, features = self._encode(batch, hidden, told)
        volume = self._lift(voxels, features, batch.size)
        rendered = render_targets(self.renderer, volume, batch, targets, ops.fold_in(batch.seeds, 3))
        terms = ray_terms(rendered, targets, weights) | self.calibration.prior()
        vocabulary = None if self.vectors is None else self.vectors.vocabulary(batch)
        terms |= semantic_terms(rendered, targets, weights, vocabulary)
        if vocabulary is not None and self.to_classes is not None:
            labels = known_labels(batch, "points", WITHOUT_CLASSES, optional=self._several)
            said = self.to_classes(features)
            aligned = alignment(said, voxels, labels, vocabulary, weights.temperature)
            terms["alignment"] = weights.alignment * aligned
        # What all terms pull at: the alignment does not see the neck.
        shared = self.neck if self.to_classes is None else self.encoder
        terms = balanced(self.balance, terms, list(shared.parameters()))
        step = Step(batch, hidden, told or [], volume, self.renderer, targets, rendered)
        return terms | further_terms(self.terms, step, terms)

    def hide(self, batch: Batch) -> Hidden:
        """The points that are dropped, drawn from the batch's seeds."""
        return Hidden(dropped=self.policy(batch.points.valid, ops.fold_in(batch.seeds, 1)))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        return self._lift(*self._encode(batch, hidden), batch.size)

    def _encode(self, batch: Batch, hidden: Hidden | None, told: Told = None) -> tuple[Voxels, Tensor]:
        """The voxels of the points that are left, and the encoder's feature of each; a list gets levels."""
        voxels, domains = self._left(batch, hidden), self._domains(batch)
        more = () if domains is None else (domains,)
        return voxels, encode_voxels(self.encoder, voxels, *more, told=told)

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that the encoder says; with nothing hidden by default."""
        domains, sparse = self._domains(batch), self._left(batch, hidden).to_sparse()
        told = () if domains is None else (domains,)
        return list(grid_levels("point_encoder", self.encoder, sparse, self.fine, *told))

    def _left(self, batch: Batch, hidden: Hidden | None) -> Voxels:
        """The voxels of the points that are left."""
        batch.require_points("the encoder", "use unipad-camera")
        dropped = None if hidden is None else hidden.dropped
        valid = batch.points.valid if dropped is None else batch.points.valid & ~dropped
        return self.input(batch, valid, self.fine)

    def _domains(self, batch: Batch) -> Domains | None:
        """The data set of each sample, where they have their own norms."""
        if self.contexts is None:
            return None
        known = self.contexts.num_embeddings
        if max(batch.domains) >= known:
            raise ValueError(
                f"domains: expected a batch of {known} data sets, got scene "
                f"{batch.names[batch.domains.index(max(batch.domains))]!r} of number {max(batch.domains)}; "
                f"set domains={max(batch.domains) + 1}"
            )
        return Domains(batch.domains, self.contexts(ops.constant(batch.domains, batch.seeds)))

    def _lift(self, voxels: Voxels, features: Tensor, size: int) -> Tensor:
        """The volume of encoded voxels."""
        return self.neck(lift_voxels(features, voxels.coords, self.fine, self.grid, size))

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer.picture(volume, rays, seeds)

    def classes(self, batch: Batch, rendered: Rendered) -> Int[Tensor, "B R"] | None:
        """The class every ray shows, by its scene's own numbers; ``None`` where no embedding is rendered."""
        if self.vectors is None or "semantic" not in rendered.channels:
            return None
        return self.vectors.vocabulary(batch).nearest(rendered.channels["semantic"])

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Pixels with a depth, and what the sensor measured there, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per view; the configuration's number by default.
        """
        return self._targets(self.calibration(batch), num_rays)

    def _targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """The same, of cameras that are refined already."""
        if batch.views is None or batch.views.z_depth_valid is None:
            raise ValueError(
                f"scene {batch.names[0]!r} has no depth images: ponder-indoor needs posed RGB-D views, as "
                "--data synthetic-room; for LiDAR use ponder-outdoor"
            )
        draw = PixelRays(num_rays or self.rays.per_view, candidates=batch.views.z_depth_valid)
        targets = draw(batch, ops.fold_in(batch.seeds, 4))
        targets = replace(targets, hit=targets.hit & self.grid.contains(targets.ends))
        if self.vectors is None or not self.weights.semantic:
            return targets
        pictures = known_labels(batch, "pixels", WITHOUT_CLASSES, optional=self._several)
        labels = read_pixels(pictures, targets.camera, targets.pixels).long()
        return replace(targets, labels=torch.where(targets.rgb_valid, labels, -1))

    def refined(self, batch: Batch) -> Batch:
        """The batch with its cameras where the recipe believes them to be."""
        return self.calibration(batch)

    def surface_field(self) -> SDFField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The part that is taken home to be fine-tuned, and what its norms need to know."""
        prompts = {} if self.contexts is None else {"contexts": self.contexts}
        return {"point_encoder": self.encoder, **prompts}

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the feature of the voxel there, or 0."""
        voxels, features = self._encode(batch, None)
        return read_voxels(features, voxels, positions)


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
        augment=AugmentConfig(
            turn=180.0,
            turned=0.5,
            tilt=180 / 64,
            tilted=0.5,
            scale=(0.9, 1.1),
            mirror_x=0.5,
            mirror_y=0.5,
        ),
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

    The built-in rooms are about as wide as the published cube and half as high; their points are a tenth of a
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
        ),
        sampler=SamplerConfig(num_samples=48, num_importance=16, near=0.1),
        rays=PixelRayConfig(per_view=128),
        losses=IndoorLossConfig(depth=1.0, rgb=10.0, sdf=10.0, free_space=5.0, eikonal=0.01, truncation=0.3),
        optimization=tiny_optimization(5e-3),
    )


PRESETS = {
    "tiny": _tiny(),
    "tiny-semantic": _with_classes(_tiny(), "hashed:32", semantic=0.1, alignment=0.1),
    "paper": _paper(),
    "paper-ppt": _paper_ppt(),
}
"""Configurations by name; ``tiny`` needs no classes, ``paper-ppt`` is for several data sets at once.

The published vectors are CLIP's of the names of classes; ``--set embeddings=FILE.npz`` gives such. As long as
nobody does, a name has a random vector, always the same.
"""

_ROOM = "scannet/pretrain-ponder-spunet-v1m1-0-base.py"

_ROOMS = "scannet/pretrain-ponder-ppt-v1m1-0-sc-s3-st-spunet.py"

SOURCES = Sources(
    CODE,
    SHARED_SOURCES
    | CALIBRATION
    | listed(
        {
            "ours (code: CLIP's text encoder, ponder_indoor_base.py:85-118)": "embeddings",
            "code render_utils/models/base_surface_model.py:102-211": "losses.temperature",
            f"code {_ROOM}": "domains",
            f"code {_ROOM}:277,299": "points",
            "code ponder_indoor_base.py:681-692, left out of the sum": "losses.alignment",
            "ours (code: every scene's own cube, ponder_indoor_base.py:344-444)": "point_cloud_range",
            f"code {_ROOM}:95": "voxel_size",
            "ours": "image_size losses.inliers",
            "ours (rooms have one)": "sweeps",
            f"code {_ROOM}:213-217": "mask.ratio",
            f"code {_ROOM}:205-301": "encoder.voxel_size",
            "code ponder/unet3d.py:562-671": "neck_channels",
            f"code {_ROOM}:26-30": "field.channels",
            f"code {_ROOM}:35-57": (
                "field.hidden_channels field.geometry_channels field.sdf_blocks field.rgb_blocks"
            ),
            f"code {_ROOM}:71-79": "sampler.num_samples sampler.num_importance",
            "code render_utils/scene_colliders.py:46-85, per side": "sampler.near",
            "code ponder_indoor_base.py:548-551": "rays.per_view",
            f"code {_ROOM}:80-91, per side": ("losses.depth losses.sdf losses.free_space losses.truncation"),
            f"code {_ROOM}:80-91": "losses.rgb losses.eikonal losses.semantic",
        }
    )
    | augment_listing({f"code {_ROOM}:205-301": "turn turned tilt tilted scale mirror_x mirror_y"})
    | listed(
        {
            f"code {_ROOM}:155-170": (f"steps batch_size optimizer lr weight_decay schedule {SHARED_CYCLE}"),
            f"ours (code: fp16, {_ROOM})": "precision",
        },
        "optimization.",
    ),
    (
        *SHARED_RULES,
        UNREFINED,
        unused("context_channels", when={"domains": 1}),
        unused("embeddings losses.temperature", when={"losses.semantic": 0, "losses.alignment": 0}),
    ),
    {
        "paper-ppt": {
            "domains": f"code {_ROOMS}: Structured3D, ScanNet, S3DIS as 4:2:1",
            "context_channels": "code spconv_unet_v1m3_pdnorm.py:23-72",
            **listed({f"code {_ROOMS}": "steps lr precision"}, "optimization."),
        },
    },
)
"""Where the numbers of ``paper`` come from, and of the one that differs from it."""

RENAMED = FORMER_NAMES | {"drop_ratio": "mask.ratio", "rays_per_view": "rays.per_view"}
"""Names that settings had, and have in what was saved then: today's by the former."""


def needs(config: PonderIndoorConfig) -> Needs:
    """What it cannot do without. Where several data sets mix, some may come without classes."""
    named = config.domains == 1 and (config.losses.semantic > 0 or config.losses.alignment > 0)
    return Needs(images=True, depths=True, labels=named, most_cameras=config.calibration.places)


def build(config: PonderIndoorConfig, *, encoder: nn.Module | None = None) -> PonderIndoor:
    """The published networks, as a configuration sizes them, or an encoder of yours in its place.

    Args:
        config: The settings.
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder` or
            :class:`~renderpretrain.encoders.PointEncoder`.

    Raises:
        ValueError: If it meets neither, as its answer to a few voxels says, or several data sets are mixed,
            each of which needs norms in it.
    """
    if encoder is not None and config.domains > 1:
        raise ValueError(
            f"domains: expected 1, for an encoder of yours has no norms per data set, got {config.domains}"
        )
    weights, field = config.losses, config.field
    classes = read_vectors(
        config.embeddings,
        {"losses.semantic": weights.semantic, "losses.alignment": weights.alignment},
        unnamed=config.domains > 1,
    )
    several = config.domains > 1
    contexts = nn.Embedding(config.domains, config.context_channels) if several else None
    network = _unet(config) if encoder is None else encoder
    width = width_of(network)
    to_classes = None
    if classes is not None and weights.alignment:
        to_classes = nn.Linear(width, classes.channels)
    neck = VolumeUNet(width, field.channels, channels=config.neck_channels)
    rendered = _field(config, classes.channels if classes is not None and weights.semantic else 0)
    recipe = PonderIndoor(
        network,
        VoxelGrid(config.point_cloud_range, config.encoder.voxel_size),
        neck,
        VolumeRenderer(rendered, build_sampler(config.sampler, rendered, rendered.grid)),
        mask=RandomMask(config.mask.ratio),
        columns=config.points,
        losses=weights,
        balance=build_balance(weights.balance, weights.terms()),
        rays=config.rays,
        classes=classes,
        to_classes=to_classes,
        contexts=contexts,
        calibration=config.calibration,
    )
    recipe.config = config
    return recipe


def _unet(config: PonderIndoorConfig) -> SparseUNet:
    """The published encoder; of several data sets, with norms for each."""
    unet = config.encoder
    network = SparseUNet(
        len(config.points),
        channels=unet.channels,
        depths=unet.depths,
        stem_channels=unet.stem_channels,
        prompt=(config.domains, config.context_channels) if config.domains > 1 else None,
    )
    set_momentum(network, unet.batch_norm_momentum)
    return network


def _field(config: PonderIndoorConfig, semantic_channels: int) -> SDFField | DensityField:
    """Half of the volume says where surfaces are, half what they look like; neither sees positions."""
    grid, color = VoxelGrid(config.point_cloud_range, config.voxel_size), config.losses.rgb > 0
    return build_field(
        config.field,
        grid,
        extent=max(b - a for a, b in zip(grid.lower, grid.upper, strict=True)),
        color=color,
        semantic_channels=semantic_channels,
        geometry_channels=config.field.geometry_channels,
        split=color or semantic_channels > 0,
        positions=False,
    )
