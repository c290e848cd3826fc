"""Where along a ray to ask the field: sorted distances ``t`` in metres, none differentiable."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_alike, check_bool, check_shape
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid

AROUND = 1
"""Purpose of seeds: positions around a measured surface, beside those along the whole ray."""


def uniform_positions(
    near: Float[Tensor, "B R"], far: Float[Tensor, "B R"], count: int, seeds: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B R S"]:
    """The middles of ``count`` equal intervals between ``near`` and ``far``.

    Args:
        near: Start of each ray's range.
        far: End of it.
        count: Positions per ray.
        seeds: With seeds, all positions of a ray move together by up to half an interval either way.
    """
    _check_range(near, far, count)
    step = (far - near)[..., None] / count
    places = torch.arange(count, device=near.device) + 0.5
    if seeds is None:
        return near[..., None] + step * places
    jitter = ops.uniform(ops.own_seeds(seeds, len(near), "uniform_positions"), (near.shape[1], 1)) - 0.5
    return near[..., None] + step * (places + jitter)


def stratified_positions(
    near: Float[Tensor, "B R"], far: Float[Tensor, "B R"], count: int, seeds: Int[Tensor, " B"]
) -> Float[Tensor, "B R S"]:
    """One position anywhere in each of ``count`` equal intervals, independently of the others.

    NeRF (https://arxiv.org/abs/2003.08934), equation 2.
    """
    _check_range(near, far, count)
    seeds = ops.own_seeds(seeds, len(near), "stratified_positions")
    step = (far - near)[..., None] / count
    places = torch.arange(count, device=near.device)
    return near[..., None] + step * (places + ops.uniform(seeds, (near.shape[1], count)))


def disparity_positions(
    near: Float[Tensor, "B R"], far: Float[Tensor, "B R"], count: int, seeds: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B R S"]:
    """Positions evenly spaced in ``1 / t``: dense nearby, where a pixel is small, and sparse far away.

    ``1 / t = (1 - s) / near + s / far`` for the positions ``s`` of :func:`uniform_positions` in [0, 1].

    Args:
        near: Start of each ray's range, positive; from 0 all positions are 0.
        far: End of it; a range that ends where it starts has all its positions there.
        count: Positions per ray.
        seeds: With seeds, all ``s`` of a ray move together by up to half an interval either way.
    """
    _check_range(near, far, count)
    s = uniform_positions(torch.zeros_like(near), torch.ones_like(far), count, seeds)
    near, far = near[..., None], far[..., None]
    below = far * (1 - s) + near * s
    return torch.where(far > near, near * far / torch.where(far > near, below, 1.0), near)


def near_surface_positions(  # noqa: PLR0913 - the range, the measurement, and how many where
    near: Float[Tensor, "B R"],
    far: Float[Tensor, "B R"],
    depth: Float[Tensor, "B R"],
    hit: Bool[Tensor, "B R"],
    count: int,
    seeds: Int[Tensor, " B"] | None = None,
    *,
    width: int | float,
    share: int | float = 0.5,
) -> Float[Tensor, "B R S"]:
    """Some positions evenly along the ray, the others evenly within ``width`` of the measured surface.

    A ray without a measurement in its range has all its positions even. Depth-guided sampling as in Dense
    Depth Priors (https://arxiv.org/abs/2112.03288), with even positions around the surface in place of
    normally distributed ones.

    Args:
        near: Start of each ray's range.
        far: End of it.
        depth: Measured distance along the ray; anything without a hit.
        hit: Where it was measured.
        count: Positions per ray.
        seeds: With seeds, the positions of either kind move together by up to half their interval.
        width: Metres on either side of the surface.
        share: Of the positions that lie near the surface, in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number in [0, 1], got {share}")
    if width <= 0:
        raise ValueError(f"width: expected a positive number of metres, got {width}")
    gathered = round(count * share)
    _check_range(near, far, count)
    check_alike(near=near, depth=depth, hit=hit)
    check_bool(hit=hit)
    if seeds is not None:
        seeds = ops.own_seeds(seeds, len(near), "near_surface_positions")
    use = hit & (depth > near) & (depth < far)
    surface = torch.where(use, depth, near)
    low, high = torch.maximum(surface - width, near), torch.minimum(surface + width, far)
    around = uniform_positions(low, high, gathered, None if seeds is None else ops.fold_in(seeds, AROUND))
    even = uniform_positions(near, far, count - gathered, seeds)
    guided = torch.cat([even, around], -1).sort(-1).values
    return torch.where(use[..., None], guided, uniform_positions(near, far, count, seeds))


def occupied_samples(  # noqa: PLR0913 - the ray, the grid and the step
    rays: Rays,
    near: Float[Tensor, "B R"],
    far: Float[Tensor, "B R"],
    occupied: Bool[Tensor, "B Z Y X"],
    grid: VoxelGrid,
    seeds: Int[Tensor, " B"] | None = None,
    *,
    step: int | float,
    capacity: int,
) -> RaySamples:
    """Intervals of constant length where a grid is occupied; empty space costs nothing.

    See :func:`renderpretrain.ops.march`. The slots are dense: those without a sample are not valid.

    Args:
        rays: ``(B, R)`` rays.
        near: Start of each ray's range.
        far: End of it.
        occupied: Voxels to look into.
        grid: Where they are.
        seeds: With seeds, all intervals of a ray move together by up to half a step either way.
        step: Length of an interval, metres.
        capacity: Slots per ray; a ray with more samples keeps the nearest.

    Raises:
        ValueError: If the grid is not of the voxels' shape.
    """
    check_shape("near", near, "B R")
    check_alike(near=near, far=far, rays=rays.origins[..., 0])
    if tuple(occupied.shape) != (len(near), *grid.shape):
        raise ValueError(f"occupied: expected {(len(near), *grid.shape)}, got {tuple(occupied.shape)}")
    if seeds is not None:
        seeds = ops.own_seeds(seeds, len(near), "occupied_samples")
        near = near + (ops.uniform(seeds, (near.shape[1],)) - 0.5) * step
    starts, ends, valid, _ = ops.march(
        rays.origins,
        rays.directions,
        near,
        far,
        occupied,
        grid.scale,
        grid.offset,
        float(step),
        capacity=capacity,
    )
    return RaySamples(starts, ends, valid)


def _check_range(near: Tensor, far: Tensor, count: int) -> None:
    """Raise ``ValueError`` unless there are ``(B, R)`` rays, and something to draw on each."""
    check_shape("near", near, "B R")
    check_alike(near=near, far=far)
    if count < 0:
        raise ValueError(f"count: expected at least zero, got {count}")
