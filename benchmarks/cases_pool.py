"""Lift-splat pooling and its plan: 6 images, as in nuScenes, to 360 x 360 cells of a bird's-eye view."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from measure import Case, Results, both_passes, cotangents_of, forward
from torch import Tensor
from torch.nn.functional import embedding_bag

from renderpretrain import Cameras, VoxelGrid, ops
from renderpretrain.lifters import frustum_points

OPERATORS = ("frustum_cells", "lss_plan", "lss_pool")


def cases(device: str, quick: bool) -> Iterator[Case]:
    """The published width, and one that fits no vector."""
    bins, size, cell = (20, (8, 22), 1.2) if quick else (118, (32, 88), 0.3)
    grid = VoxelGrid((-54.0, -54.0, -10.0, 54.0, 54.0, 10.0), (cell, cell, 20.0))
    points = frustum_points(_rig(), torch.linspace(1.0, 60.0, bins), size)[None].to(device)
    shape = f"6x{bins}x{size[0]}x{size[1]}"
    yield _cells(shape, points, grid)
    cells = ops.frustum_cells(points, grid.shape, grid.scale, grid.offset).flatten(0, 1)
    yield _plan(shape, cells, grid.num_voxels)
    plan = ops.lss_plan(cells, grid.num_voxels)
    for channels in (80, 17):
        yield from _pool(f"{shape}, C={channels}", channels, plan)


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


def _cells(shape: str, points: Tensor, grid: VoxelGrid) -> Case:
    where = grid.shape, grid.scale, grid.offset

    def all_axes_at_once(points: Tensor) -> Tensor:
        """As published, but rounded down."""
        index = (points * points.new_tensor(grid.scale) + (points.new_tensor(grid.offset) + 0.5)).floor()
        inside = ((index >= 0) & (index < index.new_tensor(grid.shape[::-1]))).all(-1)
        x, y, z = index.long().unbind(-1)
        return torch.where(inside, (z * grid.shape[1] + y) * grid.shape[2] + x, -1)

    ours = forward(lambda points: ops.frustum_cells(points, *where), (points,))
    num_bytes = 20 * points.shape[:-1].numel()
    peers = {"torch": forward(all_axes_at_once, (points,))}
    return Case("frustum_cells", "forward", shape, ours, peers, num_bytes)


def _plan(shape: str, cells: Tensor, num_cells: int) -> Case:
    """What every step pays whose images are augmented."""

    def ours() -> Results:
        plan = ops.lss_plan(cells, num_cells)
        return plan.order, plan.starts, plan.pixels, plan.bins

    def by_cell() -> Results:
        """The kept points sorted by the number of their cell, as published."""
        num_bins, pixels = cells.shape[1], cells.shape[2] * cells.shape[3]
        (kept,) = (cells.flatten() >= 0).nonzero(as_tuple=True)
        found, sorting = cells.flatten()[kept].sort(stable=True)
        kept = kept[sorting]
        image, place = kept // (num_bins * pixels), kept % (num_bins * pixels)
        starts = torch.searchsorted(found, torch.arange(num_cells + 1, device=cells.device))
        return starts, image * pixels + place % pixels, place // pixels

    num_bytes = cells.element_size() * cells.numel() + 12 * cells.numel()
    # Ours has the cells in another order, and keeps the dropped points; lss_pool computes with the plan.
    return Case("lss_plan", "forward", shape, ours, {"torch": by_cell}, num_bytes, not_compared=("torch",))


def _pool(shape: str, channels: int, plan: ops.LssPlan) -> Iterator[Case]:
    images, height, width, bins = plan.cells.shape
    device, generator = plan.cells.device, torch.Generator().manual_seed(0)
    depth = torch.randn(images, bins, height, width, generator=generator).softmax(1)
    features = torch.randn(images, channels, height, width, generator=generator).to(device)
    depth = depth.to(device).requires_grad_()
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    points = _Points(plan)
    sparse = _Sparse(points, plan)

    def lifted(depth: Tensor, features: Tensor) -> Tensor:
        """The product in full, those of its rows that are kept, and their sum: as published."""
        product = depth.permute(0, 2, 3, 1)[..., None] * features.permute(0, 2, 3, 1)[..., None, :]
        total = features.new_zeros(plan.num_cells, channels)
        return total.index_add(0, points.cells, product.flatten(0, 3)[points.kept])

    functions = {
        "": lambda depth, features: ops.lss_pool(depth, features, plan),
        "lift": lifted,
        "torch": sparse.bags,
    }
    sides = {name: (function, (depth, features)) for name, function in functions.items()}
    least = 4 * (depth.numel() + features.numel() + plan.num_cells * channels + 2 * len(points.cells))
    num_flops = 2 * len(points.cells) * channels
    both = both_passes("lss_pool", shape, sides, (least, 2 * least), (num_flops, 3 * num_flops))
    detached = depth.detach(), features.detach()
    (upstream,) = cotangents_of((features.new_empty(plan.num_cells, channels),))
    for case, run in zip(
        both,
        (lambda: (sparse.pool(*detached),), lambda: sparse.gradients(*detached, upstream)),
        strict=True,
    ):
        yield replace(case, peers={**case.peers, "sparse": run})


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
    """Sums over the points sorted by cell: of rows with weights, or as products with a sparse matrix.

    These are the fastest that plain torch can do; the products are MKL's on a CPU.
    """

    def __init__(self, points: _Points, plan: ops.LssPlan) -> None:
        images, height, width, _ = plan.cells.shape
        self.shape = plan.num_cells, images * height * width
        self.places, sorting = points.places, points.cells.argsort(stable=True)
        self.sorted_places, self.sorted_pixels = self.places[sorting], points.pixels[sorting]
        self.by_cell = self._rows(points.cells[sorting], self.sorted_pixels, self.shape[0])
        self.by_pixel = self._rows(points.pixels, points.cells, self.shape[1])
        self.starts = self.by_cell[0][:-1].long()

    @staticmethod
    def _rows(rows: Tensor, columns: Tensor, count: int) -> tuple[Tensor, Tensor]:
        starts = torch.searchsorted(rows, torch.arange(count + 1, device=rows.device))
        return starts.int(), columns.int()

    def bags(self, depth: Tensor, features: Tensor) -> Tensor:
        rows, weights = features.permute(0, 2, 3, 1).flatten(0, 2), depth.flatten()[self.sorted_places]
        return embedding_bag(self.sorted_pixels, rows, self.starts, per_sample_weights=weights, mode="sum")

    def pool(self, depth: Tensor, features: Tensor) -> Tensor:
        matrix = torch.sparse_csr_tensor(*self.by_cell, depth.flatten()[self.sorted_places], self.shape)
        return matrix @ features.permute(0, 2, 3, 1).flatten(0, 2)

    def gradients(self, depth: Tensor, features: Tensor, upstream: Tensor) -> Results:
        """After the result: products with the transpose, and of rows where that has entries."""
        self.pool(depth, features)
        shape, rows = self.shape[::-1], features.permute(0, 2, 3, 1)
        matrix = torch.sparse_csr_tensor(*self.by_pixel, depth.flatten()[self.places], shape)
        products = torch.sparse.sampled_addmm(matrix, rows.flatten(0, 2), upstream.mT, beta=0.0).values()
        grad_depth = torch.zeros_like(depth).flatten().index_copy(0, self.places, products).view_as(depth)
        return grad_depth, (matrix @ upstream).view(rows.shape).permute(0, 3, 1, 2)
