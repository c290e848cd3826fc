"""PonderV2 outdoors: say what hides behind the token, and render the street from the answer.

https://arxiv.org/abs/2310.08586, "PonderV2: Pave the Way for 3D Foundation Model with A Universal
Pre-training Paradigm".

Lengths are metres throughout. The published code squeezes the box of 108 x 108 x 8 m into a unit cube, axis
by axis, and measures depth, distance and sharpness there. Here space keeps its shape and 108 m are the unit
of what a weight belongs to: depth 10 there is ``10 / 108`` per metre, and the initial ``inv_s`` of 20.1 and
the sharpness of 64 of the importance pass are per 108 m.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.data import Batch, Needs
from renderpretrain.encoders import Level, SparseUNet, VolumeConv, Voxels, grid_levels
from renderpretrain.fields import SDFField
from renderpretrain.geometry import Rays, VoxelGrid
from renderpretrain.geometry.sensors import POINT_COLUMNS
from renderpretrain.lifters import lift_voxels
from renderpretrain.masking import MaskPolicy, RandomMask, hide_features
from renderpretrain.recipes.augment import AugmentConfig, augment_listing
from renderpretrain.recipes.branches import hide_blocks, set_momentum
from renderpretrain.recipes.columns import INTENSITY, MEANING, Features, PointInput
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
    check_parts,
    known_labels,
    read_vectors,
    semantic_terms,
    width_of,
)
from renderpretrain.recipes.recipe import Hidden, Told
from renderpretrain.recipes.sections import (
    Balance,
    MaskConfig,
    SamplerConfig,
    balanced,
    build_balance,
    build_field,
    build_sampler,
    ray_terms,
    render_targets,
)
from renderpretrain.recipes.settings import (
    NUSCENES_SAMPLES,
    Box,
    Count,
    Distance,
    ImageSize,
    OptimizationConfig,
    Settings,
    Sources,
    VoxelSize,
    listed,
    tiny_optimization,
    unused,
)
from renderpretrain.recipes.terms import Step, further_terms
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, RayTargets, in_range


class ReturnRayConfig(Settings):
    """Which LiDAR returns are rendered."""

    per_view: Count = Field(512, gt=0, description="Rays per camera.")
    per_sweep: Count = Field(3072, gt=0, description="Rays where there are no cameras.")
    near_radius: Distance = Field(
        3.0, ge=0, description="Returns nearer than that in the plane are not used."
    )


class PonderOutdoorConfig(Settings):
    """Everything ``PonderOutdoor`` is built from."""

    point_cloud_range: Box = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)
    voxel_size: VoxelSize = Field((0.6, 0.6, 1.6), description="Voxels of the rendered volume.")
    image_size: ImageSize = Field((900, 1600), description="Height and width images are resized to.")
    sweeps: Count = Field(
        1, ge=1, description="LiDAR sweeps merged into the input; targets are the key sweep."
    )
    points: Features = Field(INTENSITY, description=MEANING)
    embeddings: str | None = Field(None, description=EMBEDDINGS)
    input_scale: tuple[float, float, float, float] = Field(
        (1.0, 1.0, 1.0, 1.0),
        description="What x, y, z and intensity are divided by before the encoder; other columns are not.",
    )
    encoder: UNetConfig = UNetConfig()
    mask: MaskConfig = MaskConfig(ratio=0.8, block=(8, 8, 8))
    field: DistanceFieldConfig = DistanceFieldConfig(
        channels=32, hidden_channels=16, sdf_blocks=5, rgb_blocks=3, sharpness=20.0855
    )
    sampler: SamplerConfig = SamplerConfig(
        kind="neus_importance", num_samples=72, num_importance=24, near=0.01, sharpness=64.0
    )
    rays: ReturnRayConfig = ReturnRayConfig()
    losses: SemanticLossConfig = SemanticLossConfig(depth=10 / 108)
    augment: AugmentConfig = AugmentConfig()
    optimization: OptimizationConfig = OptimizationConfig()


class PonderOutdoor(nn.Module):
    """LiDAR to voxels, features of most blocks replaced by a token, sparse U-Net, volume, rendered rays.

    Hidden voxels stay where they are; only their position and intensity are gone. Every voxel's feature is
    averaged into a coarse volume, one 3D convolution later rays from the cameras to LiDAR returns are
    rendered by NeuS, and depth (and colour, and an embedding of the class) is compared with what the sensors
    saw. Cameras only say where rays start; without them the rays are the LiDAR's own.

    Differs from the released code, on purpose:

    * Space keeps its shape. Released: the field lives in a cube into which 108 x 108 x 8 m are squeezed axis
      by axis, so directions, depths, distances and gradients are those of a flattened world. Weights are
      converted: depth 10 per unit is 10 / 108 per metre.
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
    * Where the world is mirrored its pictures are, too. Released: the cameras mirror what they see.

    Args:
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder`, or a
            :class:`~renderpretrain.encoders.PointEncoder`, whose volume is read at the voxels' centres; ours
            or yours.
        voxels: The voxels' grid.
        renderer: Whose field's grid the features are averaged in.
        mask: Which blocks are hidden, ``(candidates, seeds) -> mask``.
        block: Voxels ``(z, y, x)`` that are hidden together; ``None`` hides them one by one.
        columns: Columns of the points that the encoder reads, as means over voxels.
        scales: What columns are divided by, by name; 1 where nothing is said.
        losses: Weights of the terms.
        balance: What learns to weigh them further; nothing by default.
        terms: What is added to the loss beside the method's own terms, unbalanced; see
            :class:`~renderpretrain.recipes.terms.Term`.
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
        renderer: VolumeRenderer,
        *,
        mask: MaskPolicy,
        block: tuple[int, int, int] | None = (8, 8, 8),
        columns: tuple[str, ...] = INTENSITY,
        scales: Mapping[str, float] | None = None,
        losses: SemanticLossConfig | None = None,
        balance: Balance | None = None,
        terms: Sequence[nn.Module] = (),
        rays: ReturnRayConfig | None = None,
        classes: ClassVectors | None = None,
        to_field: nn.Module | None = None,
        token: Float[Tensor, " C"] | None = None,
    ) -> None:
        super().__init__()
        field, width = check_parts(encoder, renderer, voxels, columns)
        self.weights = SemanticLossConfig(depth=10 / 108) if losses is None else losses
        self.rays = ReturnRayConfig() if rays is None else rays
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
        self.balance = balance
        self.terms = nn.ModuleList(terms)

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Weighted loss terms of one training step; their sum is the loss."""
        targets, hidden = self.targets(batch), self.hide(batch)
        told: Told = [] if self.terms else None
        volume = self._encode(batch, hidden, told)
        rendered = render_targets(self.renderer, volume, batch, targets, ops.fold_in(batch.seeds, 3))
        weights = self.weights
        vocabulary = self.vectors.vocabulary(batch) if self.vectors else None
        semantic = semantic_terms(rendered, targets, weights, vocabulary)
        terms = ray_terms(rendered, targets, weights) | semantic
        terms = balanced(self.balance, terms, list(self.to_field.parameters()))
        step = Step(batch, hidden, told or [], volume, self.renderer, targets, rendered)
        return terms | further_terms(self.terms, step, terms)

    def hide(self, batch: Batch) -> Hidden:
        """The voxels that lie in hidden blocks, drawn from the batch's seeds."""
        seeds = ops.fold_in(batch.seeds, 1)
        return Hidden(voxels=hide_blocks(self._voxels(batch), self.block, self.policy, seeds))

    def encode(self, batch: Batch, hidden: Hidden | None = None) -> Float[Tensor, "B C Z Y X"]:
        """The volume that is rendered; with nothing hidden by default."""
        return self._encode(batch, hidden)

    def _encode(self, batch: Batch, hidden: Hidden | None, told: Told = None) -> Tensor:
        """The volume; a list is given the levels."""
        voxels = self._left(batch, hidden)
        features = encode_voxels(self.encoder, voxels, told=told)
        return self.to_field(lift_voxels(features, voxels.coords, self.fine, self.grid, batch.size))

    def levels(self, batch: Batch, hidden: Hidden | None = None) -> list[Level]:
        """All that the encoder says; with nothing hidden by default."""
        sparse = self._left(batch, hidden).to_sparse()
        return list(grid_levels("point_encoder", self.encoder, sparse, self.fine))

    def _left(self, batch: Batch, hidden: Hidden | None) -> Voxels:
        """All voxels; hidden ones hold the token."""
        masked = None if hidden is None else hidden.voxels
        if masked is None:
            return self._voxels(batch)
        features = hide_features(masked.voxels.features, masked.hidden, self.token)
        return replace(masked.voxels, features=features)

    def _voxels(self, batch: Batch) -> Voxels:
        """The voxels of all sweeps; each holds the mean of its points, scaled."""
        batch.require_points("a recipe with LiDAR", "use unipad-camera")
        voxels = self.input(batch, batch.points.valid, self.fine)
        return replace(voxels, features=voxels.features / self.scale)

    def render(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Tensor | None = None) -> Rendered:
        """Render rays of the world; without seeds the samples are not jittered."""
        return self.renderer.picture(volume, rays, seeds)

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
        rays, seeds = self.rays, ops.fold_in(batch.seeds, 4)
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
        targets = LidarGuidedRays(num_rays or rays.per_view, nearest=True)(batch, seeds)
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
    """A small random vector that stands for hidden voxels."""
    return nn.init.trunc_normal_(torch.empty(channels), std=0.02)


def _paper() -> PonderOutdoorConfig:
    """Depth alone: 24 epochs, four samples on each of 4 GPUs, one cycle from a tenth of 2e-4."""
    return PonderOutdoorConfig(
        augment=AugmentConfig(turn=45.0, turned=0.5, scale=(0.9, 1.1), shift=0.5, mirror_x=0.5, mirror_y=0.5),
        optimization=OptimizationConfig(
            steps=24 * NUSCENES_SAMPLES // 16,
            batch_size=4,
            lr=2e-5,
            weight_decay=0.01,
            schedule="cyclic",
            cyclic_peak=10.0,
            cyclic_end=0.01,
            cyclic_up=0.4,
            clip_norm=None,
            precision="bf16",
        ),
    )


def _with_losses(config: PonderOutdoorConfig, **weights: float) -> PonderOutdoorConfig:
    """The same with other weights."""
    return config.model_copy(update={"losses": config.losses.model_copy(update=weights)})


def _tiny() -> PonderOutdoorConfig:
    """Minutes on two cores: coarser voxels, a narrower network, fewer rays, more losses.

    A hidden block is one rendered voxel, as in the paper within a quarter (there 0.8 m of 0.6 m). A few
    hundred steps have no time to find surfaces through compositing alone, so near-surface and free-space
    terms are on, and the field starts sharper. Nor have they time to notice an intensity of 0.3 beside
    positions of 10 m, or to learn colours from the fifth of the blocks that the paper leaves: inputs are
    scaled and less is hidden. Colour weighs more than a metre, as in ``paper-colour`` (a hundred times).
    """
    return PonderOutdoorConfig(
        point_cloud_range=(-51.2, -51.2, -4.0, 51.2, 51.2, 4.8),
        voxel_size=(0.8, 0.8, 0.8),
        image_size=(128, 224),
        encoder=UNetConfig(
            voxel_size=(0.4, 0.4, 0.4),
            stem_channels=16,
            channels=(16, 32, 32, 32),
            depths=(1, 1, 1, 1),
            batch_norm_momentum=0.1,
        ),
        input_scale=(10.0, 10.0, 2.0, 0.25),
        mask=MaskConfig(ratio=0.4, block=(2, 2, 2)),
        field=DistanceFieldConfig(sharpness=120.0),
        sampler=SamplerConfig(num_samples=48, num_importance=16, near=1.0),
        rays=ReturnRayConfig(per_view=128, per_sweep=768),
        losses=SemanticLossConfig(depth=1.0, rgb=50.0, sdf=1.0, free_space=1.0, truncation=1.0),
        optimization=tiny_optimization(5e-3),
    )


PRESETS = {
    "tiny": _tiny(),
    "paper": _paper(),
    "paper-colour": _with_losses(_paper(), rgb=10.0).model_copy(
        update={"augment": AugmentConfig(turn=22.5, scale=(0.95, 1.05))}
    ),
    "paper-semantic": _with_losses(_paper(), semantic=0.1),
}
"""Configurations by name; ``paper`` renders depth alone, the others add a term."""


IN_A_ROOM = {
    "point_cloud_range": (-3.2, -3.2, -0.2, 3.2, 3.2, 3.0),
    "voxel_size": (0.1, 0.1, 0.2),
    "input_scale": (2.0, 2.0, 1.0, 0.25),
    "encoder": {"voxel_size": (0.05, 0.05, 0.1)},
    "sampler": {"near": 0.1},
    "rays": {"near_radius": 0.0},
    "losses": {"truncation": 0.2},
}
"""What a room changes in the ``tiny`` preset: the range of the built-in rooms and smaller voxels."""

_STREET = "nuscenes/pretrain-*-base.py"
_COLOR_STREET = "code nuscenes/pretrain-*-base-color.py:143-162"

SOURCES = Sources(
    CODE,
    SHARED_SOURCES
    | listed(
        {
            f"code {_STREET}:72-76": "point_cloud_range voxel_size",
            "code ponder/datasets/nuscenes.py:139-175": "image_size",
            "code ponder/datasets/nuscenes.py:107-112": "sweeps points",
            f"code {_STREET}": (
                "encoder.voxel_size losses.rgb losses.free_space losses.sdf losses.eikonal losses.semantic"
            ),
            f"code {_STREET}:22": "mask.ratio mask.block",
            "code ponder/unet3d.py:16-34": "field.channels",
            f"code {_STREET}:37-50": "field.hidden_channels field.sdf_blocks",
            f"code {_STREET}:56-64": "sampler.num_samples sampler.num_importance",
            "ours (code: 0.01 of the squeezed box)": "sampler.near",
            "code ponder/datasets/transform.py:333-348": "rays.per_view",
            "ours": "rays.per_sweep input_scale losses.inliers",
            f"code {_STREET}:174-178": "rays.near_radius",
            f"code {_STREET}, 10 per 108 m": "losses.depth",
        }
    )
    | augment_listing({f"code {_STREET}:136-165": "turn turned scale shift mirror_x mirror_y"})
    | listed(
        {
            f"code {_STREET}, 24 epochs on 4 GPUs": "steps batch_size",
            f"code {_STREET}": f"optimizer lr weight_decay schedule {SHARED_CYCLE}",
            f"ours (code: fp16, {_STREET})": "precision",
        },
        "optimization.",
    ),
    (*SHARED_RULES, unused("embeddings losses.temperature", when={"losses.semantic": 0})),
    {
        "paper-colour": {
            **listed({_COLOR_STREET: "turn turned scale shift mirror_x mirror_y"}, "augment."),
            "losses.rgb": "code nuscenes/pretrain-*-base-color.py",
            "field.rgb_blocks": "code nuscenes/pretrain-*-base-color.py",
        },
        "paper-semantic": {
            "losses.semantic": "code nuscenes/pretrain-*-base-semantic.py",
            "losses.temperature": "code render_utils/models/base_surface_model.py:102-211",
            "field.rgb_blocks": "code nuscenes/pretrain-*-base-semantic.py",
            "embeddings": "ours (code: CLIP's text encoder, ponder_indoor_base.py:85-118)",
        },
    },
)
"""Where the numbers of ``paper`` come from, and of the two that differ from it."""

RENAMED = FORMER_NAMES | {"rays.per_camera": "rays.per_view"}
"""Names that settings had, and have in what was saved then: today's by the former."""


def needs(config: PonderOutdoorConfig) -> Needs:
    """What it cannot do without: the color term needs cameras."""
    return Needs(
        images=config.losses.rgb > 0,
        points=True,
        labels=config.losses.semantic > 0,
        ways={"images": "losses.rgb=0", "labels": "losses.semantic=0"},
    )


def build(config: PonderOutdoorConfig, *, encoder: nn.Module | None = None) -> PonderOutdoor:
    """The published networks, as a configuration sizes them, or an encoder of yours in its place.

    Args:
        config: The settings.
        encoder: A :class:`~renderpretrain.encoders.VoxelEncoder` or
            :class:`~renderpretrain.encoders.PointEncoder`.

    Raises:
        ValueError: If an encoder of yours does not answer to a few voxels, or to an image, as it has to.
    """
    unet, field, weights = config.encoder, config.field, config.losses
    classes = read_vectors(config.embeddings, {"losses.semantic": weights.semantic})
    grid = VoxelGrid(config.point_cloud_range, config.voxel_size)
    token = new_token(len(config.points))
    network = _unet(config) if encoder is None else encoder
    to_field = VolumeConv(width_of(network), field.channels)
    set_momentum(to_field, unet.batch_norm_momentum)
    rendered = build_field(
        field,
        grid,
        extent=max(b - a for a, b in zip(grid.lower, grid.upper, strict=True)),
        color=weights.rgb > 0,
        semantic_channels=classes.channels if classes else 0,
    )
    recipe = PonderOutdoor(
        network,
        VoxelGrid(config.point_cloud_range, unet.voxel_size),
        VolumeRenderer(rendered, build_sampler(config.sampler, rendered, grid)),
        mask=RandomMask(config.mask.ratio),
        block=config.mask.block,
        columns=config.points,
        scales=dict(zip(POINT_COLUMNS, config.input_scale, strict=False)),
        losses=weights,
        balance=build_balance(weights.balance, weights.terms()),
        rays=config.rays,
        classes=classes,
        to_field=to_field,
        token=token,
    )
    recipe.config = config
    return recipe


def _unet(config: PonderOutdoorConfig) -> SparseUNet:
    """The published encoder, with its batch norms' momentum."""
    sizes = config.encoder
    network = SparseUNet(
        len(config.points), channels=sizes.channels, depths=sizes.depths, stem_channels=sizes.stem_channels
    )
    set_momentum(network, sizes.batch_norm_momentum)
    return network
