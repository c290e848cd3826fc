"""Reading a volume at points: once, with gradients, and with the gradients of the gradient."""

from collections.abc import Callable, Iterator

import torch
from measure import Case, Results, gradients
from torch import Tensor

from renderpretrain import VoxelGrid, ops


def cases(device: str, quick: bool) -> Iterator[Case]:
    """The volumes of UniPAD (180 x 180 x 5) and of a room (128^3), read along rays."""
    street = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))
    room = VoxelGrid((0.0, 0.0, 0.0, 12.8, 12.8, 12.8), (0.1, 0.1, 0.1))
    many, few = (1 << 14, 1 << 12) if quick else (1 << 19, 1 << 16)
    for name, grid, widths in (("180x180x5", street, (32, 64)), ("128^3", room, (16, 64, 3, 17))):
        for channels in widths:
            scene = _scene(grid, channels, many, device)
            yield from _first_order(f"{name}, C={channels}, {many} points", grid, *scene)
            scene = _scene(grid, channels, few, device)
            yield _second_order(f"{name}, C={channels}, {few} points", grid, *scene)


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


def _readers(grid: VoxelGrid) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Ours and torch's, as functions of volume and points; torch's takes its own layout."""
    size = torch.tensor(grid.shape[::-1])

    def ours(volume: Tensor, points: Tensor) -> Tensor:
        return ops.grid_sample(volume, points, grid.scale, grid.offset)

    def torchs(volume: Tensor, points: Tensor) -> Tensor:
        index = points * points.new_tensor(grid.scale) + points.new_tensor(grid.offset)
        places = (2 * index + 1) / size.to(points) - 1
        read = torch.nn.functional.grid_sample(volume, places[:, :, None, None], align_corners=False)
        return read[..., 0, 0].mT

    return ours, torchs


def _first_order(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Iterator[Case]:
    ours, torchs = _readers(grid)
    plain = volume.detach().contiguous(memory_format=torch.contiguous_format).requires_grad_()
    num_values = points.shape[1] * volume.shape[1]

    def forward(reader: Callable[..., Tensor], source: Tensor) -> Callable[[], Results]:
        def run() -> Results:
            with torch.no_grad():
                return (reader(source, points),)

        return run

    least = 4 * (min(volume.numel(), 8 * num_values) + points.numel() + num_values)
    yield Case(
        "grid_sample",
        "forward",
        shape,
        forward(ours, volume),
        {"torch": forward(torchs, plain)},
        least,
        16 * num_values,
    )
    values, expected = ours(volume, points), torchs(plain, points)
    cotangent = (torch.randn_like(values),)
    yield Case(
        "grid_sample",
        "backward",
        shape,
        gradients((values,), (volume, points), cotangent),
        {"torch": gradients((expected,), (plain, points), cotangent)},
        least + 4 * volume.numel() + 4 * points.numel(),
        32 * num_values,
        # The derivative by a point sums differences of channels along rays in float32.
        tolerance=1e-3,
    )


def _second_order(shape: str, grid: VoxelGrid, volume: Tensor, points: Tensor) -> Case:
    """Training a distance field with normals: the gradient of a function of the gradient by the points."""
    ours, torchs = _readers(grid)
    plain = volume.detach().contiguous(memory_format=torch.contiguous_format).requires_grad_()
    upstream = torch.randn(1, points.shape[1], volume.shape[1], device=volume.device, requires_grad=True)
    along = torch.randn_like(points)

    def twice(reader: Callable[..., Tensor], source: Tensor) -> Callable[[], Results]:
        read = reader(source, points)
        (slopes,) = torch.autograd.grad(read, points, upstream, create_graph=True)
        return gradients((slopes,), (source, points, upstream), (along,))

    return Case(
        "grid_sample",
        "double backward",
        shape,
        twice(ours, volume),
        {"torch": twice(torchs, plain)},
        4 * (2 * volume.numel() + 4 * points.numel() + 2 * upstream.numel()),
        48 * upstream.numel(),
        tolerance=1e-3,
    )
