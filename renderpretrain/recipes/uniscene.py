"""UniScene: from camera images, say which voxels the LiDAR found occupied.

https://arxiv.org/abs/2305.18829, "Multi-Camera Unified Pre-training via 3D Scene Reconstruction", RA-L 2024.

Lengths are metres throughout, as in the published code. Where a number is not the authors' its source says
``ours``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.checks import check_shape
from renderpretrain.data import Batch, Needs, Recording, SceneDataset, SceneWindows
from renderpretrain.encoders import (
    FPN,
    TIMM,
    GridLevel,
    ImageLevel,
    Level,
    OccupancyDecoder,
    image_network,
    own_image_encoder,
)
from renderpretrain.fields import OccupancyField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import BEVFormerLifter, BEVMemory, PreviousBEV, SplatLifter
from renderpretrain.masking import FrameMask, GridMask, MaskPolicy, Sometimes
from renderpretrain.recipes import sections
from renderpretrain.recipes.augment import GroundedAugmentConfig, augment_listing
from renderpretrain.recipes.images import ImageNetwork
from renderpretrain.recipes.recipe import Hidden, Told
from renderpretrain.recipes.settings import (
    NUSCENES_SAMPLES,
    OURS,
    UNSCHEDULED,
    WARM_UP,
    Blocks,
    Box,
    Count,
    Depths,
    Distance,
    ImageSize,
    OptimizationConfig,
    Settings,
    Sources,
    Span,
    VoxelSize,
    WeightsFile,
    Width,
    listed,
    moved,
    tiny_optimization,
    unused,
)
from renderpretrain.recipes.terms import Step, further_terms
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import LidarGuidedRays, RayTargets, in_range

ALTERNATIVE = "unipad-lidar"
"""What does without cameras."""


class ImageConfig(Settings):
    """The image network, a ResNet or one of timm's, and its pyramid."""

    backbone: str = Field("resnet", pattern="^(resnet|timm:.+)$", description="resnet or timm:NAME.")
    weights: WeightsFile = None
    """Pre-trained backbone: a .pth or .safetensors file with timm's or torchvision's keys."""
    depths: Depths = Field((3, 4, 23, 3), description="Blocks per stage; ResNet-101.")
    width: Width = Field(64, gt=0, description="Channels of the first stage.")
    bottleneck: bool = Field(True, description="Bottleneck blocks, as in ResNet-50 and ResNet-101.")
    frozen_stages: Count = Field(1, ge=0)
    """Stages that keep their weights; 0 trains all, the stem included."""
    frozen_norms: bool = Field(True, description="All batch norms of the backbone keep what was loaded.")
    first_level: Count = Field(1, ge=0, description="First stage the pyramid uses; timm: from 4 pixels on.")
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
    history_drop: float = Field(0.25, ge=0, le=1, description="Share that a training step leaves out.")


class SplatConfig(Settings):
    """Lifting by a depth distribution (``lifter: lss``); the numbers are ours, none is released."""

    depth_bins: Count = Field(59, gt=0)
    depth_range: Span = (1.0, 60.0)


class StripeMaskConfig(Settings):
    """Stripes of squares that training hides from the image network."""

    probability: float = Field(0.7, ge=0, le=1, description="Of a sample being masked at all.")
    visible: float = Field(0.5, ge=0, le=1, description="Share of a period that stays visible, per axis.")
    smallest: Count = Field(2, ge=2, description="Pixels; the largest period is the image's height.")


class LabelConfig(Settings):
    """Occupancy labels from LiDAR frames."""

    reach: Count = Field(2, ge=0, description="Frames on either side whose beams label a scene.")
    near: Distance = Field(2.0, ge=0)
    """Closer returns label nothing, metres; ours: the recording car."""


class DecoderConfig(Settings):
    """From the volume to logits; thrown away after pre-training."""

    channels: Width = Field(32, gt=0)
    hidden_channels: Width = Field(64, gt=0)


class OccupancyFieldConfig(Settings):
    """The logits as something that is rendered, to score and to look at them. All ours."""

    length: float | None = Field(None, gt=0)
    """Metres at which a voxel is opaque with its probability; null: its edge."""


class OccupancySamplerConfig(sections.SamplerConfig):
    """Where along rays the logits are asked; they have no distances to go by."""

    kind: Literal["even", "stratified", "disparity", "near_surface", "occupied"] = "even"
    num_samples: Count = Field(192, gt=0, description="Samples of a ray; at most so many where occupied.")


class ViewRayConfig(Settings):
    """Which rays of the cameras are rendered."""

    per_view: Count = Field(512, gt=0, description="Rays per camera.")
    near_radius: Distance = Field(3.0, ge=0, description="Nearer returns in the plane do not count.")
    far_radius: Distance = Field(50.0, ge=0, description="Nor do those that are farther.")
    stride: Count = Field(4, gt=0, description="Pixels between the filler's grid points.")
    sky: float = Field(0.4, ge=0, lt=1, description="Share of the image height without filler.")


class OccupancyLossConfig(Settings):
    """Focal loss on observed voxels, and rendered depth (per metre), which is ours."""

    occupancy: float = Field(1.0, ge=0)
    gamma: float = Field(2.0, ge=0)
    alpha: float = Field(0.25, ge=0, le=1, description="Weight of occupied voxels; free ones have the rest.")
    depth: float = Field(0.0, ge=0, description="Weight of the rendered logits' depth error; ours.")
    balance: sections.BalanceName = Field("fixed", description="What learns to weigh the two further.")


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
    image_mask: StripeMaskConfig = StripeMaskConfig()
    labels: LabelConfig = LabelConfig()
    decoder: DecoderConfig = DecoderConfig()
    field: OccupancyFieldConfig = OccupancyFieldConfig()
    sampler: OccupancySamplerConfig = OccupancySamplerConfig()
    rays: ViewRayConfig = ViewRayConfig()
    losses: OccupancyLossConfig = OccupancyLossConfig()
    augment: GroundedAugmentConfig = GroundedAugmentConfig()
    optimization: OptimizationConfig = OptimizationConfig()

    @property
    def history(self) -> int:
        """Frames that are remembered; only attention has a memory."""
        return self.attention.history if self.lifter == "bevformer" else 0


class UniScene(nn.Module):
    """Multi-camera images to occupancy: image network, bird's-eye view, 3D decoder, focal loss.

    A ResNet and a pyramid see the images; BEVFormer's attention, with a memory of earlier frames, or
    lift-splat makes a bird's-eye view of them; its channels are dealt out to the heights, and a small 3D
    decoder that is thrown away afterwards says of every voxel whether it is occupied. The labels come from
    the beams of a window of LiDAR frames (:class:`~renderpretrain.data.SceneWindows`). Rendering the logits
    shows and scores what was learned; the published method renders nothing in training, and ``losses.depth``,
    which does, is ours.

    Differs from the released code, on purpose:

    * Labels know free from unknown: every beam is cast through the grid, and the loss ignores what no beam
      observed. Released: every voxel without a return is free.
    * Returns outside the grid label nothing. Released: they are moved onto its border, which they occupy.
    * Voxels have the configured size. Released: the extent is divided by one voxel too few, so that labels
      drift by up to a voxel.
    * Labels and lifter share one frame, and beams begin at their sensor. Released: labels have the LiDAR's
      origin and the lifter the car's, a constant offset.
    * Moving objects are carried along with their boxes, where there are boxes. Released: they leave trails.
    * Labels take key frames without the sweeps between them, whose poses a recording need not have.
    * One logit per voxel, so that ``alpha`` weighs occupied against free. Released: two channels, each
      voxel once positive and once negative, which balances nothing.
    * The memory is warped by the pose, bilinearly. Released: rotated to the nearest cell about the map's
      centre, then shifted by changing reference points in place, also those that other layers share.
    * The cameras of every sample are its own. Released: visibility and ego pose are sample 0's.
    * Frames of a sample are left out of its memory by its own seed. Released: by numpy's global generator.
    * History runs without gradient in the mode of the present frame; the mode matters only where batch
      norms are not frozen.
    * The images' squares are hidden per sample. Released: one mask for all samples of a process.
    * ResNet-101 without deformable convolutions, from ImageNet's weights with torchvision's keys; no CAN
      bus; no dropout in attention. Colours change alike in all cameras, and channels are not swapped.
    * lift-splat is described, but not released. It sums points into one height; two 2D convolutions
      follow, then the same dealing out and decoder. It has no memory.

    Args:
        images: From images to maps, fine to coarse, shared by all cameras.
        lifter: From maps to a volume on the field's grid, ``(levels, cameras, valid)``, and with a history
            also ``previous``, what was seen before.
        decoder: From the volume to a logit per voxel; thrown away afterwards.
        renderer: Of the logits, for scores and pictures; whose field's grid is labelled.
        mask_images: Which pixels are hidden, ``(candidates, seeds) -> mask``.
        mask_frames: Which remembered frames are forgotten, likewise.
        history: Frames that are remembered.
        losses: Weights of the terms.
        balance: What learns to weigh them further; nothing by default.
        terms: What is added to the loss beside the method's own terms, unbalanced; see
            :class:`~renderpretrain.recipes.terms.Term`.
        rays: Which rays are rendered.
    """

    config: UniSceneConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        images: ImageNetwork,
        lifter: nn.Module,
        decoder: nn.Module,
        renderer: VolumeRenderer[OccupancyField],
        *,
        mask_images: MaskPolicy,
        mask_frames: MaskPolicy | None = None,
        history: int = 0,
        losses: OccupancyLossConfig | None = None,
        balance: sections.Balance | None = None,
        terms: Sequence[nn.Module] = (),
        rays: ViewRayConfig | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(renderer.field, OccupancyField):
            got = type(renderer.field).__name__
            raise ValueError(f"renderer.field: expected an OccupancyField, got {got}")
        self.grid = renderer.field.grid
        self.weights = OccupancyLossConfig() if losses is None else losses
        self.rays = ViewRayConfig() if rays is None else rays
        self.history = history
        self.mask_images = mask_images
        self.mask_frames = FrameMask(0.0, keep=0) if mask_frames is None else mask_frames
        self.images = images
        self.lifter = lifter
        self.decoder = decoder
        self.renderer = renderer
        self.balance = balance
        self.terms = nn.ModuleList(terms)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        occupied, observed = self._labels(batch)
        weights, hidden = self.weights, self.hide(batch)
        told: Told = [] if self.terms else None
        logits = self._encode(batch, hidden, told)[:, 0].float()
        focal = losses.occupancy_focal(logits, occupied, observed, gamma=weights.gamma, alpha=weights.alpha)
        terms = {"occupancy": weights.occupancy * focal}
        targets = rendered = None
        if weights.depth:
            targets, seeds = self.targets(batch), ops.fold_in(batch.seeds, 3)
            rendered = sections.render_targets(self.renderer, logits[:, None], batch, targets, seeds)
            terms["depth"] = weights.depth * losses.depth_l1(rendered.depth, targets.depth, targets.hit)
        terms = sections.balanced(self.balance, terms, list(self.decoder.parameters()))
        step = Step(batch, hidden, told or [], logits[:, None], self.renderer, targets, rendered)
        return terms | further_terms(self.terms, step, terms)

    def hide(self, batch: Batch) -> Hidden:
        """Draw what this step hides, from the batch's seeds."""
        images = batch.require_views(ALTERNATIVE).images
        pixels = torch.ones((batch.size, *images.shape[-2:]), dtype=torch.bool, device=batch.device)
        patches = self.mask_images(pixels, ops.fold_in(batch.seeds, 1))
        frames = torch.ones(batch.size, len(batch.previous), dtype=torch.bool, device=batch.device)
        forgotten = self.mask_frames(frames, ops.fold_in(batch.seeds, 2))
        return Hidden(patches[:, None].expand(-1, images.shape[1], -1, -1), frames=forgotten)

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B 1 Z Y X"]:
        """Logits of every voxel being occupied; with nothing hidden by default."""
        return self._encode(batch, hidden or Hidden())

    def _encode(self, batch: Batch, hidden: Hidden, told: Told = None) -> Tensor:
        """The logits; a list is given the levels on the way."""
        return self.decoder(self._lift(batch, hidden.patches, self._remember(batch, hidden), told))

    def _lift(self, batch: Batch, patches: Tensor | None, previous: PreviousBEV | None, told: Told) -> Tensor:
        """One moment's volume; a list is given the levels on the way."""
        views = batch.require_views(ALTERNATIVE)
        found = views.images.shape[1]
        if isinstance(self.lifter, BEVFormerLifter) and found != self.lifter.num_cameras:
            raise ValueError(
                f"attention.num_cameras: expected {self.lifter.num_cameras} cameras, scene "
                f"{batch.names[0]!r} has {found} cameras; set attention.num_cameras={found}"
            )
        memory = () if previous is None else (previous,)
        maps = self.images(views.images, patches, told)
        volume = self.lifter(maps, views.cameras, views.valid, *memory)
        if told is not None:
            told.append(GridLevel("lifter/0", volume, self.grid))
        return volume

    @torch.no_grad()
    def _remember(self, batch: Batch, hidden: Hidden) -> PreviousBEV | None:
        """What the frames before saw, oldest first: each remembers the kept ones before it."""
        if not self.history:
            return None
        if len(batch.previous) != self.history:
            raise ValueError(
                f"scene {batch.names[0]!r} has {len(batch.previous)} earlier frames, expected "
                f"{self.history}: wrap the data set with with_labels, or set attention.history=0"
            )
        memory: BEVMemory | None = None
        for age, moment in enumerate(batch.previous):
            volume = self._lift(moment, None, _seen_from(moment, memory), None)
            kept = torch.ones_like(batch.seeds, dtype=torch.bool)
            if hidden.frames is not None:
                kept = ~hidden.frames[:, age]
            memory = BEVMemory(volume, _pose(moment), kept).over(memory)
        # Older torch hands the copies of weights that autocast made here, without gradient, to the present.
        torch.clear_autocast_cache()
        return _seen_from(batch, memory)

    def _labels(self, batch: Batch) -> tuple[Bool[Tensor, "B Z Y X"], Bool[Tensor, "B Z Y X"]]:
        """Which voxels are occupied, and of which it is known."""
        batch.require_points("labelling occupancy", "use ns-mae with modality=camera")
        if batch.occupied is None or batch.observed is None:
            raise ValueError(
                f"scene {batch.names[0]!r} has no occupancy labels: wrap the data set with with_labels"
            )
        check_shape("occupied", batch.occupied, "B Z Y X", **dict(zip("ZYX", self.grid.shape, strict=True)))
        return batch.occupied, batch.observed

    score_names = ("occupancy_iou",)

    @torch.no_grad()
    def score_sums(self, batch: Batch, volume: Float[Tensor, "B 1 Z Y X"] | None) -> Float[Tensor, "1 2"]:
        """Intersection and union of occupied voxels among the observed ones of all samples.

        Args:
            batch: Samples with labels.
            volume: Logits; a voxel counts as occupied with a probability of a half or more. ``None`` says
                that everything is occupied.
        """
        occupied, observed = self._labels(batch)
        said = observed if volume is None else (volume[:, 0] >= 0) & observed
        return torch.stack([(said & occupied).sum(), (said | occupied).sum()]).double()[None]

    def render(self, volume: Float[Tensor, "B 1 Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render the logits along rays of the world; without seeds the samples are not jittered."""
        return self.renderer.picture(volume, rays, seeds)

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera; the configuration's number by default.
        """
        rays, points = self.rays, batch.points
        batch.require_views(ALTERNATIVE)
        batch = replace(batch, points=points.only(in_range(points, rays.near_radius, rays.far_radius)))
        guided = LidarGuidedRays(num_rays or rays.per_view, stride=rays.stride, sky=rays.sky)
        targets = guided(batch, ops.fold_in(batch.seeds, 4))
        return replace(targets, hit=targets.hit & self.grid.contains(targets.ends))

    def surface_field(self) -> OccupancyField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        return {"image_backbone": self.images.backbone, "image_neck": self.images.neck, "lifter": self.lifter}

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that :meth:`encoders` say; with nothing hidden by default. The lifter's is its volume."""
        hidden, told = hidden or Hidden(), list[Level]()
        self._lift(batch, hidden.patches, self._remember(batch, hidden), told)
        return told

    def image_levels(self, batch: Batch) -> list[ImageLevel]:
        """Those of :meth:`levels` that are on images, nothing hidden."""
        return self.images.levels(batch.require_views(ALTERNATIVE).images)

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the lifter's volume, trilinearly."""
        volume = self._lift(batch, None, self._remember(batch, Hidden()), None)
        return self.grid.read(volume, positions)

    def bev_features(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """What :meth:`encoders` say of the grid's columns, nothing hidden: the lifter's slices."""
        return self._lift(batch, None, self._remember(batch, Hidden()), None).flatten(1, 2)

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's finest map."""
        return self.images(batch.require_views(ALTERNATIVE).images)[0]


def _pose(batch: Batch) -> Float[Tensor, "B 4 4"]:
    """Where the batch's worlds are in their recordings."""
    if batch.world_to_global is None:
        raise ValueError(
            f"scene {batch.names[0]!r} has no pose (world_to_global), needed to remember frames; "
            "set attention.history=0"
        )
    return batch.world_to_global


def _seen_from(batch: Batch, memory: BEVMemory | None) -> PreviousBEV | None:
    """The memory with its way from the batch's moment."""
    return None if memory is None else memory.seen_from(_pose(batch))


def _paper() -> UniSceneConfig:
    """The released configuration: 24 epochs of one sample on each of 8 GPUs."""
    return UniSceneConfig(
        point_cloud_range=(-51.2, -51.2, -5.0, 51.2, 51.2, 3.0),
        voxel_size=(0.512, 0.512, 0.5),
        augment=GroundedAugmentConfig(brightness=32 / 255, contrast=0.5, saturation=0.5, hue=18.0),
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
        field=OccupancyFieldConfig(length=1.5),
        sampler=OccupancySamplerConfig(num_samples=128),
        rays=ViewRayConfig(per_view=128),
        losses=OccupancyLossConfig(alpha=0.5, depth=0.02),
        optimization=tiny_optimization(4e-3),
    )


PRESETS = {"tiny": _tiny(), "paper": _paper()}
"""Configurations by preset name."""

CODE = "https://github.com/chaytonmin/UniScene, 9e1e95a; occ_bev_sweep2.py in projects/configs/bevformer"

SOURCES = Sources(
    CODE,
    listed(
        {
            "code occ_bev_sweep2.py": "lifter",
            "code occ_bev_sweep2.py:11": "point_cloud_range voxel_size",
            "code bevformer_occ_head.py:85-87": "channels",
            "ours (code: 900 rows, padded to 928 with zeros)": "image_size",
            "ours (code: FCOS3D's R101-DCN, occ_bev_sweep2.py:240)": "image.weights",
            "code occ_bev_sweep2.py:44-55": (
                "image.backbone image.depths image.width image.bottleneck image.frozen_stages"
                " image.frozen_norms image.first_level"
            ),
            "code occ_bev_sweep2.py:56-63": "image.num_levels",
            "code occ_bev_sweep2.py:97-126": "attention.num_layers attention.hidden_channels",
            "code spatial_cross_attention.py:350-373": "attention.num_heads attention.num_points",
            "code modules/encoder.py:65-75": "attention.num_heights",
            "code occ_bev_sweep2.py:156-167": "attention.num_cameras",
            "code nuscenes_occ.py:54-103": "attention.history attention.history_drop",
            "code bevformer_occ.py:52-54": "image_mask.probability image_mask.visible",
            "code grid_mask.py:84-124": "image_mask.smallest",
            "code docs/prepare_dataset.md": "labels.reach",
            "ours": (
                "sweeps labels.near sampler.kind sampler.num_samples sampler.near field.length"
                " rays.near_radius rays.far_radius rays.stride rays.sky losses.depth losses.balance"
            ),
            "code transformer_occ.py:110-136": "decoder.channels decoder.hidden_channels",
            "code occ_bev_sweep2.py:74-79": "losses.occupancy losses.gamma losses.alpha",
        }
    )
    | augment_listing({"code transform_3d.py:102-189": "brightness contrast saturation hue recolored"})
    | listed(
        {
            "code occ_bev_sweep2.py:219-239, 24 epochs": "steps",
            "code occ_bev_sweep2.py:189; 8 GPUs in docs/getting_started.md": "batch_size",
            "code occ_bev_sweep2.py:219-239": (
                f"optimizer lr weight_decay schedule clip_norm lr_multipliers precision {WARM_UP}"
            ),
            "ours": OURS,
        },
        "optimization.",
    ),
    (
        *UNSCHEDULED,
        *sections.SAMPLER_RULES,
        unused("depths width bottleneck frozen_stages", "image.", when={"image.backbone": TIMM}),
        unused("splat.depth_bins splat.depth_range", when={"lifter": "bevformer"}),
        unused(" ".join(AttentionConfig.model_fields), "attention.", when={"lifter": "lss"}),
        unused("attention.history_drop", when={"attention.history": 0}),
        unused("image_mask.visible image_mask.smallest", when={"image_mask.probability": 0}),
        unused("rays.per_view", when={"losses.depth": 0}),
    ),
)
"""Where the numbers of ``paper`` come from."""

RENAMED = (
    moved("grid_mask", "image_mask", "probability ratio:visible smallest")
    | moved("render", "sampler", "num_samples near")
    | moved("render", "field", "length")
    | moved("render", "rays", "rays_per_camera:per_view near_radius far_radius stride sky")
)
"""Names that settings had, and have in what was saved then: today's by the former."""


def needs(config: UniSceneConfig) -> Needs:
    """What it cannot do without; frames are joined by their poses."""
    places = (config.attention.num_cameras, "attention.num_cameras")
    return Needs(
        images=True,
        points=True,
        poses=config.history > 0 or config.labels.reach > 0,
        most_cameras=places if config.lifter == "bevformer" else None,
    )


def with_labels(config: UniSceneConfig, dataset: SceneDataset, holdout: int = 0) -> SceneWindows:
    """The scenes with what UniScene learns from: occupancy labels, and the frames before.

    Args:
        config: Says the grid, the window and the number of frames.
        dataset: A recording with poses, or single frames where neither is asked for.
        holdout: The last so many scenes, which label none of those before them.

    Raises:
        ValueError: If the scenes do not follow each other, stand alone although frames before them are asked
            for, or have no poses.
    """
    if not isinstance(dataset, Recording):
        raise ValueError(
            f"uniscene: expected frames that follow each other, got {type(dataset).__name__}; "
            "use --data synthetic or folder:PATH"
        )
    together = max((len(dataset.sequence(i)) for i in range(len(dataset))), default=0)
    if together == 1 and config.history:
        raise ValueError(
            "attention.history: expected frames before each other, but every scene stands alone; "
            "set attention.history=0"
        )
    if together > 1 and (config.history or config.labels.reach):
        first = dataset.without_images(0)
        if first.world_to_global is None:
            raise ValueError(
                f"scene {first.name!r} has no pose (world_to_global), needed to join frames; "
                "set labels.reach=0 and attention.history=0"
            )
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    labels, past = config.labels, config.history
    return SceneWindows(dataset, grid, reach=labels.reach, history=past, near=labels.near, holdout=holdout)


def build(config: UniSceneConfig, *, image_backbone: nn.Module | None = None) -> UniScene:
    """The published networks, as a configuration sizes them, or an image network of yours in its place.

    Args:
        config: The settings.
        image_backbone: An :class:`~renderpretrain.encoders.ImageEncoder`.

    Raises:
        ValueError: If an encoder of yours does not answer to a few voxels, or to an image, as it has to.
    """
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    mask, decoder = config.image_mask, config.decoder
    sides = (mask.smallest, max(mask.smallest, config.image_size[0] - 1))
    field = OccupancyField(grid, length=config.field.length)
    terms = [name for name in ("occupancy", "depth") if getattr(config.losses, name)]
    recipe = UniScene(
        _image_network(config, image_backbone),
        _lifter(config, grid),
        OccupancyDecoder(config.channels // grid.shape[0], decoder.channels, decoder.hidden_channels),
        VolumeRenderer(field, sections.build_sampler(config.sampler, field, grid)),
        mask_images=Sometimes(GridMask(sides, mask.visible), mask.probability),
        mask_frames=FrameMask(config.attention.history_drop, keep=0),
        history=config.history,
        losses=config.losses,
        balance=sections.build_balance(config.losses.balance, terms),
        rays=config.rays,
    )
    recipe.config = config
    return recipe


def _image_network(config: UniSceneConfig, own: nn.Module | None) -> ImageNetwork:
    """An image network and its feature pyramid.

    Raises:
        ValueError: If something is to be frozen and there are no weights, they do not fit, or timm cannot
            make the network.
    """
    image = config.image
    if own is not None:
        widths = own_image_encoder(own, config.image_size).channels
        return ImageNetwork(own, FPN(widths, config.channels, num_outs=image.num_levels, extra_convs=True))
    frozen = image.frozen_norms or (image.frozen_stages and not image.backbone.startswith(TIMM))
    if frozen and image.weights is None and not torch.empty(0).is_meta:  # shapes alone need none
        raise ValueError(
            "image.frozen_stages, image.frozen_norms: freezing needs image.weights, a file of "
            "pre-trained weights; or set image.frozen_stages=0 and image.frozen_norms=false"
        )
    backbone = image_network(
        image.backbone,
        depths=image.depths,
        widths=(image.width,),
        first_level=image.first_level,
        bottleneck=image.bottleneck,
        frozen_stages=image.frozen_stages,
        weights=image.weights,
        image_size=config.image_size,
    )
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    neck = FPN(backbone.channels, config.channels, num_outs=image.num_levels, extra_convs=True)
    return ImageNetwork(backbone, neck, frozen=norms if image.frozen_norms else ())


def _lifter(config: UniSceneConfig, grid: VoxelGrid) -> BEVFormerLifter | SplatLifter:
    """The lifter of the released code, or the one that the paper describes beside it."""
    if config.lifter == "lss":
        return SplatLifter(grid, config.channels, **config.splat.model_dump())
    sizes = config.attention.model_dump(exclude={"history", "history_drop"})
    return BEVFormerLifter(grid, config.channels, num_levels=config.image.num_levels, **sizes)
