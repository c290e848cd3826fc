"""A regular box of voxels in the world: the only place where metres become voxel indices."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops

Meters = int | float
"""A length, as people write it: 32 or 32.5."""


@dataclass(frozen=True)
class VoxelGrid:
    """An axis-aligned box cut into voxels; a voxel holds the value at its centre.

    Voxel ``i`` spans ``[lower + i * size, lower + (i + 1) * size]``, its centre is index ``i``, and the box
    runs edge to edge. Tensors on the grid are ``(B, C, Z, Y, X)``, coordinates are ``(x, y, z)``.

    Attributes:
        point_cloud_range: ``(x_min, y_min, z_min, x_max, y_max, z_max)``, metres.
        voxel_size: ``(x, y, z)``, metres; divides the range to one part in a thousand of a voxel.
    """

    point_cloud_range: tuple[Meters, Meters, Meters, Meters, Meters, Meters]
    voxel_size: tuple[Meters, Meters, Meters]

    def __post_init__(self) -> None:
        for name in ("point_cloud_range", "voxel_size"):
            given = getattr(self, name)
            if isinstance(given, (list, tuple)):  # lists as YAML has them; a grid is hashable
                numbers = tuple(float(x) if isinstance(x, int) else x for x in given)
                object.__setattr__(self, name, numbers)
        if len(self.point_cloud_range) != 6 or len(self.voxel_size) != 3:
            raise ValueError(
                "VoxelGrid: expected 6 numbers for point_cloud_range and 3 for voxel_size, "
                f"got {self.point_cloud_range} and {self.voxel_size}"
            )
        for axis, low, high, size in zip("xyz", self.lower, self.upper, self.voxel_size, strict=True):
            if not (high > low and size > 0):
                raise ValueError(
                    f"VoxelGrid: {axis}: expected max > min and a positive voxel size, "
                    f"got [{low:g}, {high:g}], {size:g}"
                )
            count = (high - low) / size
            if abs(count - round(count)) > 1e-3:
                raise ValueError(
                    f"voxel_size: {size:g} m does not divide the {axis} extent [{low:g}, {high:g}] m"
                )

    @staticmethod
    def corner_aligned(
        point_cloud_range: tuple[Meters, Meters, Meters, Meters, Meters, Meters], shape: tuple[int, int, int]
    ) -> "VoxelGrid":
        """The grid whose first and last voxel centres lie on the faces of the range.

        This is what ``align_corners=True`` over the range means; published code that reads volumes so is
        reproduced exactly by growing the box by half a step on every side.

        Args:
            point_cloud_range: Range between the outermost voxel centres, metres.
            shape: ``(Z, Y, X)``, at least 2 each.
        """
        lower, upper = point_cloud_range[:3], point_cloud_range[3:]
        steps = tuple((high - low) / (n - 1) for low, high, n in zip(lower, upper, shape[::-1], strict=True))
        grown = [low - s / 2 for low, s in zip(lower, steps, strict=True)]
        grown += [high + s / 2 for high, s in zip(upper, steps, strict=True)]
        return VoxelGrid(tuple(grown), steps)  # type: ignore[arg-type]

    @property
    def lower(self) -> tuple[float, float, float]:
        """Lower corner ``(x, y, z)``, metres."""
        return self.point_cloud_range[0], self.point_cloud_range[1], self.point_cloud_range[2]

    @property
    def upper(self) -> tuple[float, float, float]:
        """Upper corner ``(x, y, z)``, metres."""
        return self.point_cloud_range[3], self.point_cloud_range[4], self.point_cloud_range[5]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(Z, Y, X)``: the shape of a tensor on this grid."""
        x, y, z = (
            round((high - low) / size)
            for low, high, size in zip(self.lower, self.upper, self.voxel_size, strict=True)
        )
        return z, y, x

    @property
    def num_voxels(self) -> int:
        """``Z * Y * X``."""
        z, y, x = self.shape
        return z * y * x

    @property
    def scale(self) -> tuple[float, float, float]:
        """Voxels per metre, ``(x, y, z)``: ``index = point * scale + offset``."""
        x, y, z = self.voxel_size
        return 1 / x, 1 / y, 1 / z

    @property
    def offset(self) -> tuple[float, float, float]:
        """Index of the world origin, ``(x, y, z)``: ``index = point * scale + offset``."""
        x, y, z = (-low / size - 0.5 for low, size in zip(self.lower, self.voxel_size, strict=True))
        return x, y, z

    def coarsened(self, factor: tuple[int, int, int]) -> "VoxelGrid":
        """The same box with voxels ``factor`` (x, y, z) times as large; it divides the shape."""
        x, y, z = (size * f for size, f in zip(self.voxel_size, factor, strict=True))
        return VoxelGrid(self.point_cloud_range, (x, y, z))

    def to_index(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Continuous index ``(x, y, z)``: an integer at a voxel centre. Differentiable."""
        return points * ops.constant(self.scale, points) + ops.constant(self.offset, points)

    def to_world(self, index: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """World coordinates of positions counted in voxels; the inverse of :meth:`to_index`."""
        return (index - ops.constant(self.offset, index)) * ops.constant(self.voxel_size, index)

    def contains(self, points: Float[Tensor, "*batch 3"]) -> Bool[Tensor, "*batch"]:
        """Whether a point lies in the box, lower faces included, upper faces not; NaN is outside."""
        return (
            (points >= ops.constant(self.lower, points)) & (points < ops.constant(self.upper, points))
        ).all(-1)

    def cells(self, points: Float[Tensor, "*batch 3"]) -> Int[Tensor, "*batch 3"]:
        """The voxel ``(z, y, x)`` of a point, by rounding down; meaningful where :meth:`contains` holds."""
        inside = self.contains(points)[..., None]
        index = torch.floor(torch.where(inside, self.to_index(points) + 0.5, 0.0)).long()
        most = ops.constant(self.shape[::-1], index) - 1
        return torch.minimum(index.clamp(min=0), most).flip(-1)

    def read(
        self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]
    ) -> Float[Tensor, "B P C"]:
        """Values of a volume on this grid at world points, trilinear: :func:`renderpretrain.ops.grid_sample`.

        Args:
            volume: A value per voxel, held at its centre. Differentiable.
            points: World coordinates in metres; outside the grid the values fall to zero. Differentiable.
        """
        return ops.grid_sample(volume, points, self.scale, self.offset)

    def voxel_index(self, points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> Int[Tensor, "B P"]:
        """Number of each point's voxel, counted over the batch; -1 outside the grid and where not valid.

        See :func:`renderpretrain.ops.voxel_index`.
        """
        return ops.voxel_index(points, valid, self.shape, self.lower, self.upper, self.scale, self.offset)

    def occupied(self, points: Float[Tensor, "B P 3"], valid: Bool[Tensor, "B P"]) -> Bool[Tensor, "B Z Y X"]:
        """Which voxels hold a valid point. Not differentiable."""
        index = self.voxel_index(points, valid)
        # Points outside have index -1: the one voxel too many.
        held = torch.zeros(len(points) * self.num_voxels + 1, dtype=torch.bool, device=points.device)
        held[index.flatten()] = True
        return held[:-1].view(-1, *self.shape)

    def centers(self, device: torch.device | str = "cpu") -> Float[Tensor, "Z Y X 3"]:
        """World coordinates of every voxel centre."""
        z, y, x = (
            low + (torch.arange(n, device=device) + 0.5) * size
            for n, low, size in zip(self.shape, self.lower[::-1], self.voxel_size[::-1], strict=True)
        )
        # Much faster than stacking a mesh.
        centers = x.new_empty(*self.shape, 3)
        centers[..., 0], centers[..., 1], centers[..., 2] = x, y[:, None], z[:, None, None]
        return centers
