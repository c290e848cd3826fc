"""PonderV2 outdoors: say what hides behind the token, and render the street from the answer.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm".
"""

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
from renderpretrain.masking import RandomMask, hidden_voxels, hide_features, occupied_blocks
from renderpretrain.recipes.columns import PointInput
from renderpretrain.recipes.places import read_voxels
from renderpretrain.recipes.ponder_config import PonderOutdoorConfig
from renderpretrain.recipes.ponder_terms import known_labels, read_vectors, semantic_terms
from renderpretrain.recipes.ray_terms import ray_terms
from renderpretrain.recipes.recipe import Hidden, MaskedVoxels
from renderpretrain.recipes.sensors import set_momentum
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, NeuSImportance, RayTargets, in_range


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
        config: See :class:`~renderpretrain.recipes.ponder_config.PonderOutdoorConfig`.
    """

    scale: Tensor

    def __init__(self, config: PonderOutdoorConfig) -> None:
        super().__init__()
        self.config = config
        unet, field, weights = config.encoder, config.field, config.losses
        self.vectors = read_vectors(config.embeddings, {"losses.semantic": weights.semantic})
        self.fine = VoxelGrid(config.point_cloud_range, unet.voxel_size)
        self.grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
        self.policy = RandomMask(config.mask.ratio)
        self.input = PointInput(config.points)
        scales = dict(zip(POINT_COLUMNS, config.input_scale, strict=False))
        scale = torch.tensor([scales.get(name, 1.0) for name in config.points])
        self.register_buffer("scale", scale, persistent=False)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(len(config.points)), std=0.02))
        self.encoder = SparseUNet(
            len(config.points), channels=unet.channels, depths=unet.depths, stem_channels=unet.stem_channels
        )
        self.to_field = VolumeConv(self.encoder.out_channels, field.channels)
        for part in (self.encoder, self.to_field):
            set_momentum(part, unet.batch_norm_momentum)
        extent = max(b - a for a, b in zip(self.grid.lower, self.grid.upper, strict=True))
        sdf = SDFField(
            self.grid,
            field.channels,
            hidden_channels=field.hidden_channels,
            sdf_blocks=field.sdf_blocks,
            rgb_blocks=field.rgb_blocks,
            extent=extent,
            sharpness=field.sharpness,
            color=weights.rgb > 0,
            semantic_channels=self.vectors.channels if self.vectors else 0,
        )
        sampler = NeuSImportance(
            sdf,
            num_samples=field.num_samples,
            num_importance=field.num_importance,
            near=field.near,
            sharpness=field.upsample_sharpness,
        )
        self.renderer = VolumeRenderer(sdf, sampler)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        targets = self.targets(batch)
        volume = self.encode(batch, self.hide(batch))
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        weights = self.config.losses
        vocabulary = self.vectors.vocabulary(batch) if self.vectors else None
        semantic = semantic_terms(rendered, targets, weights, vocabulary)
        return ray_terms(rendered, targets, weights) | semantic

    def hide(self, batch: Batch) -> Hidden:
        """The voxels that lie in hidden blocks, drawn from the batch's seeds."""
        voxels, block = self._voxels(batch), self.config.mask.block
        z, y, x = (-(-n // b) for n, b in zip(self.fine.shape, block, strict=True))
        occupied = occupied_blocks(voxels.coords, block, (batch.size, z, y, x))
        mask = hidden_voxels(voxels.coords, block, self.policy(occupied, ops.fork(batch.seeds, 1)))
        return Hidden(voxels=MaskedVoxels(voxels, mask))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        masked = None if hidden is None else hidden.voxels
        voxels = self._voxels(batch) if masked is None else masked.voxels
        if masked is not None:
            features = hide_features(voxels.features, masked.hidden, self.token)
            voxels = replace(voxels, features=features)
        features = self.encoder(voxels.to_sparse()).features
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
        rays, seeds = self.config.rays, ops.fork(batch.seeds, 4)
        if self.vectors:
            known_labels(batch, "points", "losses.semantic=0")
        points = batch.points
        far_enough = in_range(points, rays.near_radius, float("inf"))
        batch = replace(batch, points=points.only(far_enough & self.grid.contains(points.xyz)))
        if batch.views is None:
            if self.config.losses.rgb:
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
        return {"lidar_encoder": self.encoder}

    def point_features(self, batch: Batch, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """What :meth:`encoders` say of places, nothing hidden: the feature of the voxel there, or 0."""
        voxels = self._voxels(batch)
        return read_voxels(self.encoder(voxels.to_sparse()).features, voxels, positions)
