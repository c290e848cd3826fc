"""Points to voxels: their voxel, the occupied ones, and what is gathered in each."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Case, Results, Run, forward, forward_backward, installed
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from renderpretrain import VoxelGrid, ops

OPERATORS = ("scatter_plan", "voxel_scatter", "voxel_index", "occupied_cells")


def cases(device: str, quick: bool) -> Iterator[Case]:
    """A sweep of 250 000 points: 96 channels to 180 x 180 x 20 cells, and voxels of two detectors."""
    count = 1 << 13 if quick else 250_000
    size = (3.6, 3.6, 0.8) if quick else (0.6, 0.6, 0.4)
    street = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), size)
    points = _sweep(count, device)
    index = _index(points, street).flatten()
    uniform = torch.randint(street.num_voxels, (count,), generator=torch.Generator().manual_seed(0)).to(
        device
    )
    for name, cells in (("sweep", index[index >= 0]), ("uniform", uniform)):
        yield _plan(f"{name}, {len(cells)} -> {street.num_voxels}", cells, street.num_voxels)
        values = torch.randn(len(cells), 96, device=device, requires_grad=True)
        for reduce in ("sum", "mean", "max"):
            shape = f"{reduce}, {name}, {len(cells)} x 96 -> {street.num_voxels}"
            yield from _scatter(shape, values, cells, street.num_voxels, reduce)
    for name, size in (("1440x1440x40", (0.075, 0.075, 0.2)), ("400x400x32", (0.27, 0.27, 0.25))):
        yield from _voxels(f"{count} points, {name}", points, VoxelGrid(street.point_cloud_range, size))


def _sweep(count: int, device: str) -> Tensor:
    """Returns of a scanner 1.8 m above a plane with walls: dense in front of it, thin far away."""
    generator = torch.Generator().manual_seed(0)
    azimuth = 2 * torch.pi * torch.arange(count) / (count / 64)
    elevation = torch.linspace(-0.43, 0.05, 64).repeat(count // 64 + 1)[:count]
    wall = 8 + 40 * torch.rand(360, generator=generator)[(azimuth * 180 / torch.pi).long() % 360]
    distance = torch.minimum(1.8 / (-elevation).clamp(min=1e-3).sin(), wall / elevation.cos())
    distance = distance + 0.02 * torch.randn(count, generator=generator)
    x, y = azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos()
    return (torch.stack([x, y, elevation.sin()], -1) * distance[:, None])[None].to(device)


def _index(points: Tensor, grid: VoxelGrid) -> Tensor:
    valid = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    return ops.voxel_index(points, valid, grid.shape, grid.lower, grid.upper, grid.scale, grid.offset)


def _plan(shape: str, index: Tensor, num_cells: int) -> Case:
    def parts(plan: ops.ScatterPlan) -> Results:
        return plan.order, plan.offsets

    def sorted_and_counted() -> Results:
        ends = index.bincount(minlength=num_cells).cumsum(0)
        return index.int().sort(stable=True).indices.int(), pad(ends, (1, 0)).int()

    peers: dict[str, Run] = {
        "reference": lambda: parts(ops.scatter_plan_reference(index, num_cells)),
        "torch": sorted_and_counted,
    }
    num_bytes = (index.element_size() + 4) * index.numel() + 4 * num_cells
    ours = lambda: parts(ops.scatter_plan(index, num_cells))  # noqa: E731
    return Case("scatter_plan", "forward", shape, ours, peers, num_bytes)


def _scatter(shape: str, values: Tensor, index: Tensor, num_cells: int, reduce: Any) -> Iterator[Case]:
    def ours(values: Tensor) -> Tensor:
        return ops.voxel_scatter(values, index, num_cells, reduce=reduce)

    libraries = {}
    if installed("torch_scatter"):
        scatter = installed("torch_scatter").scatter
        libraries["torch_scatter"] = lambda values: scatter(
            values, index, 0, dim_size=num_cells, reduce=reduce
        )
    once, twice = values.numel() + num_cells * values.shape[1], 2 * values.numel()
    for stage, make, size in (
        ("forward", forward, once),
        ("forward+backward", forward_backward, once + twice),
    ):
        sides = {"": ours, "torch": _torchs(index, num_cells, reduce, stage), **libraries}
        runs = {name: make(side, (values,)) for name, side in sides.items()}
        yield Case("voxel_scatter", stage, shape, runs.pop(""), runs, 4 * size)


def _torchs(index: Tensor, num_cells: int, reduce: str, stage: str) -> Callable[[Tensor], Tensor]:
    """The fastest of torch's ways for each reduction and pass."""

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(num_cells, values.shape[1]).index_add_(0, index, values)

    def mean(values: Tensor) -> Tensor:
        return total(values / index.bincount(minlength=num_cells)[index, None])

    def maximum(values: Tensor) -> Tensor:
        out, rows = values.new_zeros(num_cells, values.shape[1]), index[:, None].expand_as(values)
        return out.scatter_reduce(0, rows, values, "amax", include_self=False)

    def sorted_maximum(values: Tensor) -> Tensor:
        """Slower than the other, but its gradient is faster, and goes to one point only, as ours does."""
        cells, order = index.sort(stable=True)
        cells, counts = cells.unique_consecutive(return_counts=True)
        found = embedding_bag(order, values, counts.cumsum(0) - counts, mode="max")
        return values.new_zeros(num_cells, values.shape[1]).index_copy(0, cells, found)

    return {"sum": total, "mean": mean, "max": maximum if stage == "forward" else sorted_maximum}[reduce]


def _voxels(shape: str, points: Tensor, grid: VoxelGrid) -> Iterator[Case]:
    valid = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    where = grid.shape, grid.lower, grid.upper, grid.scale, grid.offset
    index = ops.voxel_index(points, valid, *where).flatten()

    peers = {
        "reference": forward(lambda points: ops.voxel_index_reference(points, valid, *where), (points,)),
        "torch": forward(lambda points: _axis_by_axis(points, valid, grid), (points,)),
    }
    ours = forward(lambda points: ops.voxel_index(points, valid, *where), (points,))
    yield Case("voxel_index", "forward", shape, ours, peers, 21 * valid.numel())

    def results(found: ops.OccupiedCells) -> Results:
        return found.cells, found.rows, found.plan.order, found.plan.offsets

    occupied = lambda: results(ops.occupied_cells(index, grid.num_voxels))  # noqa: E731
    others: dict[str, Run] = {
        "reference": lambda: results(ops.occupied_cells_reference(index, grid.num_voxels)),
        "torch": lambda: _sorted_in_32_bits(index, grid.num_voxels),
    }
    yield Case("occupied_cells", "forward", shape, occupied, others, 20 * valid.numel())


def _axis_by_axis(points: Tensor, valid: Tensor, grid: VoxelGrid) -> Tensor:
    """Of a small batch of points; one axis after the other of each keeps the numbers in cache."""
    inside = valid
    index = torch.arange(len(points), dtype=torch.int32, device=points.device)[:, None]
    axes = points.mT.contiguous().unbind(1)
    for axis, size in zip((2, 1, 0), grid.shape, strict=True):
        inside = inside & (axes[axis] >= grid.lower[axis]) & (axes[axis] < grid.upper[axis])
        place = (axes[axis] * grid.scale[axis]).add_(grid.offset[axis]).add_(0.5).floor_()
        index = index * size + place.clamp_(0, size - 1).int()
    return torch.where(inside, index.long(), -1)


def _sorted_in_32_bits(index: Tensor, num_cells: int) -> Results:
    cells, order = torch.where(index < 0, num_cells, index).int().sort(stable=True)
    cells, row, counts = cells.unique_consecutive(return_inverse=True, return_counts=True)
    found = len(cells) - int(cells[-1] == num_cells)
    rows = torch.empty_like(row).scatter_(0, order, torch.where(row < found, row, -1))
    return cells[:found].long(), rows, order.int(), pad(counts[:found].cumsum(0), (1, 0)).int()
