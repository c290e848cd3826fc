"""Rendering in one pass with even samples, for any field in a grid."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_floating, check_on_grid, check_shape
from renderpretrain.fields import FieldSamples
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid
from renderpretrain.renderers.volume import Rendered, render
from renderpretrain.samplers import uniform_positions


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


def check_rays(volume: Tensor, grid: VoxelGrid, rays: Rays, seeds: Tensor | None, name: str) -> Tensor | None:
    """What the renderer of a name draws from, if there are seeds.

    Raises:
        ValueError: Unless there are ``(B, R)`` rays and ``(B,)`` seeds for ``B`` volumes on the grid.
    """
    check_on_grid("volume", volume, grid.shape)
    check_floating(volume=volume)
    check_shape("rays.origins", rays.origins, "B R 3", B=len(volume))
    return None if seeds is None else ops.own_seeds(seeds, len(volume), name)


def grid_span(grid: VoxelGrid, rays: Rays, *, near: int | float) -> Span:
    """Where rays run through a grid, ``near`` metres from their origins and farther. Not differentiable."""
    return Span(*ops.box_intersect(rays.origins, rays.directions, grid.lower, grid.upper, near=float(near)))


class UniformRenderer(nn.Module):
    """Render a field within a grid by samples at even distances.

    Args:
        field: Any field: ``(volume, rays, samples) -> FieldSamples``.
        grid: What bounds the rays.
        num_samples: Even samples between the ray's entry to and exit from the grid.
        near: Metres in front of the origin that hold nothing (the sensor's own car).
    """

    def __init__(
        self,
        field: Callable[[Tensor, Rays, RaySamples], FieldSamples],
        grid: VoxelGrid,
        *,
        num_samples: int = 96,
        near: int | float = 1.0,
    ) -> None:
        super().__init__()
        self.field = field
        self.grid = grid
        self.num_samples = num_samples
        self.near = near

    def forward(
        self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, seeds: Int[Tensor, " B"] | None = None
    ) -> Rendered:
        """Render ``(B, R)`` rays; with ``seeds`` the samples are jittered, one offset per ray."""
        seeds = check_rays(volume, self.grid, rays, seeds, "UniformRenderer")
        with torch.no_grad():
            span = grid_span(self.grid, rays, near=self.near)
            samples = span.around(uniform_positions(span.near, span.far, self.num_samples, seeds))
        return render(self.field(volume, rays, samples), samples)
