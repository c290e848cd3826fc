"""Lift-splat pooling: a rig like that of nuScenes, 6 images to 360 x 360 cells of a bird's-eye view."""

from collections.abc import Callable, Iterator

import torch
from measure import Case, Results
from torch import Tensor

from renderpretrain import Cameras, VoxelGrid, ops
from renderpretrain.lifters import frustum_points

Pass = Callable[[Tensor, Tensor], Tensor]


def cases(device: str, quick: bool) -> Iterator[Case]:
    """The published width, and one that fits no vector."""
    bins, size, cell = (20, (8, 22), 1.2) if quick else (118, (32, 88), 0.3)
    grid = VoxelGrid((-54.0, -54.0, -10.0, 54.0, 54.0, 10.0), (cell, cell, 20.0))
    points = frustum_points(_rig(), torch.linspace(1.0, 60.0, bins), size)
    cells = ops.frustum_cells(points[None], grid.shape, grid.scale, grid.offset).flatten(0, 1)
    plan = ops.lss_plan(cells, grid.num_voxels).to(device)
    for channels in (80, 17):
        yield from _cases(f"6x{bins}x{size[0]}x{size[1]}, C={channels}", channels, plan)


def _rig() -> Cameras:
    """Six cameras of 704 x 256 pixels and 70 degrees, 60 degrees apart and one metre from the middle."""
    angles = torch.arange(6) * (torch.pi / 3)
    forward = torch.stack([angles.cos(), angles.sin(), torch.zeros(6)], -1)
    down = torch.tensor([0.0, 0.0, -1.0]).expand(6, 3)
    poses = torch.eye(4).repeat(6, 1, 1)
    poses[:, :3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward], -1)
    poses[:, :3, 3] = forward + torch.tensor([0.0, 0.0, 1.5])
    intrinsics = torch.tensor([[503.0, 0.0, 352.0], [0.0, 503.0, 150.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics.expand(6, 3, 3), poses, (256, 704))


def _cases(shape: str, channels: int, plan: ops.LssPlan) -> Iterator[Case]:
    images, height, width, bins = plan.cells.shape
    generator = torch.Generator().manual_seed(0)
    depth = torch.randn(images, bins, height, width, generator=generator).softmax(1)
    features = torch.randn(images, channels, height, width, generator=generator)
    upstream = torch.randn(plan.num_cells, channels, generator=generator).to(plan.cells.device)
    depth = depth.to(plan.cells.device).requires_grad_()
    features = features.to(depth.device).contiguous(memory_format=torch.channels_last).requires_grad_()
    points = _Points(plan)
    sparse = _Sparse(points, plan)
    kept = len(points.cells)
    least = 4 * (depth.numel() + features.numel() + upstream.numel() + 2 * kept)

    def ours(depth: Tensor, features: Tensor) -> Tensor:
        return ops.lss_pool(depth, features, plan)

    def torchs(depth: Tensor, features: Tensor) -> Tensor:
        """The product in full, those of its rows that are kept, and their sum."""
        lifted = depth.permute(0, 2, 3, 1)[..., None] * features.permute(0, 2, 3, 1)[..., None, :]
        total = features.new_zeros(plan.num_cells, channels)
        return total.index_add(0, points.cells, lifted.flatten(0, 3)[points.kept])

    yield Case(
        "lss_pool",
        "forward",
        shape,
        _forward(ours, depth, features),
        {
            "torch": _forward(torchs, depth, features),
            "sparse": _forward(sparse.pool, depth, features),
        },
        least,
        2 * kept * channels,
    )
    yield Case(
        "lss_pool",
        "forward+backward",
        shape,
        _both(ours, depth, features, upstream),
        {
            "torch": _both(torchs, depth, features, upstream),
            "sparse": lambda: sparse.both(depth.detach(), features.detach(), upstream),
        },
        2 * least,
        6 * kept * channels,
    )


class _Points:
    """The kept points pixel by pixel: number, cell, and place in the depth probabilities."""

    def __init__(self, plan: ops.LssPlan) -> None:
        _, height, width, bins = plan.cells.shape
        self.kept = (plan.cells.flatten() >= 0).nonzero()[:, 0]
        self.cells = plan.cells.flatten()[self.kept].long()
        self.pixels = self.kept // bins
        image, bin_ = self.pixels // (height * width), self.kept % bins
        self.places = (image * bins + bin_) * height * width + self.pixels % (height * width)


class _Sparse:
    """Products with a sparse matrix of the depths: the fastest that plain torch can do, by MKL on a CPU."""

    def __init__(self, points: _Points, plan: ops.LssPlan) -> None:
        images, height, width, _ = plan.cells.shape
        self.shape = plan.num_cells, images * height * width
        self.places, sorting = points.places, points.cells.argsort(stable=True)
        self.sorted_places = self.places[sorting]
        self.by_cell = self._rows(points.cells[sorting], points.pixels[sorting], self.shape[0])
        self.by_pixel = self._rows(points.pixels, points.cells, self.shape[1])

    @staticmethod
    def _rows(rows: Tensor, columns: Tensor, count: int) -> tuple[Tensor, Tensor]:
        starts = torch.searchsorted(rows, torch.arange(count + 1, device=rows.device))
        return starts.int(), columns.int()

    def pool(self, depth: Tensor, features: Tensor) -> Tensor:
        matrix = torch.sparse_csr_tensor(*self.by_cell, depth.flatten()[self.sorted_places], self.shape)
        return matrix @ features.permute(0, 2, 3, 1).flatten(0, 2)

    def both(self, depth: Tensor, features: Tensor, upstream: Tensor) -> Results:
        """The result and both gradients: products with the transpose, and of rows where that has entries."""
        shape, rows = self.shape[::-1], features.permute(0, 2, 3, 1)
        matrix = torch.sparse_csr_tensor(*self.by_pixel, depth.flatten()[self.places], shape)
        products = torch.sparse.sampled_addmm(matrix, rows.flatten(0, 2), upstream.mT, beta=0.0).values()
        grad_depth = torch.zeros_like(depth).flatten().index_copy(0, self.places, products).view_as(depth)
        return (
            self.pool(depth, features),
            grad_depth,
            (matrix @ upstream).view(rows.shape).permute(0, 3, 1, 2),
        )


def _forward(pool: Pass, depth: Tensor, features: Tensor) -> Callable[[], Results]:
    def run() -> Results:
        with torch.no_grad():
            return (pool(depth, features),)

    return run


def _both(pool: Pass, depth: Tensor, features: Tensor, upstream: Tensor) -> Callable[[], Results]:
    def run() -> Results:
        pooled = pool(depth, features)
        return pooled.detach(), *torch.autograd.grad(pooled, (depth, features), upstream)

    return run
