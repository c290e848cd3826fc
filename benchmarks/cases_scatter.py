"""Points to voxels: their voxel, the occupied ones, and what is gathered in each."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measure import Case, Results
from torch import Tensor

from renderpretrain import VoxelGrid, ops


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


def _scatter(shape: str, values: Tensor, index: Tensor, num_cells: int, reduce: Any) -> Iterator[Case]:
    def ours(values: Tensor) -> Tensor:
        return ops.voxel_scatter(values, index, num_cells, reduce=reduce)

    sides = {"": ours, "torch": _torchs(index, num_cells, reduce), **_libraries(index, num_cells, reduce)}
    cotangent = torch.randn(num_cells, values.shape[1], device=values.device)
    passes = {"forward": _forward, "forward+backward": _both}
    size = values.numel() + cotangent.numel()
    for stage, num_bytes in (("forward", 4 * size), ("forward+backward", 4 * (size + 2 * values.numel()))):
        runs = {name: passes[stage](side, values, cotangent) for name, side in sides.items()}
        # torch shares the gradient of a maximum among all that attain it.
        differing = ("torch",) if reduce == "max" and stage != "forward" else ()
        yield Case("voxel_scatter", stage, shape, runs.pop(""), runs, num_bytes, not_compared=differing)


def _forward(scatter: Callable[[Tensor], Tensor], values: Tensor, cotangent: Tensor) -> Callable[[], Results]:
    def run() -> Results:
        with torch.no_grad():
            return (scatter(values),)

    return run


def _both(scatter: Callable[[Tensor], Tensor], values: Tensor, cotangent: Tensor) -> Callable[[], Results]:
    def run() -> Results:
        return torch.autograd.grad(scatter(values), values, cotangent)

    return run


def _torchs(index: Tensor, num_cells: int, reduce: str) -> Callable[[Tensor], Tensor]:
    """The fastest of torch's ways for each reduction."""

    def scatter(values: Tensor) -> Tensor:
        out = values.new_zeros(num_cells, values.shape[1])
        if reduce == "max":
            with warnings.catch_warnings():  # "in beta"
                warnings.simplefilter("ignore")
                return out.index_reduce(0, index, values, "amax", include_self=False)
        if reduce == "mean":
            rows = index[:, None].expand_as(values)
            return out.scatter_reduce(0, rows, values, "mean", include_self=False)
        return out.index_add_(0, index, values)

    return scatter


def _libraries(index: Tensor, num_cells: int, reduce: str) -> dict[str, Callable[[Tensor], Tensor]]:
    try:
        from torch_scatter import scatter
    except Exception:
        return {}

    def run(values: Tensor) -> Tensor:
        return scatter(values, index, 0, dim_size=num_cells, reduce=reduce)

    return {"torch_scatter": run}


def _voxels(shape: str, points: Tensor, grid: VoxelGrid) -> Iterator[Case]:
    valid = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
    where = grid.shape, grid.lower, grid.upper, grid.scale, grid.offset
    index = ops.voxel_index(points, valid, *where).flatten()

    def cells() -> Results:
        return (ops.voxel_index(points, valid, *where),)

    def torch_cells() -> Results:
        return (ops.voxel_index_reference(points, valid, *where),)

    yield Case("voxel_index", "forward", shape, cells, {"torch": torch_cells}, 21 * valid.numel())

    def results(found: ops.OccupiedCells) -> Results:
        return found.cells, found.rows, found.plan.offsets

    def occupied() -> Results:
        return results(ops.occupied_cells(index, grid.num_voxels))

    def torch_occupied() -> Results:
        return results(ops.occupied_cells_reference(index, grid.num_voxels))

    yield Case("occupied_cells", "forward", shape, occupied, {"torch": torch_occupied}, 20 * valid.numel())
