"""Which input voxel meets which output voxel under which cell of a 3D kernel.

Voxels are found by sorting their linear positions and searching among them: no grid the size of the scene, no
hash. Axes are ``(z, y, x)``; kernel cells are counted with x fastest, as the weights are laid out.
"""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.encoders.sparse_tensor import SparseTensor, from_linear_keys, linear_keys

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class ConvSpec:
    """What a sparse convolution does to voxels, apart from its weights.

    Attributes:
        kind: ``"submanifold"`` keeps the voxels, ``"strided"`` makes those its kernel reaches, ``"inverse"``
            goes back to the voxels a strided one of the same ``indice_key`` came from.
        kernel_size: Per axis.
        stride: Per axis.
        padding: Per axis.
        indice_key: Name under which layers share the search; ``None`` searches anew.
    """

    kind: str
    kernel_size: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    indice_key: str | None = None

    @property
    def pointwise(self) -> bool:
        """One kernel cell, and every voxel stays where it is."""
        stays = self.kind == "submanifold" or (self.kind == "strided" and self.stride == (1, 1, 1))
        return stays and self.kernel_size == (1, 1, 1)

    def output_shape(self, shape: Triple) -> Triple:
        """``floor((n + 2 padding - kernel) / stride) + 1`` per axis of a strided convolution."""
        z, y, x = (
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(shape, self.kernel_size, self.stride, self.padding, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class Rulebook:
    """The pairs of a convolution and the two sets of voxels they connect.

    Attributes:
        pairs: Rows of input and output for each kernel cell; within a cell no row occurs twice on either
            side. ``None`` pairs every row with itself.
        spec: The convolution it was made for.
        in_coords: Voxels of the input.
        in_shape: Volume of the input.
        out_coords: Voxels of the output.
        out_shape: Volume of the output.
    """

    pairs: tuple[tuple[Tensor, Tensor] | None, ...]
    spec: ConvSpec
    in_coords: Int[Tensor, "M 4"]
    in_shape: Triple
    out_coords: Int[Tensor, "N 4"]
    out_shape: Triple

    def inverted(self) -> "Rulebook":
        """The way back: the same pairs, inputs and outputs exchanged."""
        pairs = tuple(None if pair is None else (pair[1], pair[0]) for pair in self.pairs)
        return Rulebook(pairs, self.spec, self.out_coords, self.out_shape, self.in_coords, self.in_shape)


def submanifold_rulebook(x: SparseTensor, spec: ConvSpec) -> Rulebook:
    """Pairs of each voxel with its occupied neighbours; the kernel's sizes are odd."""
    if any(k % 2 == 0 for k in spec.kernel_size):
        raise ValueError(
            f"kernel_size: expected odd sizes for a submanifold convolution, got {spec.kernel_size}"
        )
    pairs = _neighbour_pairs(x.coords, x.spatial_shape, spec.kernel_size)
    return Rulebook(pairs, spec, x.coords, x.spatial_shape, x.coords, x.spatial_shape)


def strided_rulebook(x: SparseTensor, spec: ConvSpec) -> Rulebook:
    """Pairs of each voxel with every output whose kernel reaches it; the outputs are sorted by position.

    Output ``j`` reads the inputs ``j * stride - padding + k`` for ``k`` in the kernel.
    """
    out_shape = spec.output_shape(x.spatial_shape)
    if min(out_shape) < 1:
        raise ValueError(
            f"spatial_shape: expected at least one output cell per axis of kernel {spec.kernel_size}, stride "
            f"{spec.stride}, padding {spec.padding}, got {x.spatial_shape}"
        )
    candidates = [_candidates(x.coords[:, axis + 1].long(), spec, axis, out_shape[axis]) for axis in range(3)]
    (z_hit, z), (y_hit, y), (w_hit, w) = candidates
    hit = (z_hit[:, None, None] & y_hit[None, :, None] & w_hit[None, None, :]).flatten(0, 2)
    base = x.coords[:, 0].long() * out_shape[0] + z
    keys = (base[:, None, None] * out_shape[1] + y[None, :, None]) * out_shape[2] + w[None, None, :]
    cell, inputs = hit.nonzero(as_tuple=True)
    outputs, rows = keys.flatten(0, 2)[cell, inputs].unique(sorted=True, return_inverse=True)
    counts = hit.sum(1).tolist()
    pairs = tuple(zip(inputs.split(counts), rows.split(counts), strict=True))
    coords = from_linear_keys(outputs, out_shape).to(x.coords.dtype)
    return Rulebook(pairs, spec, x.coords, x.spatial_shape, coords, out_shape)


def _candidates(index: Tensor, spec: ConvSpec, axis: int, size: int) -> tuple[Tensor, Tensor]:
    """Along one axis and for each kernel cell: whether an output reaches the voxel, and which."""
    cells = torch.arange(spec.kernel_size[axis], device=index.device)
    reached = index + spec.padding[axis] - cells[:, None]
    output = reached.div(spec.stride[axis], rounding_mode="floor")
    hit = (output * spec.stride[axis] == reached) & (output >= 0) & (output < size)
    return hit, output


def _neighbour_pairs(
    coords: Tensor, shape: Triple, kernel_size: Triple
) -> tuple[tuple[Tensor, Tensor] | None, ...]:
    """Pairs ``(neighbour, voxel)`` for every kernel cell; the middle cell is every voxel itself.

    The neighbour on one side sees the voxel on the other, so half of the cells are searched and the rest
    mirrored.
    """
    halo = [k // 2 for k in kernel_size]
    # A halo around the volume keeps a neighbour beyond a face from being taken for one on the next row.
    depth, height, width = (n + 2 * h for n, h in zip(shape, halo, strict=True))
    positions = linear_keys(coords, (depth, height, width))
    ordered, order = positions.sort()
    half = []
    for dz, dy in product(range(-halo[0], 1), range(-halo[1], halo[1] + 1)):
        if (dz, dy) <= (0, 0):
            steps = range(-halo[2], halo[2] + 1 if (dz, dy) < (0, 0) else 0)
            half += _row_hits(ordered, (dz * height + dy) * width, steps)
    found, voxel = _select(half, order)
    before = list(zip(found, voxel, strict=True))
    after = [(there, here) for here, there in reversed(before)]
    return (*before, None, *after)


def _row_hits(ordered: Tensor, offset: int, steps: range) -> list[tuple[Tensor, Tensor]]:
    """For kernel cells in a row along x: the place of each voxel's neighbour, and whether it exists.

    One search finds the first; occupied neighbours further along the row follow directly behind.
    """
    if len(steps) == 0:
        return []
    last = max(len(ordered) - 1, 0)
    place = torch.searchsorted(ordered, ordered + (offset + steps[0]))
    hits = []
    for step in steps:
        at = place.clamp(max=last)
        exists = (ordered[at] == ordered + (offset + step)) if len(ordered) else place.bool()
        hits.append((at, exists))
        place = place + exists
    return hits


def _select(hits: list[tuple[Tensor, Tensor]], order: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Rows of neighbour and voxel for each kernel cell, with one question to the device for all of them."""
    if not hits:
        return [], []
    exists = torch.stack([hit for _, hit in hits])
    counts = exists.sum(1).tolist()
    cell, voxel = exists.nonzero(as_tuple=True)
    found = torch.stack([at for at, _ in hits])[cell, voxel]
    return list(order[found].split(counts)), list(order[voxel].split(counts))
