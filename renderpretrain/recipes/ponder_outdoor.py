"""PonderV2 outdoors: say what hides behind the token, and render the street from the answer.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm".
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import SparseUNet, VolumeConv, Voxels
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.geometry.sensors import POINT_COLUMNS
from renderpretrain.lifters import lift_voxels
from renderpretrain.masking import MaskPolicy, RandomMask, hide_features
from renderpretrain.recipes.branches import hide_blocks
from renderpretrain.recipes.columns import INTENSITY, PointInput
from renderpretrain.recipes.places import encode_voxels, read_voxels
from renderpretrain.recipes.ponder_classes import ClassVectors
from renderpretrain.recipes.ponder_config import LossConfig, OutdoorRayConfig, PonderOutdoorConfig
from renderpretrain.recipes.ponder_terms import (
    check_parts,
    importance_of,
    known_labels,
    read_vectors,
    semantic_terms,
)
from renderpretrain.recipes.ray_terms import ray_terms
from renderpretrain.recipes.recipe import Hidden
from renderpretrain.recipes.sensors import set_momentum
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, RayTargets, in_range


class PonderOutdoor(nn.Module):
    """LiDAR to voxels, features of most blocks replaced by a token, sparse U-Net, volume, rendered rays.

    Hidden voxels stay where they are; only their position and intensity are gone. Every voxel's feature is
    averaged into a coarse volume, one 3D convolution later rays from the cameras to LiDAR returns are
    rendered by NeuS, and depth (and colour, and an embedding of the class) is compared with what the sensors
    saw. Cameras only say where rays start; without them the rays are the LiDAR's own.

    Differs from the released code, on purpose:

    * Space keeps its shape. Released: the field lives in a cube into which 108 x 108 x 8 m are squeezed axis
      by axis, so directions, depths, distances and gradients are those of a flattened world. Weights are
      converted (``ponder_config``): depth 10 per unit is 10 / 108 per metre.
    * A voxel's value lives at its centre, for lifter and reader alike. Released: the lifter works at lower
      corners, the reader interpolates corner-aligned: up to 0.3 m apart in the plane and 0.8 m in height.
    * Intervals tile the ray around the positions where the field is asked. Released: the field is asked at
      interval starts.
    * The mask is a value handed down, used in training only. Released: applied at test time too.
    * Points outside the box are left out. Released: at test time they index outside the volume.
    * A return without a class has no semantic target. Released: it silently gets that of the last class.
    * The nearest return of a pixel is found by its depth. Released: by a sort key that mixes pixel and
      depth, valid below 100 m.
    * Rays are drawn per sample from the batch's seeds, on the device. Released: in the data loader.
    * Hidden are ``round(0.8 n)`` of a sample's occupied blocks by floor division from the box's corner.
      Released: by truncated division from the cloud's own corner.
    * A voxel holds the mean of its points. Released: one of them at random.
    * Losses are averaged over the rays of each sample, then over the batch, and other samples' classes are
      no negatives. Released: over all rays of the batch together.
    * Embeddings come from a file, by the names of the classes. Released: a CLIP text encoder is downloaded
      when the model is built.
    * The field runs in float32; mixed precision is bfloat16. Released: float16 with a loss scale.
    * No augmentation of points (released: rotation, scaling, shifts and flips).

    Args:
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder`, or a
            :class:`~renderpretrain.encoders.PointEncoder`, whose volume is read at the voxels' centres; ours
            or yours.
        voxels: The voxels' grid.
        renderer: Whose field's grid the features are averaged in.
        mask: Which blocks are hidden, ``(candidates, seeds) -> mask``.
        block: Voxels ``(z, y, x)`` per block.
        columns: Columns of the points that the encoder reads, as means over voxels.
        scales: What columns are divided by, by name; 1 where nothing is said.
        losses: Weights of the terms.
        rays: Which returns are rendered.
        classes: Vectors of class names, for the semantic term.
        to_field: From the averaged features to the rendered volume; a 3D convolution by default.
        token: What stands for a hidden voxel's columns; learned, and random at first.
    """

    scale: Tensor
    config: PonderOutdoorConfig | None = None
    """What it was built from, if from a configuration."""

    def __init__(  # noqa: PLR0913  the parts of the method
        self,
        encoder: nn.Module,
        voxels: VoxelGrid,
        renderer: VolumeRenderer[SDFField],
        *,
        mask: MaskPolicy,
        block: tuple[int, int, int] = (8, 8, 8),
        columns: tuple[str, ...] = INTENSITY,
        scales: Mapping[str, float] | None = None,
        losses: LossConfig | None = None,
        rays: OutdoorRayConfig | None = None,
        classes: ClassVectors | None = None,
        to_field: nn.Module | None = None,
        token: Float[Tensor, " C"] | None = None,
    ) -> None:
        super().__init__()
        field, width = check_parts(encoder, renderer)
        self.weights = LossConfig() if losses is None else losses
        self.rays = OutdoorRayConfig() if rays is None else rays
        self.vectors = classes
        self.fine, self.grid = voxels, field.grid
        self.policy, self.block = mask, block
        self.input = PointInput(columns)
        divided = [float((scales or {}).get(name, 1.0)) for name in columns]
        self.register_buffer("scale", torch.tensor(divided), persistent=False)
        self.token = nn.Parameter(new_token(len(columns)) if token is None else token)
        self.encoder = encoder
        self.to_field = VolumeConv(width, field.channels) if to_field is None else to_field
        self.renderer = renderer

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        targets = self.targets(batch)
        volume = self.encode(batch, self.hide(batch))
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        weights = self.weights
        vocabulary = self.vectors.vocabulary(batch) if self.vectors else None
        semantic = semantic_terms(rendered, targets, weights, vocabulary)
        return ray_terms(rendered, targets, weights) | semantic

    def hide(self, batch: Batch) -> Hidden:
        """The voxels that lie in hidden blocks, drawn from the batch's seeds."""
        seeds = ops.fork(batch.seeds, 1)
        return Hidden(voxels=hide_blocks(self._voxels(batch), self.block, self.policy, seeds))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        masked = None if hidden is None else hidden.voxels
        voxels = self._voxels(batch) if masked is None else masked.voxels
        if masked is not None:
            features = hide_features(voxels.features, masked.hidden, self.token)
            voxels = replace(voxels, features=features)
        features = encode_voxels(self.encoder, voxels)
        return self.to_field(lift_voxels(features, voxels.coords, self.fine, self.grid, batch.size))

    def _voxels(self, batch: Batch) -> Voxels:
        """The voxels of all sweeps; each holds the mean of its points, scaled."""
        batch.require_points("a recipe with LiDAR", "use unipad-camera")
        voxels = self.input(batch, batch.points.valid, self.fine)
        return replace(voxels, features=voxels.features / self.scale)

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer(volume, rays, seeds)

    def classes(self, batch: Batch, rendered: Rendered) -> Int[Tensor, "B R"] | None:
        """The class every ray shows, by its scene's own numbers; ``None`` without embeddings."""
        if self.vectors is None:
            return None
        return self.vectors.vocabulary(batch).nearest(rendered.channels["semantic"])

    def targets(self, batch: Batch, num_rays: int | None = None) -> RayTargets:
        """Rays to LiDAR returns of the key sweep, and what the sensors measured, from the batch's seeds.

        Args:
            batch: The samples.
            num_rays: Rays per camera, or per sweep where there are no cameras; the configuration's number by
                default.
        """
        rays, seeds = self.rays, ops.fork(batch.seeds, 4)
        if self.vectors:
            known_labels(batch, "points", "losses.semantic=0")
        points = batch.points
        far_enough = in_range(points, rays.near_radius, float("inf"))
        batch = replace(batch, points=points.only(far_enough & self.grid.contains(points.xyz)))
        if batch.views is None:
            if self.weights.rgb:
                raise ValueError(
                    f"scene {batch.names[0]!r} has no images: the colour term needs them; set losses.rgb=0"
                )
            return LidarBeams(num_rays or rays.per_sweep)(batch, seeds)
        targets = LidarGuidedRays(num_rays or rays.per_camera, nearest=True)(batch, seeds)
        # PonderV2 has no rays besides those to returns.
        return replace(targets, rgb_valid=targets.rgb_valid & targets.hit)

    def surface_field(self) -> SDFField:
        """The field that is rendered."""
        return self.renderer.field

    def encoders(self) -> dict[str, nn.Module]:
        """The part that is taken home to be fine-tuned."""
        return {"point_encoder": self.encoder}

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the feature of the voxel there, or 0."""
        voxels = self._voxels(batch)
        return read_voxels(encode_voxels(self.encoder, voxels), voxels, positions)


def new_token(channels: int) -> Float[Tensor, " C"]:
    """A small random vector."""
    return nn.init.trunc_normal_(torch.empty(channels), std=0.02)


def build(config: PonderOutdoorConfig) -> PonderOutdoor:
    """The published networks, as a configuration sizes them."""
    unet, field, weights = config.encoder, config.field, config.losses
    classes = read_vectors(config.embeddings, {"losses.semantic": weights.semantic})
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    token = new_token(len(config.points))
    encoder = SparseUNet(
        len(config.points), channels=unet.channels, depths=unet.depths, stem_channels=unet.stem_channels
    )
    to_field = VolumeConv(encoder.out_channels, field.channels)
    for part in (encoder, to_field):
        set_momentum(part, unet.batch_norm_momentum)
    sdf = SDFField(
        grid,
        field.channels,
        hidden_channels=field.hidden_channels,
        sdf_blocks=field.sdf_blocks,
        rgb_blocks=field.rgb_blocks,
        extent=max(b - a for a, b in zip(grid.lower, grid.upper, strict=True)),
        sharpness=field.sharpness,
        color=weights.rgb > 0,
        semantic_channels=classes.channels if classes else 0,
    )
    recipe = PonderOutdoor(
        encoder,
        VoxelGrid(config.point_cloud_range, unet.voxel_size),
        VolumeRenderer(sdf, importance_of(sdf, field)),
        mask=RandomMask(config.mask.ratio),
        block=config.mask.block,
        columns=config.points,
        scales=dict(zip(POINT_COLUMNS, config.input_scale, strict=False)),
        losses=weights,
        rays=config.rays,
        classes=classes,
        to_field=to_field,
        token=token,
    )
    recipe.config = config
    return recipe
