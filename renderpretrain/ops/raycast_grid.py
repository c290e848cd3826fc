"""Counting the beams that pass and that end in every voxel."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from renderpretrain.checks import check_frame, check_mask, check_shape, check_volume
from renderpretrain.ops._library import Shape, Triple, common_float, register
from renderpretrain.ops._native import INT32_LIMIT, has_native, launch, new_memory
from renderpretrain.ops._signatures import Grid
from renderpretrain.ops.constant import constant


class BeamCounts(NamedTuple):
    """What beams say of voxels.

    Attributes:
        passed: Beams that passed through each voxel.
        hits: Beams that ended there.
    """

    passed: Int32[Tensor, "B Z Y X"]
    hits: Int32[Tensor, "B Z Y X"]


def raycast_grid(
    origins: Float[Tensor, "B R 3"],
    ends: Float[Tensor, "B R 3"],
    valid: Bool[Tensor, "B R"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> BeamCounts:
    """How many beams passed through each voxel (it is free), and how many ended there (it is occupied).

    A beam ends in the voxel that holds its end, lower faces included, upper faces not. It passes the other
    voxels whose inside the open segment from origin to end meets: one that runs along a face, an edge or
    through a corner does not meet the voxels that only touch it. So a beam counts at most once in a voxel.
    Both ends may lie outside the grid. Computed in float64 and exact there: a voxel is passed if and only if
    the slab test ``max(enter) < min(leave)``, with one division for every face, says so.

    Voxel traversal after Amanatides and Woo (1987), "A fast voxel traversal algorithm for ray tracing",
    where edges and corners take one step instead of two or three.

    Args:
        origins: Where the sensor stood for each beam, metres.
        ends: Where the beam returned from, metres.
        valid: Which beams count. One with a coordinate that is not finite never does.
        shape: ``(Z, Y, X)`` of the grid.
        scale: Voxels per metre; positive. ``index = point * scale + offset`` is whole at a voxel's centre.
        offset: Index of the world's origin.

    Returns:
        Both counts; without gradient, and the same on any number of threads.

    Raises:
        ValueError: If shapes do not fit, a scale is not positive, or there are 2^31 beams.
    """
    sizes = check_shape("origins", origins, "B R 3")
    check_shape("ends", ends, "B R 3", **sizes)
    check_mask("valid", valid, origins.shape[:2], origins.device)
    _check_grid(origins, shape, scale, offset)
    origins, ends = common_float(origins=origins.detach(), ends=ends.detach())
    if not has_native(origins.device.type):
        return raycast_grid_reference(origins, ends, valid, shape, scale, offset)
    return BeamCounts(*torch.ops.renderpretrain.raycast_grid(origins, ends, valid, shape, scale, offset))


@torch.no_grad()
def raycast_grid_reference(
    origins: Float[Tensor, "B R 3"],
    ends: Float[Tensor, "B R 3"],
    valid: Bool[Tensor, "B R"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> BeamCounts:
    """:func:`raycast_grid` in plain PyTorch, all beams a voxel further at a time."""
    scales, offsets = (constant(numbers, origins, torch.float64) for numbers in (scale, offset))
    p, q = ((points.double() * scales + offsets + 0.5).flatten(0, 1) for points in (origins, ends))
    batch = torch.arange(len(origins), device=p.device).repeat_interleave(origins.shape[1])
    counted = valid.flatten() & ((p.abs() < 1e15) & (q.abs() < 1e15)).all(-1)
    p, q, batch = p[counted], q[counted], batch[counted]
    size = constant(shape[::-1], batch)
    strides = constant([1, shape[2], shape[2] * shape[1]], batch)
    first, last = batch * (shape[0] * shape[1] * shape[2]), q.floor().long()
    inside = ((last >= 0) & (last < size)).all(-1)
    target = torch.where(inside, first + (last * strides).sum(-1), -1)
    passed, hits = _fake(origins, ends, valid, shape, scale, offset)
    one = hits.new_ones(())
    hits = hits.zero_().flatten().index_add(0, target[inside], one.expand(int(inside.sum()))).view(hits.shape)
    passed = passed.zero_().flatten()
    walk = _Walk(p, q - p, size)
    while walk.beams.numel():
        voxel = first[walk.beams] + (walk.index * strides).sum(-1)
        voxel = voxel[voxel != target[walk.beams]]
        passed.index_add_(0, voxel, one.expand(len(voxel)))
        walk.advance()
    return BeamCounts(passed.view(hits.shape), hits)


class _Walk:
    """Many beams, each in one voxel at a time, while they are inside the grid and not yet at their end."""

    def __init__(self, p: Tensor, d: Tensor, size: Tensor) -> None:
        self.p, self.d, self.up, still = p, d, (d > 0).long(), d == 0
        near, far = self.time((1 - self.up) * size), self.time(self.up * size)
        enter = torch.where(still, 0.0, near).amax(-1).clamp(min=0)
        self.leave = torch.where(still, 1.0, far).amin(-1).clamp(max=1)
        between = (p > 0) & (p < size) & (p != p.floor())
        meets = (enter < self.leave) & (between | ~still).all(-1)
        index = torch.minimum((p + enter[:, None] * d).floor().long().clamp(min=0), size - 1)
        for _ in range(3):  # the guess is off by rounding, a voxel or two
            index += (2 * self.up - 1) * ((self.time(index + self.up) <= enter[:, None]) & ~still)
            index -= (2 * self.up - 1) * ((self.time(index + 1 - self.up) > enter[:, None]) & ~still)
        self.index, self.beams = index, torch.arange(len(p), device=p.device)
        self._keep(meets)

    def time(self, face: Tensor) -> Tensor:
        """When the beams meet these faces of the three axes."""
        return (face.double() - self.p) / self.d

    def advance(self) -> None:
        """Step over the nearest face, or faces; beams that leave the grid or end there are dropped."""
        ahead = torch.where(self.d == 0, 2.0, self.time(self.index + self.up))
        now = ahead.amin(-1, keepdim=True)
        self.index = self.index + (2 * self.up - 1) * (ahead == now)
        self._keep(now[:, 0] < self.leave)

    def _keep(self, wanted: Tensor) -> None:
        for name in ("p", "d", "up", "leave", "index", "beams"):
            setattr(self, name, getattr(self, name)[wanted])


def _check_grid(origins: Tensor, shape: Shape, scale: Triple, offset: Triple) -> None:
    if origins.shape[1] >= INT32_LIMIT:
        raise ValueError(f"origins: expected fewer than 2^31 beams, got {tuple(origins.shape)}")
    check_volume(shape)
    check_frame(scale, offset)
    if not all(factor > 0 for factor in scale):
        raise ValueError(f"scale: expected positive numbers, got {scale}")


def _raycast_grid(*arguments: Any) -> tuple[Tensor, Tensor]:
    origins, ends, valid, shape, scale, offset = arguments
    passed, hits = (counts.zero_() for counts in _fake(*arguments))
    grid = Grid(origins.shape[0], 1, *shape, origins.shape[1], *scale, *offset)
    launch("raycast_grid", origins, ends, valid, grid, passed, hits)
    return passed, hits


def _fake(
    origins: Tensor, ends: Tensor, valid: Tensor, shape: Shape, scale: Triple, offset: Triple
) -> tuple[Tensor, Tensor]:
    counts = (new_memory(origins, origins.shape[0], *shape, dtype=torch.int32) for _ in range(2))
    return next(counts), next(counts)


register(
    "raycast_grid(Tensor origins, Tensor ends, Tensor valid, SymInt[3] shape, float[3] scale,"
    " float[3] offset) -> (Tensor, Tensor)",
    _raycast_grid,
    _fake,
    {"origins": "float B R 3", "ends": "float B R 3", "valid": "bool B R"},
    lambda origins, ends, valid, *grid: _check_grid(origins, *grid),
)
