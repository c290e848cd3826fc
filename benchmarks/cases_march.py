"""Choosing samples along rays, and casting rays through grids."""

from collections.abc import Iterator
from typing import Any

import torch
from measure import Case, Results, Run, installed
from torch import Tensor
from torch.nn.functional import normalize, pad

from renderpretrain import VoxelGrid, ops
from renderpretrain.ops.neus_upsample import HISTOGRAM_PADDING, section_alphas

OPERATORS = ("neus_upsample", "resample", "box_intersect", "march", "march_packed", "raycast_grid")

STREET = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
ROOM = VoxelGrid((0.0, 0.0, 0.0, 12.8, 12.8, 12.8), (0.1, 0.1, 0.1))


def cases(device: str, quick: bool) -> Iterator[Case]:
    """UniPAD's rays (2048 of 72 + 24 samples) and larger ones; a room and a street."""
    torch.manual_seed(0)
    sizes = ((64, 96),) if quick else ((2048, 96), (4096, 128))
    for rays, samples in sizes:
        yield _neus_upsample(rays, samples * 3 // 4, samples // 4, device)
        yield _resample(rays, samples, samples // 4, device)
        yield _resample(rays, samples, samples, device)
        yield _box_intersect(rays, device)
    yield _box_intersect(64 if quick else 1 << 18, device)
    for name, grid in (("128^3", ROOM), ("180x180x5", STREET)):
        yield from _march(name, grid, 32 if quick else 4096, device)
        yield _raycast(name, grid, 32 if quick else 30000, device)


def _neus_upsample(rays: int, samples: int, count: int, device: str) -> Case:
    positions = (10 * torch.rand(rays, samples, device=device)).sort(-1).values
    sdf = 12 * torch.rand(rays, 1, device=device) - positions + 0.1 * torch.randn_like(positions)
    return Case(
        "neus_upsample",
        "forward",
        f"{rays} rays, {samples} + {count}",
        lambda: (ops.neus_upsample(positions, sdf, 60.0, count),),
        {
            "reference": lambda: (ops.neus_upsample_reference(positions, sdf, 60.0, count),),
            "torch": lambda: (_merged(positions, sdf, 60.0, count),),
        },
        4 * rays * (3 * samples + count),
        40 * rays * samples,
        # A quantile in a section that holds only its padding moves by a hundredth of it with the last bit
        # of the sum.
        tolerance=1e-2,
    )


def _quantiles(edges: Tensor, weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """In float32, for weights that are nowhere zero; and the right border of each one's bin."""
    cdf = pad(weights.cumsum(-1), (1, 0))
    target = u * cdf[..., -1:]
    right = torch.searchsorted(cdf, target, right=True).clamp_(1, weights.shape[-1])
    left = right - 1
    below = cdf.gather(-1, left)
    fraction = (target - below) / (cdf.gather(-1, right) - below)
    return torch.lerp(edges.gather(-1, left), edges.gather(-1, right), fraction), right


def _merged(positions: Tensor, sdf: Tensor, inv_s: float, count: int) -> Tensor:
    """The bins say where in the row the new positions go, so nothing is sorted."""
    weights = ops.composite_reference(section_alphas(positions, sdf, inv_s)) + HISTOGRAM_PADDING
    turns = torch.arange(count, device=positions.device)
    fine, right = _quantiles(positions, weights, (turns + 0.5) / count)
    places = right + turns
    out = positions.new_empty(*positions.shape[:-1], positions.shape[-1] + count)
    old = torch.ones(out.shape, dtype=torch.bool, device=out.device).scatter_(-1, places, False)
    return out.masked_scatter_(old, positions).scatter_(-1, places, fine)


def _resample(rays: int, bins: int, count: int, device: str) -> Case:
    edges = torch.rand(rays, bins + 1, device=device).cumsum(-1)
    weights = torch.rand(rays, bins, device=device)
    u = ((torch.arange(count, device=device) + 0.5) / count).expand(rays, count).contiguous()
    peers: dict[str, Run] = {
        "reference": lambda: (ops.resample_reference(edges, weights, u),),
        "torch": lambda: _quantiles(edges, weights, u)[:1],
    }
    pdf = installed("nerfacc.pdf")
    if pdf:  # it also finds borders between the positions
        peers["nerfacc"] = lambda: pdf._sample_from_weighted(edges, weights, count)[1:]
    return Case(
        "resample",
        "forward",
        f"{rays} rays, {bins} bins, {count} quantiles",
        lambda: (ops.resample(edges, weights, u),),
        peers,
        4 * rays * (2 * bins + 2 * count),
    )


def _rays(grid: VoxelGrid, count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Origin, ends and directions of rays from the middle of a grid to anywhere in it."""
    lower, upper = torch.tensor(grid.lower, device=device), torch.tensor(grid.upper, device=device)
    ends = lower + torch.rand(1, count, 3, device=device) * (upper - lower)
    origins = (0.5 * (lower + upper) + 0.01).expand_as(ends).contiguous()
    return origins, ends, normalize(ends - origins, dim=-1)


def _box_intersect(rays: int, device: str) -> Case:
    origins, _, directions = (tensor[0] for tensor in _rays(ROOM, rays, device))
    box = (3.0, 3.0, 3.0), (9.0, 9.0, 9.0)
    peers: dict[str, Run] = {
        "reference": lambda: ops.box_intersect_reference(origins, directions, *box),
        "torch": lambda: _slabs(origins, directions, *box),
    }
    grid = installed("nerfacc.grid")
    if grid:
        corners = torch.tensor([[*box[0], *box[1]]], device=device)

        def theirs() -> Results:
            near, far, hit = grid._ray_aabb_intersect(origins, directions, corners, near_plane=0.0)
            return near[:, 0], far[:, 0], hit[:, 0]

        peers["nerfacc"] = theirs
    return Case(
        "box_intersect",
        "forward",
        f"{rays} rays",
        lambda: ops.box_intersect(origins, directions, *box),
        peers,
        rays * 33,
        24 * rays,
    )


def _slabs(origins: Tensor, directions: Tensor, lower: Any, upper: Any) -> Results:
    """For rays along no axis; many are fastest with the axes in rows of their own."""
    axis = -1 if len(origins) < 1 << 16 else 0
    low, high = (origins.new_tensor(corner).unsqueeze(-1 - axis) for corner in (lower, upper))
    origins, slopes = origins.movedim(-1, axis), 1 / directions.movedim(-1, axis)
    first, second = (low - origins) * slopes, (high - origins) * slopes
    enter = torch.minimum(first, second).amax(axis).clamp_(min=0)
    leave = torch.maximum(first, second).amin(axis)
    hit = enter < leave
    return torch.where(hit, enter, 0.0), torch.where(hit, leave, 0.0), hit


def _march(name: str, grid: VoxelGrid, rays: int, device: str) -> Iterator[Case]:
    """Through a shell in the room, or a street one voxel in twenty of which is occupied."""
    origins, _, directions = _rays(grid, rays, device)
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    radius = (2 * (grid.centers() - lower) / (upper - lower) - 1).norm(dim=-1)
    occupied = (radius > 0.7) & (radius < 0.75) if grid is ROOM else torch.rand(grid.shape) < 0.05
    occupied = occupied[None].to(device)
    near, far, _ = ops.box_intersect(origins, directions, grid.lower, grid.upper)
    for step in (0.05, 0.3):
        scene = origins, directions, near, far, occupied, grid.scale, grid.offset, step
        shape = f"{name}, {rays} rays, step {step}"
        samples = int(ops.march(*scene, capacity=256)[3].sum())
        yield Case(
            "march",
            "forward",
            shape,
            lambda scene=scene: ops.march(*scene, capacity=256),
            {
                "reference": lambda scene=scene: ops.march_reference(*scene, capacity=256),
                "torch": lambda scene=scene: _march_loop(scene, 256),
            },
            rays * (32 + 256 * 9),
        )
        yield Case(
            "march_packed",
            "forward",
            shape,
            lambda scene=scene: ops.march_packed(*scene),
            {"reference": lambda scene=scene: ops.march_packed_reference(*scene)},
            rays * 40 + samples * 16,
        )


def _march_loop(scene: tuple[Any, ...], capacity: int) -> Results:
    """All rays a step further at a time, as one writes it in torch; one grid only."""
    origins, directions, near, far, occupied, scale, offset, step = scene
    starts = near.new_zeros(*near.shape, capacity + 1)
    ends, counts = starts.clone(), near.new_zeros(near.shape, dtype=torch.int64)
    scales, offsets = near.new_tensor(scale), near.new_tensor(offset)
    size = near.new_tensor(occupied.shape[:0:-1])
    for i in range(int(((far - near) / step).max().ceil())):
        t = near + (i + 0.5) * near.new_tensor(step)
        index = (origins + t[..., None] * directions) * scales + offsets + 0.5
        inside = ((index >= 0) & (index < size)).all(-1) & (t < far)
        x, y, z = torch.where(inside[..., None], index, 0.0).long().unbind(-1)
        found = inside & occupied[0, z, y, x]
        slot = torch.where(found, counts, capacity).clamp(max=capacity)[..., None]
        starts.scatter_(-1, slot, (near + i * near.new_tensor(step))[..., None])
        ends.scatter_(-1, slot, (near + (i + 1) * near.new_tensor(step))[..., None])
        counts += found
    counts.clamp_(max=capacity)
    valid = torch.arange(capacity, device=near.device) < counts[..., None]
    last = torch.where(counts > 0, ends.gather(-1, (counts - 1).clamp(min=0)[..., None])[..., 0], 0.0)
    starts, ends = (torch.where(valid, times[..., :capacity], last[..., None]) for times in (starts, ends))
    return starts, ends, valid, counts


def _raycast(name: str, grid: VoxelGrid, beams: int, device: str) -> Case:
    origins, ends, _ = _rays(grid, beams, device)
    valid = torch.ones(1, beams, dtype=torch.bool, device=device)
    scene = origins, ends, valid, grid.shape, grid.scale, grid.offset
    return Case(
        "raycast_grid",
        "forward",
        f"{name}, {beams} beams",
        lambda: ops.raycast_grid(*scene),
        {"reference": lambda: ops.raycast_grid_reference(*scene)},
        beams * 25 + 8 * grid.num_voxels,
        tolerance=0.0,
    )
