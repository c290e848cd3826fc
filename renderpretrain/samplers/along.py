"""Samplers: where along rays a field is asked, ``(volume, rays, seeds) -> RaySamples``.

Values that a renderer takes. With seeds the samples are jittered, without they are not. No gradient flows
through the choice.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_floating, check_on_grid, check_shape
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid
from renderpretrain.samplers.intervals import (
    disparity_positions,
    near_surface_positions,
    occupied_samples,
    stratified_positions,
    uniform_positions,
)


@runtime_checkable
class RaySampler(Protocol):
    """A callable that chooses where along rays a field is asked."""

    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples on ``(B, R)`` rays, sorted by distance; those that are not valid count for nothing."""


@runtime_checkable
class DistanceField(Protocol):
    """A field that knows how far the nearest surface is, such as :class:`~renderpretrain.fields.SDFField`.

    Attributes:
        grid: Where it is.
        extent: Its unit of length, metres.
    """

    grid: VoxelGrid
    extent: int | float

    def sdf(self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P"]:
        """Signed distances at points, metres."""


class Span(NamedTuple):
    """The part of each ray that lies in a grid.

    Attributes:
        near: Where it begins, metres.
        far: Where it ends.
        hit: Whether there is such a part.
    """

    near: Float[Tensor, "B R"]
    far: Float[Tensor, "B R"]
    hit: Bool[Tensor, "B R"]

    def around(self, t: Float[Tensor, "B R S"]) -> RaySamples:
        """Intervals around sorted positions that tile the span; none is valid on a ray that misses."""
        return RaySamples.around(t, self.near, self.far, self.hit[..., None].expand_as(t))


def grid_span(grid: VoxelGrid, rays: Rays, *, near: int | float) -> Span:
    """Where rays run through a grid, ``near`` metres from their origins and farther. Not differentiable."""
    return Span(*ops.box_intersect(rays.origins, rays.directions, grid.lower, grid.upper, near=float(near)))


def _checked(volume: Tensor, grid: VoxelGrid, rays: Rays, seeds: Tensor | None, name: str) -> Tensor | None:
    """What a sampler draws from, if there are seeds; equal seeds give samplers of other names other numbers.

    Raises:
        ValueError: Unless there are ``(B, R)`` rays and ``(B,)`` seeds for ``B`` volumes on the grid.
    """
    check_on_grid("volume", volume, grid.shape)
    check_floating(volume=volume)
    check_shape("rays.origins", rays.origins, "B R 3", B=len(volume))
    return None if seeds is None else ops.own_seeds(seeds, len(volume), name)


@dataclass(frozen=True)
class Even:
    """Equal intervals between a ray's entry to and exit from a grid; jitter moves those of a ray together.

    Attributes:
        grid: What bounds the rays.
        num_samples: Samples per ray.
        near: Metres in front of the origin that hold nothing (the sensor's own car).
    """

    grid: VoxelGrid
    num_samples: int = 96
    near: int | float = 1.0

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of ``(B, R)`` rays."""
        # The name that runs have drawn under from the beginning, so that old seeds mean the same.
        seeds = _checked(volume, self.grid, rays, seeds, "UniformRenderer")
        span = grid_span(self.grid, rays, near=self.near)
        return span.around(uniform_positions(span.near, span.far, self.num_samples, seeds))


@dataclass(frozen=True)
class Stratified:
    """One sample anywhere in each of equal intervals, the middles without seeds: NeRF's coarse samples.

    https://arxiv.org/abs/2003.08934, equation 2.

    Attributes:
        grid: What bounds the rays.
        num_samples: Samples per ray.
        near: Metres in front of the origin that hold nothing.
    """

    grid: VoxelGrid
    num_samples: int = 96
    near: int | float = 1.0

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of ``(B, R)`` rays."""
        seeds = _checked(volume, self.grid, rays, seeds, "Stratified")
        span = grid_span(self.grid, rays, near=self.near)
        if seeds is None:
            return span.around(uniform_positions(span.near, span.far, self.num_samples))
        return span.around(stratified_positions(span.near, span.far, self.num_samples, seeds))


@dataclass(frozen=True)
class Disparity:
    """Samples even in ``1 / t``: dense nearby, where a pixel is small, and sparse far away.

    Attributes:
        grid: What bounds the rays.
        num_samples: Samples per ray.
        near: Metres in front of the origin that hold nothing, more than 0: there ``1 / t`` has no end.

    Raises:
        ValueError: If ``near`` is not positive.
    """

    grid: VoxelGrid
    num_samples: int = 96
    near: int | float = 1.0

    def __post_init__(self) -> None:
        if not self.near > 0:
            raise ValueError(f"near: expected more than 0 for samples even in 1/t, got {self.near}")

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of ``(B, R)`` rays."""
        seeds = _checked(volume, self.grid, rays, seeds, "Disparity")
        span = grid_span(self.grid, rays, near=self.near)
        return span.around(disparity_positions(span.near, span.far, self.num_samples, seeds))


@dataclass(frozen=True)
class NearSurface:
    """Some samples evenly along the ray, the others around what was measured: for training alone.

    A value of one step: ``replace(sampler, depth=targets.depth, hit=targets.hit)``.

    Attributes:
        grid: What bounds the rays.
        depth: Measured distance along every ray, metres; anything without a hit.
        hit: Where it was measured; other rays have all their samples even.
        width: Metres on either side of the surface.
        num_samples: Samples per ray.
        share: Of the samples that lie near the surface, in [0, 1].
        near: Metres in front of the origin that hold nothing.
    """

    grid: VoxelGrid
    depth: Float[Tensor, "B R"]
    hit: Bool[Tensor, "B R"]
    width: int | float
    num_samples: int = 96
    share: int | float = 0.5
    near: int | float = 1.0

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of the ``(B, R)`` rays that were measured."""
        seeds = _checked(volume, self.grid, rays, seeds, "NearSurface")
        span = grid_span(self.grid, rays, near=self.near)
        positions = near_surface_positions(
            *(span.near, span.far, self.depth, self.hit, self.num_samples, seeds),
            width=self.width,
            share=self.share,
        )
        return span.around(positions)


@dataclass(frozen=True)
class NeuSImportance:
    """Even samples find the surface, finer ones gather there: NeuS's hierarchical sampling.

    https://arxiv.org/abs/2106.10689, section 3.3. As the released code of UniPAD and PonderV2 has it, in one
    round.

    Attributes:
        field: Of signed distances, whatever its law of opacity; its grid bounds the rays.
        num_samples: Even samples between the ray's entry to and exit from the grid.
        num_importance: Samples added where a field of fixed sharpness would be opaque.
        near: Metres in front of the origin that hold nothing (the sensor's own car).
        sharpness: Of these, in 1/extent of the field; the published code uses 64.

    Raises:
        ValueError: If the field has no signed distances.
    """

    field: DistanceField
    num_samples: int = 72
    num_importance: int = 24
    near: int | float = 1.0
    sharpness: int | float = 64.0

    def __post_init__(self) -> None:
        missing = [name for name in ("grid", "extent", "sdf") if not hasattr(self.field, name)]
        if missing:
            raise ValueError(
                "field: expected a field of signed distances such as SDFField, got "
                f"{type(self.field).__name__} without {', '.join(missing)}; Even(grid) samples any field"
            )

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of ``(B, R)`` rays; the even ones of a ray are jittered together."""
        # The name that runs have drawn under from the beginning, so that old seeds mean the same.
        seeds = _checked(volume, self.field.grid, rays, seeds, "NeuSRenderer")
        span = grid_span(self.field.grid, rays, near=self.near)
        positions = uniform_positions(span.near, span.far, self.num_samples, seeds)
        if self.num_importance:
            points = rays.at(positions)
            with torch.autocast(volume.device.type, enabled=False):
                sdf = self.field.sdf(volume.float(), points.flatten(1, 2)).reshape(positions.shape)
            inv_s = self.sharpness / self.field.extent
            positions = ops.neus_upsample(positions, sdf, inv_s, self.num_importance)
        return span.around(positions)


@dataclass(frozen=True)
class Occupied:
    """Intervals of constant length where a grid is occupied; empty space costs nothing.

    Attributes:
        grid: Where the voxels are; it bounds the rays.
        occupied: Voxels to look into, of every sample.
        step: Length of an interval, metres.
        capacity: Slots per ray; a ray with more samples keeps the nearest.
        near: Metres in front of the origin that hold nothing.
    """

    grid: VoxelGrid
    occupied: Bool[Tensor, "B Z Y X"]
    step: int | float
    capacity: int = 96
    near: int | float = 1.0

    @torch.no_grad()
    def __call__(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> RaySamples:
        """Samples of ``(B, R)`` rays."""
        seeds = _checked(volume, self.grid, rays, seeds, "Occupied")
        span = grid_span(self.grid, rays, near=self.near)
        return occupied_samples(
            *(rays, span.near, span.far, self.occupied, self.grid, seeds),
            step=self.step,
            capacity=self.capacity,
        )
