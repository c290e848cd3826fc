"""What a recipe asks of an encoder, and adapters for networks that know nothing of it."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_images
from renderpretrain.encoders.masked import hide_cells
from renderpretrain.encoders.sparse_tensor import SparseTensor, check_sparse
from renderpretrain.encoders.strides import grid_of_outputs
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops.uncompiled import uncompiled

Cells = TypeVar("Cells")
"""A :class:`SparseTensor`, or a volume ``(B, C, Z, Y, X)``."""

Number = TypeVar("Number", int, float)
"""A number for each axis."""


@runtime_checkable
class PointEncoder(Protocol):
    """Voxels in, a volume out: :class:`SparseEncoder`, :class:`VoxelBackBone8x`, or a network in an adapter.

    Attributes:
        out_channels: Width of the volume.
    """

    out_channels: int

    def __call__(self, x: SparseTensor) -> Float[Tensor, "B C Z Y X"]:
        """The volume of the visible voxels, on :meth:`output_grid`."""

    def output_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid on whose centres the volume's values are centred, given the voxels' grid."""


@runtime_checkable
class VoxelEncoder(Protocol):
    """Voxels in, features of the same voxels out: :class:`SparseUNet`.

    Attributes:
        out_channels: Width of the features.
    """

    out_channels: int

    def __call__(self, x: SparseTensor) -> SparseTensor:
        """Features of the visible voxels, in their order."""


@runtime_checkable
class ImageEncoder(Protocol):
    """Images in, feature maps out, fine to coarse: :class:`ConvNeXt`, :class:`ResNet`, a network of timm.

    Attributes:
        channels: Width of every map.
    """

    channels: tuple[int, ...]

    def __call__(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The maps of normalised images, of which the hidden cells are not seen."""


@runtime_checkable
class ImageLevels(Protocol):
    """An image encoder that gives the maps of all its resolutions, for probes and as targets.

    Necks such as :class:`FPN` give all of theirs when they are called.

    Attributes:
        level_channels: Width of every level.
        level_strides: Pixels per cell of every level.
    """

    level_channels: tuple[int, ...]
    level_strides: tuple[int, ...]

    def levels(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """All maps, fine to coarse; those that a call gives are among them."""


@runtime_checkable
class GridLevels(Protocol[Cells]):
    """A network on voxels or on volumes that gives the features of all its resolutions.

    Attributes:
        level_channels: Width of every level.
    """

    level_channels: tuple[int, ...]

    def levels(self, x: Cells) -> list[Cells]:
        """The features of all resolutions; ``levels`` says of every network in which order.

        Of a network that gives a volume the last one is what a call gives, a sparse one's as a volume; of
        one that gives features of the voxels it was given, the first one.
        """

    def level_grids(self, grid: VoxelGrid) -> list[VoxelGrid]:
        """The grids on whose centres the levels' values are centred, given the grid of the input."""


class VolumeEncoder(nn.Module):
    """A dense 3D network of your own as a point encoder.

    Args:
        network: ``(B, C, Z, Y, X) -> (B, out_channels, Z', Y', X')``; it is given 0 where there is no voxel.
        out_channels: Width of its volume.
        stride: Voxels per cell of its volume, ``(z, y, x)`` or one number for all axes.
        first: Where the first output is centred, in voxels from the centre of the first input: 0 for
            convolutions with a centre (kernel 3, padding 1, whatever the stride), 0.5 for pooling of two.
            By default the middle of its ``stride`` voxels, ``(stride - 1) / 2``.

    Raises:
        ValueError: If the network is none, or the stride is not of whole voxels.
    """

    def __init__(
        self,
        network: nn.Module,
        out_channels: int,
        *,
        stride: int | Sequence[int] = 1,
        first: int | float | Sequence[int | float] | None = None,
    ) -> None:
        super().__init__()
        _check_network(network)
        self.network = network
        self.out_channels = out_channels
        self.stride = _three_steps(stride)
        middle = tuple((step - 1) / 2 for step in self.stride)
        self.first = middle if first is None else _three("first", first)

    @uncompiled
    def forward(self, x: SparseTensor) -> Float[Tensor, "B C Z Y X"]:
        """The network's volume, checked against what was said of it. Differentiable."""
        check_sparse(x)
        volume = self.network(x.dense())
        expected = (x.batch_size, self.out_channels, *self._shape(x.spatial_shape))
        if not isinstance(volume, Tensor) or tuple(volume.shape) != expected:
            raise ValueError(
                f"encoder: expected a volume {expected} of voxels {x.spatial_shape}, as out_channels="
                f"{self.out_channels} and stride={self.stride} say, got {_described(volume)}"
            )
        return volume

    def _shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        z, y, x = (-(-size // step) for size, step in zip(shape, self.stride, strict=True))
        return z, y, x

    def output_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid of the network's volume, given the voxels' grid."""
        return grid_of_outputs(grid, self.first, self.stride, self._shape(grid.shape))


class FlatEncoder(nn.Module):
    """A network of your own on a list of voxels, such as a point transformer, as a point encoder.

    Its features are averaged in cells of ``stride`` voxels.

    Args:
        network: ``(positions (M, 3), features (M, C), sample (M,)) -> (M, out_channels)``. Positions are
            ``(x, y, z)`` in voxels from the grid's lower corner; sample says which of the batch a row is of.
        out_channels: Width of its features.
        stride: Voxels per cell of the volume, ``(z, y, x)`` or one number for all axes.

    Raises:
        ValueError: If the network is none, or the stride is not of whole voxels.
    """

    def __init__(self, network: nn.Module, out_channels: int, *, stride: int | Sequence[int] = 1) -> None:
        super().__init__()
        _check_network(network)
        self.network = network
        self.out_channels = out_channels
        self.stride = _three_steps(stride)

    @uncompiled
    def forward(self, x: SparseTensor) -> Float[Tensor, "B C Z Y X"]:
        """The volume of the features. Differentiable."""
        check_sparse(x)
        coords = x.coords.long()
        features = self.network(coords[:, 1:].flip(1) + 0.5, x.features, coords[:, 0])
        expected = (len(coords), self.out_channels)
        if not isinstance(features, Tensor) or tuple(features.shape) != expected:
            raise ValueError(
                f"encoder: expected features {expected} of {len(coords)} voxels, as out_channels says, got "
                f"{_described(features)}"
            )
        return _cell_means(features, coords, self.stride, x)

    def output_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """The grid of the cells, given the voxels' grid."""
        first = tuple((step - 1) / 2 for step in self.stride)
        z, y, x = (-(-size // step) for size, step in zip(grid.shape, self.stride, strict=True))
        return grid_of_outputs(grid, first, self.stride, (z, y, x))


def _cell_means(
    features: Float[Tensor, "M C"], coords: Int[Tensor, "M 4"], stride: tuple[int, int, int], x: SparseTensor
) -> Float[Tensor, "B C Z Y X"]:
    """Means of the rows in every cell of ``stride`` voxels, 0 in an empty one."""
    z, y, w = (-(-size // step) for size, step in zip(x.spatial_shape, stride, strict=True))
    b, i, j, k = (coords // ops.constant((1, *stride), coords)).unbind(1)
    cell = ((b * z + i) * y + j) * w + k
    rows = features.new_zeros(x.batch_size * z * y * w, features.shape[1]).index_add(0, cell, features)
    # A count of each cell would ask an accelerator for the largest.
    counts = cell.new_zeros(len(rows)).index_add(0, cell, torch.ones_like(cell)).clamp(min=1)
    return (rows / counts[:, None]).view(x.batch_size, z, y, w, -1).permute(0, 4, 1, 2, 3)


class ImageMaps(nn.Module):
    """An image network of your own as an image encoder; what is hidden is hidden in the pixels.

    Args:
        network: ``(B, 3, H, W)`` to one feature map or to several, fine to coarse.
        channels: Width of every map.

    Raises:
        ValueError: If the network is none, or the channels are no list.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor | Sequence[Tensor]], channels: Sequence[int]
    ) -> None:
        super().__init__()
        _check_network(network)
        if isinstance(channels, int):
            raise ValueError(f"channels: expected a list, the width of every map, got {channels}")
        self.network = network
        self.channels = tuple(channels)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B 1 _ _"] | None = None
    ) -> list[Float[Tensor, "B _ _ _"]]:
        """The network's maps. Differentiable.

        Args:
            images: Normalised images.
            hidden: Cells that become 0, the mean colour.
        """
        check_images(images, "B 3 H W")
        maps = self.network(hide_cells(images, hidden))
        maps = [maps] if isinstance(maps, Tensor) else maps
        fits = isinstance(maps, list | tuple) and all(isinstance(x, Tensor) and x.dim() == 4 for x in maps)
        if not fits or tuple(x.shape[1] for x in maps) != self.channels:
            came = ", ".join(map(_described, maps)) if isinstance(maps, list | tuple) else _described(maps)
            raise ValueError(f"encoder: expected maps (B, C, h, w) with C of {self.channels}, got {came}")
        return list(maps)


def _check_network(network: object) -> None:
    """Raise a ``ValueError`` unless a network can be asked: a class of one cannot."""
    name = getattr(network, "__name__", type(network).__name__)
    if isinstance(network, type):
        raise ValueError(f"network: expected a network, got the class {name}; hand in {name}(...)")
    if not callable(network):
        raise ValueError(f"network: expected a network, got {name} {network!r:.60}")


def _three(name: str, value: Number | Sequence[Number]) -> tuple[Number, Number, Number]:
    """One number for each axis, ``(z, y, x)``."""
    given = (value,) * 3 if isinstance(value, int | float) else tuple(value)
    if len(given) != 3:
        raise ValueError(f"{name}: expected one number or three, (z, y, x), got {value}")
    z, y, x = given
    return z, y, x


def _three_steps(stride: int | Sequence[int]) -> tuple[int, int, int]:
    """Voxels per cell on each axis."""
    steps = _three("stride", stride)
    if any(not isinstance(step, int) or step < 1 for step in steps):
        raise ValueError(f"stride: expected whole voxels per cell, at least 1, got {stride}")
    return steps


def _described(answer: object) -> str:
    """The shape of a tensor, or the type of what is none."""
    return str(tuple(answer.shape)) if isinstance(answer, Tensor) else type(answer).__name__
