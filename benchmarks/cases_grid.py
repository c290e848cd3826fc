"""Volumes at points: reading with first and second gradients, normals, and adding into them."""

from collections.abc import Callable, Iterator

import torch
from measure import Case, Results, both_passes, cotangents_of, forward, gradients
from torch import Tensor
from torch.nn import functional

from renderpretrain import VoxelGrid, ops

OPERATORS = ("grid_sample", "grid_sample_vjp", "splat")

Reader = Callable[[Tensor, Tensor], Tensor]

HALF = (torch.bfloat16, torch.float16)

MANY_VOXELS = 1 << 20
"""Adding rows to so large a volume F.grid_sample is by far the fastest of torch's ways."""


def cases(device: str, quick: bool) -> Iterator[Case]:
    """The volumes of UniPAD (180 x 180 x 5) and of a room (128^3), read along rays."""
    street = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
    room = VoxelGrid((0.0, 0.0, 0.0, 12.8, 12.8, 12.8), (0.4, 0.4, 0.4) if quick else (0.1, 0.1, 0.1))
    many, few = (1 << 14, 1 << 12) if quick else (1 << 19, 1 << 16)
    rooms = f"{room.shape[0]}^3", room, (16, 64, 3, 17)
    for name, grid, widths in (("180x180x5", street, (32, 64)), rooms):
        for channels in widths:
            scene = _scene(grid, channels, many, device)
            shape = f"{name}, C={channels}, {many} points"
            yield from _first_order(shape, grid, *scene)
            yield _second_order(
                f"{name}, C={channels}, {few} points", grid, *_scene(grid, channels, few, device)
            )
            yield _normals(shape, grid, *scene)
            if channels == widths[0]:
                yield from _half(shape, grid, *scene)
                yield from _splat(shape, grid, *scene)


def _scene(grid: VoxelGrid, channels: int, count: int, device: str) -> tuple[Tensor, Tensor]:
    """A volume, and points in the order of rays of 96 samples from its middle.

    They keep off the voxels' centres, where the slope jumps and rounding decides on which side one is.
    """
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, channels, *grid.shape, generator=generator)
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    ends = lower + torch.rand(count // 96 + 1, 1, 3, generator=generator) * (upper - lower)
    t = torch.linspace(0.02, 1.0, 96)[:, None]
    points = (0.5 * (lower + upper) * (1 - t) + ends * t).reshape(1, -1, 3)[:, :count]
    scale, offset = torch.tensor(grid.scale), torch.tensor(grid.offset)
    index = points * scale + offset
    index = index.floor() + (index - index.floor()).clamp(0.01, 0.99)
    points = (index - offset) / scale
    return (
        volume.to(device).contiguous(memory_format=torch.channels_last_3d).requires_grad_(),
        points.to(device).contiguous().requires_grad_(),
    )


def _corners(points: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """The eight voxels around each point (P, 8), counted x fastest, and their weights, 0 outside."""
    found = []
    for axis, size in enumerate(grid.shape[::-1]):
        index = points[:, axis] * grid.scale[axis] + grid.offset[axis]
        low = index.detach().floor()
        both = low.long()[:, None] + torch.arange(2, device=points.device)
        shares = torch.stack([1 - (index - low), index - low], -1) * ((both >= 0) & (both < size))
        found.append((both.clamp(0, size - 1), shares))
    (x, by_x), (y, by_y), (z, by_z) = found
    voxels = (z[:, :, None] * grid.shape[1] + y[:, None, :])[..., None] * grid.shape[2] + x[:, None, None, :]
    weights = (by_z[:, :, None] * by_y[:, None, :])[..., None] * by_x[:, None, None, :]
    return voxels.flatten(1), weights.flatten(1)


def _ours(grid: VoxelGrid) -> Reader:
    return lambda volume, points: ops.grid_sample(volume, points, grid.scale, grid.offset)


def _sampler(grid: VoxelGrid) -> Reader:
    """Torch's own function, which wants volume and points in one type."""
    size = torch.tensor(grid.shape[::-1])

    def read(volume: Tensor, points: Tensor) -> Tensor:
        index = points * points.new_tensor(grid.scale) + points.new_tensor(grid.offset)
        places = (2 * index + 1) / size.to(points) - 1
        read = functional.grid_sample(volume.float(), places[:, :, None, None], align_corners=False)
        return read[..., 0, 0].mT

    return read


def _bags(grid: VoxelGrid) -> Reader:
    """Eight rows of a volume with the channels last, weighted and summed in one go."""

    def read(volume: Tensor, points: Tensor) -> Tensor:
        rows = volume[0].permute(1, 2, 3, 0).flatten(0, 2).float()
        voxels, weights = _corners(points[0], grid)
        return functional.embedding_bag(voxels, rows, per_sample_weights=weights, mode="sum")[None]

    return read


def _readers(grid: VoxelGrid, volume: Tensor) -> dict[str, tuple[Reader, Tensor]]:
    """Everybody with the volume in the layout that suits him."""
    plain = volume.detach().contiguous(memory_format=torch.contiguous_format).requires_grad_()
    return {
        "": (_ours(grid), volume),
        "F.grid_sample": (_sampler(grid), plain),
        "torch": (_bags(grid), volume),
    }


def _first_order(
    shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor, tolerance: float = 1e-3
) -> Iterator[Case]:
    readers = _readers(grid, volume)
    num_values = points.shape[1] * volume.shape[1]
    in_volume = volume.element_size() * volume.numel()
    least = min(in_volume, 8 * volume.element_size() * num_values) + 4 * (points.numel() + num_values)
    runs = {name: forward(read, (source, points)) for name, (read, source) in readers.items()}
    yield Case("grid_sample", "forward", shape, runs.pop(""), runs, least, 16 * num_values)
    if grid.num_voxels >= MANY_VOXELS:
        del readers["torch"]
    runs = {
        name: gradients((read(source, points),), (source, points)) for name, (read, source) in readers.items()
    }
    least += in_volume + 4 * points.numel()
    # The derivative by a point sums differences of channels along rays in float32.
    yield Case(
        "grid_sample", "backward", shape, runs.pop(""), runs, least, 32 * num_values, tolerance=tolerance
    )


def _half(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Iterator[Case]:
    """Volumes of half precision, in which the gradient by the volume is rounded."""
    for dtype in HALF:
        stored = volume.detach().to(dtype).requires_grad_()
        yield from _first_order(f"{shape}, {str(dtype).removeprefix('torch.')}", grid, stored, points, 1e-2)


def _second_order(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Case:
    """Training a distance field with normals: the gradient of a function of the gradient by the points."""
    readers = _readers(grid, volume)
    del readers["torch"]  # what embedding_bag computes can be differentiated once
    if grid.num_voxels < MANY_VOXELS:
        readers["reference"] = (
            lambda volume, points: ops.grid_sample_reference(volume, points, grid.scale, grid.offset),
            volume,
        )
    upstream = torch.randn(1, points.shape[1], volume.shape[1], device=volume.device, requires_grad=True)

    def twice(reader: Reader, source: Tensor) -> Callable[[], Results]:
        read = reader(source, points)
        (slopes,) = torch.autograd.grad(read, points, upstream, create_graph=True)
        return gradients((slopes,), (source, points, upstream))

    runs = {name: twice(*side) for name, side in readers.items()}
    num_bytes = 4 * (2 * volume.numel() + 4 * points.numel() + 2 * upstream.numel())
    num_flops = 48 * upstream.numel()
    ours = runs.pop("")
    return Case("grid_sample", "double backward", shape, ours, runs, num_bytes, num_flops, tolerance=1e-3)


def _normals(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Case:
    """The gradient by the points alone; the peers' reading, which a field needs anyway, is not counted."""
    readers = _readers(grid, volume)
    _, source = readers.pop("")
    runs = {name: gradients((read(volume, points),), (points,)) for name, (read, volume) in readers.items()}
    (cotangents,) = cotangents_of((source.new_empty(1, points.shape[1], volume.shape[1]),))

    def ours(volume: Tensor, points: Tensor) -> Tensor:
        return ops.grid_sample_vjp(volume, points, cotangents, grid.scale, grid.offset)

    num_values = cotangents.numel()
    num_bytes = 4 * (min(volume.numel(), 8 * num_values) + 2 * points.numel() + num_values)
    run = forward(ours, (source, points))
    return Case("grid_sample_vjp", "forward", shape, run, runs, num_bytes, 24 * num_values, tolerance=1e-3)


def _splat(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Iterator[Case]:
    num_voxels, channels = grid.num_voxels, volume.shape[1]
    values = torch.randn(1, points.shape[1], channels, device=points.device, requires_grad=True)

    def corner_by_corner(values: Tensor, points: Tensor) -> Tensor:
        voxels, weights = _corners(points[0], grid)
        rows = values.new_zeros(num_voxels, channels)
        for corner in range(8):
            rows.index_add_(0, voxels[:, corner], weights[:, corner, None] * values[0])
        return rows.view(1, *grid.shape, channels).permute(0, 4, 1, 2, 3)

    where = grid.shape, grid.scale, grid.offset
    sides = {
        "": lambda values, points: ops.splat(values, points, *where),
        "reference": lambda values, points: ops.splat_reference(values, points, *where),
        "torch": corner_by_corner,
    }
    inputs = values, points
    least = 4 * (values.numel() + points.numel() + volume.numel())
    num_bytes = least, 2 * least + 4 * volume.numel()
    num_flops = 16 * values.numel(), 48 * values.numel()
    both = {name: (side, inputs) for name, side in sides.items()}
    yield from both_passes("splat", shape, both, num_bytes, num_flops, (1e-4, 1e-3))
