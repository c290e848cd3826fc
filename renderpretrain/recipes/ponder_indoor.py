"""PonderV2 indoors: render a room's pictures, depth and classes from a fifth of its points.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm"; several data sets at once as in https://arxiv.org/abs/2308.09718, "Towards Large-scale
3D Representation Learning with Multi-dataset Point Prompt Training" (PPT).
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch
from renderpretrain.encoders import Domains, SparseUNet, VolumeUNet, Voxels
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.lifters import lift_voxels
from renderpretrain.masking import MaskPolicy, RandomMask
from renderpretrain.recipes.calibration import Calibration, CalibrationConfig
from renderpretrain.recipes.columns import COLOR_NORMAL, PointInput
from renderpretrain.recipes.places import encode_voxels, read_voxels
from renderpretrain.recipes.ponder_classes import ClassVectors
from renderpretrain.recipes.ponder_indoor_config import IndoorLossConfig, PonderIndoorConfig
from renderpretrain.recipes.ponder_terms import (
    alignment,
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
from renderpretrain.samplers import PixelRays, RayTargets, read_pixels

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
    * No augmentation (released: rotation, scaling, flips). Vectors of classes are random unless a file gives
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
        rays_per_view: Pixels that are rendered.
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
        renderer: VolumeRenderer[SDFField],
        *,
        mask: MaskPolicy,
        columns: tuple[str, ...] = COLOR_NORMAL,
        losses: IndoorLossConfig | None = None,
        rays_per_view: int = 256,
        classes: ClassVectors | None = None,
        to_classes: nn.Linear | None = None,
        contexts: nn.Embedding | None = None,
        calibration: CalibrationConfig | None = None,
    ) -> None:
        super().__init__()
        self.grid = check_parts(encoder, renderer)[0].grid
        self.calibration = Calibration(CalibrationConfig() if calibration is None else calibration)
        self.weights = IndoorLossConfig() if losses is None else losses
        self.rays_per_view = rays_per_view
        self.vectors = classes
        self.fine = voxels
        self.input = PointInput(columns)
        self.policy = mask
        self.contexts = contexts
        self.encoder = encoder
        self.to_classes = to_classes
        self.neck = neck
        self.renderer = renderer

    @property
    def _several(self) -> bool:
        """Whether data sets are mixed, of which some may have no classes."""
        return self.contexts is not None

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        weights, targets = self.weights, self.targets(batch)
        voxels, features = self._encode(batch, self.hide(batch))
        volume = self._lift(voxels, features, batch.size)
        rendered = self.render(volume, targets.rays, ops.fork(batch.seeds, 3))
        terms = ray_terms(rendered, targets, weights) | self.calibration.prior()
        if self.vectors is None:
            return terms
        vocabulary = self.vectors.vocabulary(batch)
        terms |= semantic_terms(rendered, targets, weights, vocabulary)
        if self.to_classes is not None:
            labels = known_labels(batch, "points", WITHOUT_CLASSES, optional=self._several)
            said = self.to_classes(features)
            aligned = alignment(said, voxels, labels, vocabulary, weights.temperature)
            terms["alignment"] = weights.alignment * aligned
        return terms

    def hide(self, batch: Batch) -> Hidden:
        """The points that are dropped, drawn from the batch's seeds."""
        return Hidden(dropped=self.policy(batch.points.valid, ops.fork(batch.seeds, 1)))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        return self._lift(*self._encode(batch, hidden), batch.size)

    def _encode(self, batch: Batch, hidden: Hidden | None) -> tuple[Voxels, Tensor]:
        """The voxels of the points that are left, and the encoder's feature of each."""
        batch.require_points("the encoder", "use unipad-camera")
        dropped = None if hidden is None else hidden.dropped
        valid = batch.points.valid if dropped is None else batch.points.valid & ~dropped
        voxels = self.input(batch, valid, self.fine)
        domains = self._domains(batch)
        if domains is None:
            return voxels, encode_voxels(self.encoder, voxels)
        return voxels, self.encoder(voxels.to_sparse(), domains).features

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
        return self.renderer(volume, rays, seeds)

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
        batch = self.calibration(batch)
        if batch.views is None or batch.views.z_depth_valid is None:
            raise ValueError(
                f"scene {batch.names[0]!r} has no depth images: ponder-indoor needs posed RGB-D views, as "
                "--data synthetic-room; for LiDAR use ponder-outdoor"
            )
        draw = PixelRays(num_rays or self.rays_per_view, candidates=batch.views.z_depth_valid)
        targets = draw(batch, ops.fork(batch.seeds, 4))
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


def build(config: PonderIndoorConfig) -> PonderIndoor:
    """The published networks, as a configuration sizes them."""
    unet, weights, field = config.encoder, config.losses, config.field
    classes = read_vectors(
        config.embeddings,
        {"losses.semantic": weights.semantic, "losses.alignment": weights.alignment},
        unnamed=config.domains > 1,
    )
    several = config.domains > 1
    contexts = nn.Embedding(config.domains, config.context_channels) if several else None
    encoder = SparseUNet(
        len(config.points),
        channels=unet.channels,
        depths=unet.depths,
        stem_channels=unet.stem_channels,
        prompt=(config.domains, config.context_channels) if several else None,
    )
    set_momentum(encoder, unet.batch_norm_momentum)
    to_classes = None
    if classes is not None and weights.alignment:
        to_classes = nn.Linear(encoder.out_channels, classes.channels)
    neck = VolumeUNet(encoder.out_channels, field.channels, channels=config.neck_channels)
    sdf = _field(config, classes.channels if classes is not None and weights.semantic else 0)
    recipe = PonderIndoor(
        encoder,
        VoxelGrid(config.point_cloud_range, unet.voxel_size),
        neck,
        VolumeRenderer(sdf, importance_of(sdf, field)),
        mask=RandomMask(config.drop_ratio),
        columns=config.points,
        losses=weights,
        rays_per_view=config.rays_per_view,
        classes=classes,
        to_classes=to_classes,
        contexts=contexts,
        calibration=config.calibration,
    )
    recipe.config = config
    return recipe


def _field(config: PonderIndoorConfig, semantic_channels: int) -> SDFField:
    """Half of the volume says where surfaces are, half what they look like; neither sees positions."""
    field, weights = config.field, config.losses
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    return SDFField(
        grid,
        field.channels,
        hidden_channels=field.hidden_channels,
        geometry_channels=field.geometry_channels,
        sdf_blocks=field.sdf_blocks,
        rgb_blocks=field.rgb_blocks,
        extent=max(b - a for a, b in zip(grid.lower, grid.upper, strict=True)),
        sharpness=field.sharpness,
        color=weights.rgb > 0,
        semantic_channels=semantic_channels,
        split=weights.rgb > 0 or semantic_channels > 0,
        positions=False,
    )
