"""UniScene: from camera images, say which voxels the LiDAR found occupied.

https://arxiv.org/abs/2305.18829, "Multi-Camera Unified Pre-training via 3D Scene Reconstruction", RA-L 2024.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.checks import check_shape
from renderpretrain.data import Batch, Recording, SceneDataset, SceneWindows
from renderpretrain.fields import OccupancyField
from renderpretrain.geometry import Rays, VoxelGrid, invert_pose
from renderpretrain.lifters import BEVFormerLifter, PreviousBEV
from renderpretrain.masking import FrameMask, GridMask, MaskPolicy, Sometimes
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.uniscene_config import LossConfig, RenderConfig, UniSceneConfig
from renderpretrain.recipes.uniscene_networks import (
    ImageNetwork,
    OccupancyDecoder,
    attention_lifter,
    image_network,
    splat_lifter,
)
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import Even, LidarGuidedRays, RayTargets, in_range

INSTEAD = "unipad-lidar"
"""What does without cameras."""


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
      bus; no dropout in attention; no photometric augmentation.
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
        losses: LossConfig | None = None,
        rays: RenderConfig | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(renderer.field, OccupancyField):
            got = type(renderer.field).__name__
            raise ValueError(f"renderer.field: expected an OccupancyField, got {got}")
        self.grid = renderer.field.grid
        self.weights = LossConfig() if losses is None else losses
        self.rays = RenderConfig() if rays is None else rays
        self.history = history
        self.mask_images = mask_images
        self.mask_frames = FrameMask(0.0, keep=0) if mask_frames is None else mask_frames
        self.images = images
        self.lifter = lifter
        self.decoder = decoder
        self.renderer = renderer

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        occupied, observed = self._labels(batch)
        logits = self.encode(batch, self.hide(batch))[:, 0].float()
        weights = self.weights
        focal = losses.occupancy_focal(logits, occupied, observed, gamma=weights.gamma, alpha=weights.alpha)
        terms = {"occupancy": weights.occupancy * focal}
        if weights.depth:
            targets = self.targets(batch)
            depth = self.render(logits[:, None], targets.rays, ops.fork(batch.seeds, 3)).depth
            terms["depth"] = weights.depth * losses.depth_l1(depth, targets.depth, targets.hit)
        return terms

    def hide(self, batch: Batch) -> Hidden:
        """Draw what this step hides, from the batch's seeds."""
        images = batch.require_views(INSTEAD).images
        pixels = torch.ones((batch.size, *images.shape[-2:]), dtype=torch.bool, device=batch.device)
        patches = self.mask_images(pixels, ops.fork(batch.seeds, 1))
        frames = torch.ones(batch.size, len(batch.previous), dtype=torch.bool, device=batch.device)
        return Hidden(
            patches[:, None].expand(-1, images.shape[1], -1, -1),
            frames=self.mask_frames(frames, ops.fork(batch.seeds, 2)),
        )

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B 1 Z Y X"]:
        """Logits of every voxel being occupied; with nothing hidden by default."""
        hidden = hidden or Hidden()
        return self.decoder(self._lift(batch, hidden.patches, self._remember(batch, hidden)))

    def _lift(self, batch: Batch, patches: Tensor | None, previous: PreviousBEV | None) -> Tensor:
        """One moment's volume."""
        views = batch.require_views(INSTEAD)
        found = views.images.shape[1]
        if isinstance(self.lifter, BEVFormerLifter) and found != self.lifter.num_cameras:
            expected = self.lifter.num_cameras
            raise ValueError(
                f"attention.num_cameras: expected {expected} cameras, scene {batch.names[0]!r} has {found} "
                f"cameras; set attention.num_cameras={found}"
            )
        memory = () if previous is None else (previous,)
        return self.lifter(self.images(views.images, patches), views.cameras, views.valid, *memory)

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
        memory: Memory | None = None
        for age, moment in enumerate(batch.previous):
            volume = self._lift(moment, None, _seen_from(moment, memory))
            kept = torch.ones_like(batch.seeds, dtype=torch.bool)
            if hidden.frames is not None:
                kept = ~hidden.frames[:, age]
            memory = _updated(memory, (volume, _pose(moment), kept))
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
        return self.renderer(volume, rays, seeds)

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays and what the sensors measured along them, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera; the configuration's number by default.
        """
        render, points = self.rays, batch.points
        batch.require_views(INSTEAD)
        batch = replace(batch, points=points.only(in_range(points, render.near_radius, render.far_radius)))
        guided = LidarGuidedRays(num_rays or render.rays_per_camera, stride=render.stride, sky=render.sky)
        targets = guided(batch, ops.fork(batch.seeds, 4))
        return replace(targets, hit=targets.hit & self.grid.contains(targets.ends))

    def surface_field(self) -> OccupancyField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The parts that are taken home to be fine-tuned."""
        return {
            "image_backbone": self.images.backbone,
            "image_neck": self.images.neck,
            "lifter": self.lifter,
        }

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the lifter's volume, trilinearly."""
        volume = self._lift(batch, None, self._remember(batch, Hidden()))
        return ops.grid_sample(volume, positions, self.grid.scale, self.grid.offset)

    def bev_features(self, batch: Batch) -> Float[Tensor, "B C Y X"]:
        """What :meth:`encoders` say of the grid's columns, nothing hidden: the lifter's slices."""
        return self._lift(batch, None, self._remember(batch, Hidden())).flatten(1, 2)

    def image_features(self, batch: Batch) -> Float[Tensor, "B N C h w"]:
        """What :meth:`encoders` say of the images, nothing hidden: the image neck's finest map."""
        return self.images(batch.require_views(INSTEAD).images)[0]


def build(config: UniSceneConfig) -> UniScene:
    """The published networks, as a configuration sizes them."""
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    mask, render, decoder = config.grid_mask, config.render, config.decoder
    sides = (mask.smallest, max(mask.smallest, config.image_size[0] - 1))
    images = image_network(config)
    lifter = attention_lifter(config, grid) if config.lifter == "bevformer" else splat_lifter(config, grid)
    logits = OccupancyDecoder(config.channels // grid.shape[0], decoder.channels, decoder.hidden_channels)
    field = OccupancyField(grid, length=render.length)
    recipe = UniScene(
        images,
        lifter,
        logits,
        VolumeRenderer(field, Even(grid, render.num_samples, near=render.near)),
        mask_images=Sometimes(GridMask(sides, mask.ratio), mask.probability),
        mask_frames=FrameMask(config.attention.history_drop, keep=0),
        history=config.history,
        losses=config.losses,
        rays=render,
    )
    recipe.config = config
    return recipe


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


Memory = tuple[Float[Tensor, "B C Z Y X"], Float[Tensor, "B 4 4"], Bool[Tensor, " B"]]
"""A volume, the pose it was seen from, and which samples have one."""


def _pose(batch: Batch) -> Float[Tensor, "B 4 4"]:
    """Where the batch's worlds are in their recordings."""
    if batch.world_to_global is None:
        raise ValueError(
            f"scene {batch.names[0]!r} has no pose (world_to_global), needed to remember frames; "
            "set attention.history=0"
        )
    return batch.world_to_global


def _seen_from(batch: Batch, memory: Memory | None) -> PreviousBEV | None:
    """The memory with its way from the batch's moment."""
    if memory is None:
        return None
    volume, pose, valid = memory
    with torch.autocast(batch.device.type, enabled=False):
        motion = invert_pose(pose) @ _pose(batch)
    return PreviousBEV(volume, motion, valid)


def _updated(memory: Memory | None, seen: Memory) -> Memory:
    """What was just seen, but for samples that do not keep it."""
    if memory is None:
        return seen
    (old, old_pose, had), (new, new_pose, kept) = memory, seen
    choose = kept[:, None, None]
    return torch.where(choose[..., None, None], new, old), torch.where(choose, new_pose, old_pose), had | kept
