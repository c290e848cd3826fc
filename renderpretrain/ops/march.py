"""Sampling rays where a grid is occupied."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_frame, check_mask, check_shape
from renderpretrain.ops._library import Triple, common_float, register
from renderpretrain.ops._native import INT32_LIMIT, has_native, launch, new_memory
from renderpretrain.ops._signatures import Grid
from renderpretrain.ops._steps import all_steps, check_most

Four = tuple[Tensor, Tensor, Tensor, Tensor]


class Marched(NamedTuple):
    """Samples of rays, ``capacity`` slots on each; nearest first, the slots without a sample last.

    Attributes:
        t_starts: Where the intervals begin; in a slot without a sample the last sample's end, 0 without one.
        t_ends: Where they end; a slot without a sample has no length.
        valid: Which slots hold a sample.
        counts: How many do.
    """

    t_starts: Float[Tensor, "B R capacity"]
    t_ends: Float[Tensor, "B R capacity"]
    valid: Bool[Tensor, "B R capacity"]
    counts: Int[Tensor, "B R"]


class PackedSamples(NamedTuple):
    """Samples of rays, one ray after the other.

    Attributes:
        offsets: Where each ray begins, and where the last one ends; ``B R + 1``.
        ray_indices: The ray ``b R + r`` of every sample.
        t_starts: Where the intervals begin.
        t_ends: Where they end.
    """

    offsets: Int[Tensor, " Q"]
    ray_indices: Int[Tensor, " P"]
    t_starts: Float[Tensor, " P"]
    t_ends: Float[Tensor, " P"]


def march(  # noqa: PLR0913 - the ray, the grid and the step
    origins: Float[Tensor, "B R 3"],
    directions: Float[Tensor, "B R 3"],
    t_near: Float[Tensor, "B R"],
    t_far: Float[Tensor, "B R"],
    occupied: Bool[Tensor, "B Z Y X"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    step: float,
    *,
    capacity: int,
) -> Marched:
    """Intervals of constant length along rays, those in occupied voxels, at most ``capacity`` on a ray.

    Step ``i`` of a ray is ``[t_near + i step, t_near + (i + 1) step]``, and it is a sample if its middle lies
    in front of ``t_far`` and within an occupied voxel; a voxel holds its lower faces, not its upper ones. So
    the last interval may end behind ``t_far``, by half a step. Empty space costs no steps, yet the samples
    are those of looking at every step, to the bit. Ends of neighbouring samples are equal numbers.

    As ``traverse_grids`` of nerfacc (https://arxiv.org/abs/2305.04966) with one grid, ``step_size > 0`` and
    ``cone_angle = 0``, except that it adds up its steps, with their roundings, shifts the ends of a ray by
    1e-6 and clamps voxels to the grid, so that samples within rounding of a face may differ.

    Args:
        origins: Where the rays start, metres.
        directions: Any length but zero; ``t`` counts in that length, metres for unit directions. A ray that
            stands still has no samples, and neither has one with a NaN.
        t_near: Where the steps start; finite.
        t_far: Where they end; may be infinite.
        occupied: Where to sample, one grid for every element of the batch.
        scale: Voxels per metre; positive. ``index = point * scale + offset`` is whole at a voxel's centre.
        offset: Index of the world's origin.
        step: Length of an interval; a positive number in the type of the rays.
        capacity: Slots per ray. A ray with more samples keeps the nearest.

    Returns:
        The samples in float32 or float64; without gradient and without a host sync.

    Raises:
        ValueError: If shapes do not fit, the step or a scale is not positive, or a grid has 2^31 voxels.
    """
    rays = _checked((origins, directions, t_near, t_far), occupied, scale, offset, step)
    _check_capacity(capacity)
    if not has_native(origins.device.type):
        return march_reference(*rays, occupied, scale, offset, step, capacity=capacity)
    return Marched(*torch.ops.renderpretrain.march(*rays, occupied, scale, offset, step, capacity))


def march_packed(  # noqa: PLR0913 - the ray, the grid and the step
    origins: Float[Tensor, "B R 3"],
    directions: Float[Tensor, "B R 3"],
    t_near: Float[Tensor, "B R"],
    t_far: Float[Tensor, "B R"],
    occupied: Bool[Tensor, "B Z Y X"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    step: float,
) -> PackedSamples:
    """All samples of :func:`march`, ray after ray in one list.

    Returns:
        The samples in float32 or float64; without gradient. The length of the list is not known before the
        rays were marched: on CUDA the host waits for it.

    Raises:
        ValueError: As for :func:`march`, and if a ray has 2^23 samples.
    """
    rays = _checked((origins, directions, t_near, t_far), occupied, scale, offset, step)
    if not has_native(origins.device.type):
        return march_packed_reference(*rays, occupied, scale, offset, step)
    return PackedSamples(*torch.ops.renderpretrain.march_packed(*rays, occupied, scale, offset, step))


def _checked(rays: Four, occupied: Tensor, scale: Triple, offset: Triple, step: float) -> Four:
    """The rays in one floating type."""
    origins, directions, t_near, t_far = rays
    sizes = check_shape("origins", origins, "B R 3")
    check_shape("directions", directions, "B R 3", **sizes)
    check_shape("t_near", t_near, "B R", **sizes)
    check_shape("t_far", t_far, "B R", **sizes)
    check_shape("occupied", occupied, "B Z Y X", B=sizes["B"])
    check_mask("occupied", occupied, occupied.shape, origins.device)
    names = ("origins", "directions", "t_near", "t_far")
    same_type = common_float(**{name: tensor.detach() for name, tensor in zip(names, rays, strict=True)})
    _check_grid(same_type[2], same_type[3], occupied, scale, offset, step)
    return same_type[0], same_type[1], same_type[2], same_type[3]


def _check_grid(
    t_near: Tensor, t_far: Tensor, occupied: Tensor, scale: Triple, offset: Triple, step: float
) -> None:
    if math.prod(occupied.shape[1:]) >= INT32_LIMIT:
        raise ValueError(f"occupied: expected fewer than 2^31 voxels in a grid, got {tuple(occupied.shape)}")
    smallest = torch.finfo(t_near.dtype).tiny
    if not smallest <= step < math.inf:
        raise ValueError(f"step: expected a positive number, got {step}")
    check_frame(scale, offset)
    if not all(factor > 0 for factor in scale):
        raise ValueError(f"scale: expected positive numbers, got {scale}")


def _check_capacity(capacity: int) -> None:
    if capacity < 0:
        raise ValueError(f"capacity: expected at least zero, got {capacity}")


@torch.no_grad()
def march_reference(  # noqa: PLR0913 - the signature of march
    origins: Float[Tensor, "B R 3"],
    directions: Float[Tensor, "B R 3"],
    t_near: Float[Tensor, "B R"],
    t_far: Float[Tensor, "B R"],
    occupied: Bool[Tensor, "B Z Y X"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    step: float,
    *,
    capacity: int,
) -> Marched:
    """:func:`march` in plain PyTorch, looking at every step: what the kernels are tested against."""
    borders, found = all_steps(origins, directions, t_near, t_far, occupied, scale, offset, step)
    rank = found.cumsum(-1) - 1
    slot = torch.where(found, rank, capacity).clamp(max=capacity)  # one slot more, for what nobody wants
    counts = found.sum(-1).clamp(max=capacity)
    valid = torch.arange(capacity, device=counts.device) < counts[..., None]
    empty = t_near.new_zeros(*t_near.shape, capacity + 1)
    ends = empty.scatter(-1, slot, borders[..., 1:])
    last = ends.gather(-1, (counts - 1).clamp(min=0)[..., None])
    rest = torch.where(counts[..., None] > 0, last, 0.0)
    t_starts, t_ends = (
        torch.where(valid, times[..., :capacity], rest)
        for times in (empty.scatter(-1, slot, borders[..., :-1]), ends)
    )
    return Marched(t_starts, t_ends, valid, counts)


@torch.no_grad()
def march_packed_reference(  # noqa: PLR0913 - the signature of march_packed
    origins: Float[Tensor, "B R 3"],
    directions: Float[Tensor, "B R 3"],
    t_near: Float[Tensor, "B R"],
    t_far: Float[Tensor, "B R"],
    occupied: Bool[Tensor, "B Z Y X"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    step: float,
) -> PackedSamples:
    """What :func:`march_packed` does, in plain PyTorch."""
    borders, found = all_steps(origins, directions, t_near, t_far, occupied, scale, offset, step)
    borders, found = borders.flatten(0, 1), found.flatten(0, 1)
    offsets = torch.cat([found.new_zeros(1, dtype=torch.int64), found.sum(-1).cumsum(0)])
    check_most(int(offsets.diff().amax()) if len(found) else 0)
    return PackedSamples(offsets, found.nonzero()[:, 0], borders[:, :-1][found], borders[:, 1:][found])


def _check_march(*arguments: Any) -> None:
    *_, capacity = arguments
    _check_grid(*arguments[2:-1])
    _check_capacity(capacity)


def _launch(name: str, arguments: Sequence[Any], *outputs: Tensor | int) -> None:
    """Call a native function with the arguments that march and march_packed share, and what comes behind."""
    *rays, occupied, scale, offset, step = arguments
    grid = Grid(occupied.shape[0], 1, *occupied.shape[1:], rays[0].shape[1], *scale, *offset)
    launch(name, *rays, occupied, grid, step, *outputs)


def _march(*arguments: Any) -> Four:
    out = _fake_march(*arguments)
    *shared, capacity = arguments
    _launch("march", shared, capacity, *out)
    return out


def _fake_march(*arguments: Any) -> Four:
    _, _, t_near, *_, capacity = arguments
    slots = (*t_near.shape, capacity)
    t_starts, t_ends = new_memory(t_near, *slots), new_memory(t_near, *slots)
    valid = t_near.new_empty(slots, dtype=torch.bool)
    return t_starts, t_ends, valid, t_near.new_empty(t_near.shape, dtype=torch.int64)


def _march_packed(*arguments: Any) -> Four:
    _, _, t_near, *_ = arguments
    counts = t_near.new_empty(t_near.numel(), dtype=torch.int64)
    _launch("march_count", arguments, counts)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    total, most = torch.stack([offsets[-1], offsets.diff().amax() if len(counts) else offsets[-1]]).tolist()
    check_most(most)
    ray_indices = new_memory(counts, total)
    t_starts, t_ends = new_memory(t_near, total), new_memory(t_near, total)
    _launch("march_fill", arguments, offsets, ray_indices, t_starts, t_ends)
    return offsets, ray_indices, t_starts, t_ends


def _fake_march_packed(*arguments: Any) -> Four:
    _, _, t_near, *_ = arguments
    total = torch.library.get_ctx().new_dynamic_size()
    offsets = t_near.new_empty(t_near.numel() + 1, dtype=torch.int64)
    ray_indices = t_near.new_empty(total, dtype=torch.int64)
    return offsets, ray_indices, t_near.new_empty(total), t_near.new_empty(total)


_RAYS_AND_GRID = (
    "Tensor origins, Tensor directions, Tensor t_near, Tensor t_far, Tensor occupied, float[3] scale,"
    " float[3] offset, float step"
)
_TENSORS = {
    "origins": "float B R 3",
    "directions": "float B R 3",
    "t_near": "float B R",
    "t_far": "float B R",
    "occupied": "bool B Z Y X",
}
register(
    f"march({_RAYS_AND_GRID}, SymInt capacity) -> (Tensor, Tensor, Tensor, Tensor)",
    _march,
    _fake_march,
    _TENSORS,
    _check_march,
)
register(
    f"march_packed({_RAYS_AND_GRID}) -> (Tensor, Tensor, Tensor, Tensor)",
    _march_packed,
    _fake_march_packed,
    _TENSORS,
    lambda *arguments: _check_grid(*arguments[2:]),
)
