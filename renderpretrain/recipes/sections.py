"""Sections of settings that several methods have, and what builds a part from each.

Their defaults are nobody's in particular; a method's published numbers stand in its presets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.data import Batch
from renderpretrain.fields import DensityField, SDFField, VolSDFOpacity
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid
from renderpretrain.losses import GradNorm, UncertaintyWeights
from renderpretrain.recipes.settings import (
    UNSCHEDULED,
    Block,
    Blocks,
    Count,
    Distance,
    Initial,
    Settings,
    Unused,
    Width,
    unused,
)
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import (
    Disparity,
    Even,
    LidarBeams,
    LidarGuidedRays,
    NearSurface,
    NeuSImportance,
    Occupied,
    Preference,
    RaySampler,
    RayTargets,
    Stratified,
    in_range,
)

CLOSEST = 1e-3
"""Metres that smaller depths count as where errors are taken relative to them."""


class RayConfig(Settings):
    """Which of a scene's rays are rendered."""

    per_view: Count = Field(512, gt=0, description="Rays per camera.")
    per_sweep: Count = Field(3072, gt=0, description="Rays where there are no cameras.")
    near_radius: Distance = Field(3.0, ge=0, description="Nearer returns in the plane do not count.")
    far_radius: Distance = Field(50.0, ge=0, description="Nor do those that are farther.")
    stride: Count = Field(4, gt=0, description="Pixels between the filler's grid points.")
    sky: float = Field(0.4, ge=0, lt=1, description="Share of the image height without filler.")


def sensor_rays(
    batch: Batch,
    grid: VoxelGrid,
    choice: RayConfig,
    num_rays: int | None = None,
    *,
    preference: Preference | None = None,
) -> RayTargets:
    """Camera rays through the key sweep's returns, or the LiDAR's own rays where there are no cameras.

    Drawn from the batch's seeds. Depth counts only for returns inside the grid, which samples can reach.

    Args:
        batch: The samples.
        grid: Where there is something to render.
        choice: Which rays, and how many.
        num_rays: Rays per camera, or per sweep where there are no cameras; the choice's number by default.
        preference: Which returns are likelier; all alike by default.
    """
    points, seeds = batch.points, ops.fold_in(batch.seeds, 4)
    batch = replace(batch, points=points.only(in_range(points, choice.near_radius, choice.far_radius)))
    if batch.views is None:
        targets = LidarBeams(num_rays or choice.per_sweep, preference)(batch, seeds)
    else:
        guided = LidarGuidedRays(num_rays or choice.per_view, stride=choice.stride, sky=choice.sky)
        targets = replace(guided, preference=preference)(batch, seeds)
    return replace(targets, hit=targets.hit & grid.contains(targets.ends))


class MaskConfig(Settings):
    """What is hidden of the voxels that hold points."""

    ratio: float = Field(0.5, ge=0, le=1, description="Share of the occupied blocks, or voxels.")
    block: Block | None = None
    """Voxels (z, y, x) that are hidden together; null: each for itself."""


class ImageMaskConfig(Settings):
    """What is hidden of every image."""

    ratio: float = Field(0.3, ge=0, le=1, description="Share of the patches.")
    patch_size: Count = Field(32, gt=0, description="Pixels.")


class FieldConfig(Settings):
    """What is rendered: networks that say of a place in the volume how far the surface is, and its color."""

    kind: Literal["sdf", "density"] = "sdf"
    """Signed distances, or a density as NeRF has it, which knows no surface."""
    channels: Width = Field(32, gt=0, description="Width of the rendered volume.")
    hidden_channels: Width = Field(16, gt=0, description="Width of the networks.")
    sdf_blocks: Blocks = Field(5, ge=0, description="Hidden layers of the distance or density network.")
    rgb_blocks: Blocks = Field(3, ge=0, description="Hidden layers of the color and the embedding network.")
    opacity: Literal["neus", "volsdf"] = Field("neus", description="The law from distances to opacity.")
    sharpness: Initial = Field(20.0855, gt=0, description="Initial inv_s in 1/extent; VolSDF: 1 / width.")


def build_field(  # noqa: PLR0913  what a method adds to the section
    config: FieldConfig,
    grid: VoxelGrid,
    *,
    extent: float,
    color: bool,
    semantic_channels: int = 0,
    geometry_channels: int | None = None,
    split: bool = False,
    positions: bool = True,
) -> SDFField | DensityField:
    """The field that a section describes.

    Args:
        config: The section.
        grid: Where the volume is.
        extent: Unit of length of the networks, metres.
        color: Whether there is a color network.
        semantic_channels: Width of the embedding; 0 for none.
        geometry_channels: Width of what the distance tells the other networks; theirs by default.
        split: Whether distance and color read different halves of the volume.
        positions: Whether the networks see positions.

    Raises:
        ValueError: If a density is asked to be split.
    """
    networks: dict[str, Any] = {
        "hidden_channels": config.hidden_channels,
        "rgb_blocks": config.rgb_blocks,
        "extent": extent,
        "color": color,
        "semantic_channels": semantic_channels,
    }
    if config.kind == "density":
        if split or not positions:
            raise ValueError(
                "field.kind: expected sdf, whose distance and color networks can be told apart; got density"
            )
        return DensityField(grid, config.channels, density_blocks=config.sdf_blocks, **networks)
    return SDFField(
        grid,
        config.channels,
        geometry_channels=geometry_channels,
        sdf_blocks=config.sdf_blocks,
        sharpness=config.sharpness,
        opacity=VolSDFOpacity(extent, 1 / config.sharpness) if config.opacity == "volsdf" else None,
        split=split,
        positions=positions,
        **networks,
    )


SamplerKind = Literal["neus_importance", "even", "stratified", "disparity", "near_surface", "occupied"]
KINDS: tuple[str, ...] = get_args(SamplerKind)


class SamplerConfig(Settings):
    """Where along rays the field is asked."""

    kind: SamplerKind = "neus_importance"
    """near_surface and occupied look at a training step's returns, and are even where there is no step."""
    num_samples: Count = Field(96, gt=0, description="Samples of a ray; at most so many where occupied.")
    num_importance: Count = Field(24, ge=0, description="Samples that neus_importance adds at the surface.")
    near: Distance = Field(1.0, ge=0, description="Metres in front of the sensor that hold nothing.")
    sharpness: float = Field(64.0, gt=0, description="inv_s of neus_importance in 1/extent.")
    width: Distance = Field(1.0, gt=0, description="Metres on either side of a return that are near_surface.")
    share: float = Field(0.5, ge=0, le=1, description="Share of the samples that lie there.")
    step: Distance = Field(0.4, gt=0, description="Metres between samples where occupied.")


@runtime_checkable
class StepSampler(Protocol):
    """A sampler that looks at what a training step measured; called as it is, it does without."""

    def of_step(self, batch: Batch, targets: RayTargets) -> RaySampler:
        """The sampler of one step, for the rays of its targets."""

    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of rays of which nothing is known."""


@dataclass(frozen=True)
class NearReturns:
    """:class:`~renderpretrain.samplers.NearSurface` around the returns of a step, even samples elsewhere.

    Attributes:
        even: Where nothing was measured.
        width: Metres on either side of a return.
        share: Of the samples that lie there.
    """

    even: Even
    width: float
    share: float

    def of_step(self, batch: Batch, targets: RayTargets) -> RaySampler:
        """The sampler that knows the step's returns."""
        del batch  # the returns say it all
        even = self.even
        return NearSurface(
            *(even.grid, targets.depth, targets.hit, self.width),
            num_samples=even.num_samples,
            share=self.share,
            near=even.near,
        )

    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Even samples."""
        return self.even(volume, rays, seeds)


@dataclass(frozen=True)
class AroundPoints:
    """:class:`~renderpretrain.samplers.Occupied` where a step has points, even samples elsewhere.

    A voxel is occupied if it or a neighbor of it holds a point of any sweep.

    Attributes:
        even: Where there are no points to go by; its number of samples is the most that a ray gets.
        step: Metres between samples.
    """

    even: Even
    step: float

    def of_step(self, batch: Batch, targets: RayTargets) -> RaySampler:
        """The sampler that knows the step's points."""
        del targets  # rays of any kind
        grid = self.even.grid
        held = grid.occupied(batch.points.xyz, batch.points.valid)
        around = nn.functional.max_pool3d(held[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
        return Occupied(grid, around, self.step, capacity=self.even.num_samples, near=self.even.near)

    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Even samples."""
        return self.even(volume, rays, seeds)


def build_sampler(config: SamplerConfig, field: nn.Module, grid: VoxelGrid) -> RaySampler:
    """The sampler that a section describes.

    Args:
        config: The section.
        field: What is rendered; ``neus_importance`` asks it for distances.
        grid: What bounds the rays.

    Raises:
        ValueError: If the field has no distances and they are asked for.
    """
    size, near = config.num_samples, config.near
    if config.kind == "neus_importance":
        if not isinstance(field, SDFField):
            raise ValueError(
                f"sampler.kind: expected one of {', '.join(KINDS[1:])} for {type(field).__name__}, which has "
                "no distances; got neus_importance"
            )
        return NeuSImportance(field, size, config.num_importance, near=near, sharpness=config.sharpness)
    even = Even(grid, size, near=near)
    samplers: Mapping[str, RaySampler] = {
        "even": even,
        "stratified": Stratified(grid, size, near=near),
        "near_surface": NearReturns(even, config.width, config.share),
        "occupied": AroundPoints(even, config.step),
    }
    return Disparity(grid, size, near=near) if config.kind == "disparity" else samplers[config.kind]


def render_targets(
    renderer: VolumeRenderer,
    volume: Float[Tensor, "B C Z Y X"],
    batch: Batch,
    targets: RayTargets,
    seeds: Int[Tensor, " B"],
) -> Rendered:
    """The rays of a training step; a sampler that looks at what the step measured is told."""
    sampler = renderer.sampler
    step = sampler.of_step(batch, targets) if isinstance(sampler, StepSampler) else None
    return renderer(volume, targets.rays, seeds, sampler=step)


class RayLossConfig(Settings):
    """Weights, depth and distance terms per metre; a term of weight 0 is left out."""

    depth: float = Field(1.0, ge=0)
    rgb: float = Field(0.0, ge=0, description="Needs cameras.")
    free_space: float = Field(0.0, ge=0)
    sdf: float = Field(0.0, ge=0, description="Near-surface term.")
    eikonal: float = Field(0.0, ge=0)
    truncation: float = Field(1.0, gt=0, description="Metres around a measured surface.")
    inliers: float | None = Field(None, gt=0)
    """Rays with errors beyond about so many medians of their sample's count less, depth and color each for
    itself; null: all alike. Rays that are merely hard lose too. Published: null."""


def check_distances(weights: RayLossConfig, field: nn.Module) -> None:
    """Raise ``ValueError`` if a term that is on needs distances and the field has none."""
    on = [name for name in ("free_space", "sdf", "eikonal") if getattr(weights, name)]
    if on and not isinstance(field, SDFField):
        off = " ".join(f"losses.{name}=0" for name in on)
        raise ValueError(
            f"field: expected signed distances for losses.{', losses.'.join(on)}, got "
            f"{type(field).__name__}; set {off}"
        )


def ray_terms(
    rendered: Rendered, targets: RayTargets, weights: RayLossConfig
) -> dict[str, Float[Tensor, ""]]:
    """The weighted terms of geometry and colour; a term of weight 0 is left out."""
    inliers = depth_inliers(rendered, targets, weights.inliers)
    error = losses.depth_l1(rendered.depth, targets.depth, targets.hit, inliers=inliers)
    terms = {"depth": weights.depth * error}
    if rendered.rgb is not None:
        seen = rgb_inliers(rendered, targets, weights.inliers)
        error = losses.rgb_l1(rendered.rgb, targets.rgb, targets.rgb_valid, inliers=seen)
        terms["rgb"] = weights.rgb * error
    if rendered.along is None:
        return terms
    field, samples = rendered.along.field, rendered.along.samples
    measured = (samples.t_mids, targets.depth, targets.hit)
    if weights.free_space and field.sdf is not None:
        free = losses.free_space(field.sdf, *measured, truncation=weights.truncation, inliers=inliers)
        terms["free_space"] = weights.free_space * free
    if weights.sdf and field.sdf is not None:
        near = losses.near_surface_sdf(field.sdf, *measured, truncation=weights.truncation, inliers=inliers)
        terms["sdf"] = weights.sdf * near
    if weights.eikonal and field.gradients is not None:
        terms["eikonal"] = weights.eikonal * losses.eikonal(field.gradients, samples.valid)
    return terms


def depth_inliers(
    rendered: Rendered, targets: RayTargets, scale: int | float | None
) -> Float[Tensor, "B R"] | None:
    """How far each ray's depth counts, by its relative error; ``None`` without a scale: all alike."""
    if scale is None:
        return None
    error = (rendered.depth - targets.depth) / targets.depth.clamp(min=CLOSEST)
    return losses.inlier_weights(error, targets.hit, scale=scale)


def rgb_inliers(
    rendered: Rendered, targets: RayTargets, scale: int | float | None
) -> Float[Tensor, "B R"] | None:
    """How far each ray's colour counts, by its error; ``None`` without a scale: all alike."""
    if scale is None or rendered.rgb is None:
        return None
    return losses.inlier_weights((rendered.rgb - targets.rgb).abs().mean(-1), targets.rgb_valid, scale=scale)


Balance = UncertaintyWeights | GradNorm
"""What learns how much each term counts."""

BalanceName = Literal["fixed", "uncertainty", "gradnorm"]
"""Who weighs the terms: the weights of the section alone, or something that is learned on top of them."""


def build_balance(kind: BalanceName, terms: Sequence[str]) -> Balance | None:
    """What a setting names, for terms that a recipe has in every step; ``None`` where weights are fixed."""
    if kind == "uncertainty":
        return UncertaintyWeights(terms)
    return GradNorm(terms) if kind == "gradnorm" else None


def balanced(
    balance: Balance | None, terms: Mapping[str, Float[Tensor, ""]], shared: Sequence[nn.Parameter]
) -> dict[str, Float[Tensor, ""]]:
    """The terms as they are summed.

    Args:
        balance: What weighs its own terms among them.
        terms: The terms of a step.
        shared: What :class:`~renderpretrain.losses.GradNorm` compares the terms' gradients on.
    """
    if balance is None:
        return dict(terms)
    own = {name: terms[name] for name in balance.names}
    if isinstance(balance, UncertaintyWeights):
        return dict(terms) | balance(own)
    if not torch.is_grad_enabled():  # nothing to compare
        weights = balance.weights()
        return dict(terms) | {name: weights[i] * own[name] for i, name in enumerate(balance.names)}
    return dict(terms) | balance(own, shared)


RAY_RULES: tuple[Unused, ...] = (unused("losses.truncation", when={"losses.sdf": 0, "losses.free_space": 0}),)
"""What turns settings of :class:`RayLossConfig` off."""

FIELD_RULES: tuple[Unused, ...] = (unused("opacity sharpness", "field.", when={"field.kind": "density"}),)
"""What turns settings of :class:`FieldConfig` off."""

SAMPLER_RULES: tuple[Unused, ...] = (
    unused("sampler.sharpness", when={"sampler.num_importance": 0}),
    *(
        unused(names, "sampler.", when={"sampler.kind": other})
        for names, own in (
            ("num_importance sharpness", "neus_importance"),
            ("width share", "near_surface"),
            ("step", "occupied"),
        )
        for other in KINDS
        if other != own
    ),
)
"""What turns settings of :class:`SamplerConfig` off."""

RULES = (*UNSCHEDULED, *SAMPLER_RULES, *FIELD_RULES, *RAY_RULES)
"""Of a method with a field, a sampler, ray losses and a schedule."""
