"""All that encoders say of a scene: the features of every resolution, each where it lies, read at places.

Networks that give their levels (:class:`GridLevels`, :class:`ImageLevels`) have several, all others the one
that a call gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_on_grid
from renderpretrain.encoders.contract import GridLevels, ImageLevels, PointEncoder
from renderpretrain.encoders.sparse_tensor import SparseTensor
from renderpretrain.geometry import Views, VoxelGrid
from renderpretrain.ops.known_voxels import known_order
from renderpretrain.ops.neighbor_search import linear_keys


@dataclass(frozen=True)
class GridLevel:
    """One resolution of a network on voxels or on volumes.

    Attributes:
        name: The part as ``encoders()`` of a recipe calls it, and which of its levels: ``point_encoder/0``.
        features: Of the cells.
        grid: On whose centres the values lie.
    """

    name: str
    features: SparseTensor | Float[Tensor, "B C Z Y X"]
    grid: VoxelGrid

    def __post_init__(self) -> None:
        if not isinstance(self.features, SparseTensor):
            check_on_grid(self.name, self.features, self.grid.shape)
        elif self.features.spatial_shape != self.grid.shape:
            came = self.features.spatial_shape
            raise ValueError(f"{self.name}: expected voxels on a grid of {self.grid.shape}, got {came}")

    @property
    def channels(self) -> int:
        """Width of the features of a cell."""
        x = self.features
        return (x.features if isinstance(x, SparseTensor) else x).shape[1]

    def rows(self) -> Float[Tensor, "M C"]:
        """The vectors of the cells there are; all cells of a volume."""
        if isinstance(self.features, SparseTensor):
            return self.features.features
        return self.features.movedim(1, -1).flatten(0, 3)

    def read(self, positions: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P C"]:
        """Values at places of the world, trilinear. Differentiable in the features.

        Of voxels those count that there are among the eight around a place, their weights made to sum to 1;
        where there is none the value is 0. Volumes fall to 0 outside their grid. Along an axis of one cell a
        value holds everywhere.

        Args:
            positions: World, metres.
        """
        flat = [axis for axis, size in enumerate(self.grid.shape[::-1]) if size == 1]
        if flat:
            middle = [(low + high) / 2 for low, high in zip(self.grid.lower, self.grid.upper, strict=True)]
            positions = positions.clone()
            positions[..., flat] = ops.constant([middle[axis] for axis in flat], positions)
        if isinstance(self.features, SparseTensor):
            return read_sparse(self.features, positions, self.grid)
        return self.grid.read(self.features.float(), positions)


@dataclass(frozen=True)
class ImageLevel:
    """One resolution of a network on images.

    Attributes:
        name: The part as ``encoders()`` of a recipe calls it, and which of its levels: ``image_neck/0``.
        maps: Features that span the images.
    """

    name: str
    maps: Float[Tensor, "B N C h w"]

    @property
    def channels(self) -> int:
        """Width of the features of a cell."""
        return self.maps.shape[2]

    def rows(self) -> Float[Tensor, "M C"]:
        """The vectors of all cells of all images."""
        return self.maps.movedim(2, -1).flatten(0, 3)

    def read(self, positions: Float[Tensor, "B P 3"], views: Views) -> Float[Tensor, "B P C"]:
        """Values at the pixels of places: the mean over the cameras that see them, 0 where none does.

        Differentiable in the maps.

        Args:
            positions: World, metres.
            views: The images, which say what their cameras saw.
        """
        features, seen, _ = read_seen(self.maps, positions, views)
        total = torch.where(seen[..., None], features, 0.0).sum(1)
        return total / seen.sum(1).clamp(min=1)[..., None]


Level = GridLevel | ImageLevel
"""What an encoder says of a scene at one resolution."""


def read_sparse(
    x: SparseTensor, positions: Float[Tensor, "B P 3"], grid: VoxelGrid
) -> Float[Tensor, "B P C"]:
    """Trilinear among the voxels there are, see :meth:`GridLevel.read`; no volume is made.

    Args:
        x: Voxels of the grid. Differentiable in the features.
        positions: World, metres.
        grid: On whose centres the voxels' values lie.
    """
    size, count = positions.shape[:2]
    features = x.features.float()
    if not len(features):
        return positions.new_zeros(size, count, features.shape[1]) + features.sum()
    rows, weights = _corners(x, grid.to_index(positions.detach().float()))
    total = weights.sum(-1, keepdim=True)
    shares = weights / torch.where(total > 0, total, 1.0)
    # A sum of weighted rows, without a tensor that holds all of them.
    read = nn.functional.embedding_bag(rows, features, mode="sum", per_sample_weights=shares)
    return read.view(size, count, -1)


def _corners(
    x: SparseTensor, index: Float[Tensor, "B P 3"]
) -> tuple[Int[Tensor, "B*P 8"], Float[Tensor, "B*P 8"]]:
    """The rows of the eight voxels around places, and their weights; row 0 with weight 0 where there is none.

    Args:
        x: At least one voxel.
        index: ``(x, y, z)`` counted in voxels.
    """
    ordered, order = linear_keys(x.coords, x.spatial_shape), None
    if not known_order(x.coords, (x.batch_size, *x.spatial_shape)):
        ordered, order = ordered.sort()
    sizes = ops.constant(x.spatial_shape[::-1], index)
    near = ((index >= -1) & (index < sizes)).all(-1)
    index = torch.where(near[..., None], index, 0.0)
    floor = index.floor()
    fraction, low = index - floor, floor.long()
    samples = torch.arange(len(index), device=index.device)[:, None].expand(index.shape[:2])
    rows, weights = [], []
    for z, y in product((0, 1), repeat=2):
        # Along x the second of the two voxels, if there is one, is the next row after the first.
        first = torch.stack([samples, low[..., 2] + z, low[..., 1] + y, low[..., 0]], -1)
        key = linear_keys(first.flatten(0, 1), x.spatial_shape).view(samples.shape)
        inside = near & _within(first[..., 1:3], x.spatial_shape[:2])
        place = torch.searchsorted(ordered, key)
        share = _share(fraction[..., 2], z) * _share(fraction[..., 1], y)
        for step in (0, 1):
            row = place.clamp(max=len(ordered) - 1)
            there = (
                inside & _within(first[..., 3:] + step, x.spatial_shape[2:]) & (ordered[row] == key + step)
            )
            rows.append(torch.where(there, row, 0))
            weights.append(torch.where(there, share * _share(fraction[..., 0], step), 0.0))
            place = place + (ordered[row] == key)
    found = torch.stack(rows, -1).flatten(0, 1)
    return found if order is None else order[found], torch.stack(weights, -1).flatten(0, 1)


def _within(cells: Int[Tensor, "*batch _"], sizes: Sequence[int]) -> Bool[Tensor, "*batch"]:
    """Whether all coordinates lie between 0 and their sizes."""
    return ((cells >= 0) & (cells < ops.constant(tuple(sizes), cells))).all(-1)


def _share(fraction: Tensor, step: int) -> Tensor:
    """The weight of the lower or the upper neighbour along an axis."""
    return fraction if step else 1 - fraction


def read_seen(
    maps: Float[Tensor, "B N C h w"], positions: Float[Tensor, "B P 3"], views: Views
) -> tuple[Float[Tensor, "B N P C"], Bool[Tensor, "B N P"], Float[Tensor, "B N P"]]:
    """What every camera's map holds at the pixels of places, bilinear.

    Args:
        maps: Features that span the images. Differentiable.
        positions: World, metres.
        views: The images, which say what their cameras saw.

    Returns:
        The features, which cameras see the places, and how far these are along their optical axes, metres.
        Where a camera does not see a place its numbers mean nothing.
    """
    pixels, z_depth, inside = views.cameras.project(positions[:, None])
    seen = views.seen_at(pixels, inside & views.valid[..., None])
    span = ops.constant(views.cameras.image_size[::-1], pixels)
    places = torch.where(seen[..., None], 2 * pixels / span - 1, 0.0).flatten(0, 1)[:, None]
    read = nn.functional.grid_sample(
        maps.flatten(0, 1).float(), places, padding_mode="border", align_corners=False
    )
    return read[:, :, 0].unflatten(0, seen.shape[:2]).movedim(2, -1), seen, z_depth


def grid_levels(
    name: str, network: nn.Module, x: SparseTensor | Float[Tensor, "B C Z Y X"], grid: VoxelGrid, *more: Any
) -> list[GridLevel]:
    """The levels of a network on voxels or on volumes, or the one that a call gives.

    Args:
        name: What ``encoders()`` calls the network.
        network: A :class:`PointEncoder`, a :class:`VoxelEncoder` or a neck.
        x: What it is given.
        grid: Of what it is given.
        more: What else it is given.
    """
    if isinstance(network, GridLevels):
        levels, grids = network.levels(x, *more), network.level_grids(grid)
    else:
        levels = [network(x, *more)]
        grids = [grid]
        if isinstance(network, PointEncoder) and not isinstance(levels[0], SparseTensor):
            grids = [network.output_grid(grid)]
    pairs = zip(levels, grids, strict=True)
    return [GridLevel(f"{name}/{i}", level, own) for i, (level, own) in enumerate(pairs)]


def image_levels(
    backbone: nn.Module,
    neck: nn.Module | None,
    images: Float[Tensor, "B N 3 H W"],
    hidden: Bool[Tensor, "B*N 1 _ _"] | None = None,
) -> list[ImageLevel]:
    """The levels of an image network, ``image_backbone/i``, and the maps of its neck, ``image_neck/i``.

    Args:
        backbone: An :class:`ImageEncoder`.
        neck: From the maps that a call of it gives to others.
        images: Normalised images of several cameras.
        hidden: Cells that it must not see, for a network that is told of them.
    """
    maps, given = _all_maps(backbone, (images.flatten(0, 1), *(() if hidden is None else (hidden,))))
    parts = {"image_backbone": maps, "image_neck": [] if neck is None else neck(given)}
    return [
        ImageLevel(f"{name}/{i}", x.unflatten(0, images.shape[:2]))
        for name, levels in parts.items()
        for i, x in enumerate(levels)
    ]


def _all_maps(backbone: nn.Module, given: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """All maps of an image network, and those that a call gives.

    Networks of this package say with ``out_indices`` which of their levels these are; others are asked twice.
    """
    if not isinstance(backbone, ImageLevels):
        maps = list(backbone(*given))
        return maps, maps
    maps = backbone.levels(*given)
    chosen = getattr(backbone, "out_indices", None)
    return maps, list(backbone(*given)) if chosen is None else [maps[i] for i in sorted(chosen)]
