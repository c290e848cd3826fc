"""Pillars of a bird's-eye-view grid, and where cameras see them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.geometry import Cameras, VoxelGrid
from renderpretrain.geometry.cameras import NEAREST_DEPTH
from renderpretrain.lifters.views import view_coordinates
from renderpretrain.ops.uncompiled import uncompiled

FARTHEST = 1000.0
"""Metres along the optical axis beyond which nothing is looked up."""

OUTSIDE = -1000.0
"""Where in an image a point behind the camera is put: no offset brings it back."""


@dataclass(frozen=True)
class PillarViews:
    """Which pillars each camera sees, packed: as many slots per camera as the busiest one needs.

    Attributes:
        index: The pillar of each slot.
        valid: False where a slot is empty.
        points: Reference points of its heights in the image, ``(u, v)`` in [0, 1] inside.
        counts: Cameras that see each pillar.
    """

    index: Int[Tensor, "B N K"]
    valid: Bool[Tensor, "B N K"]
    points: Float[Tensor, "B N K A 2"]
    counts: Int[Tensor, "B Q"]

    @staticmethod
    def pack(points: Float[Tensor, "B N Q A 2"], visible: Bool[Tensor, "B N Q A"]) -> "PillarViews":
        """Keep the pillars of which a camera sees any height. Waits for the device once.

        Args:
            points: Of every height of every pillar in every camera, ``(u, v)`` in [0, 1] inside.
            visible: Whether the camera sees it there.
        """
        sizes = check_shape("points", points, "B N Q A D", D=2)
        check_shape("visible", visible, "B N Q A", **sizes)
        seen = visible.any(-1)
        slots = max(int(seen.sum(-1).max().item()), 1)
        index = (~seen).byte().argsort(dim=-1, stable=True)[..., :slots]
        kept = points.gather(2, index[..., None, None].expand(-1, -1, -1, *points.shape[3:]))
        return PillarViews(index, seen.gather(2, index), kept, seen.sum(1))

    def rows(self, num_pillars: int) -> Int[Tensor, "B N K"]:
        """Each slot's row among the pillars of the whole batch; -1 for an empty one."""
        first = torch.arange(len(self.index), device=self.index.device) * num_pillars
        return torch.where(self.valid, self.index + first[:, None, None], -1)


def pillar_heights(grid: VoxelGrid, count: int, *, margin: int | float = 0.5) -> tuple[int | float, ...]:
    """Evenly spaced heights, ``margin`` metres from the bottom and the top of a grid: BEVFormer's anchors."""
    low, high = grid.lower[2] + margin, grid.upper[2] - margin
    if count < 1 or not low < high:
        raise ValueError(f"count, margin: expected at least 1, and room between, got {count} and {margin} m")
    if count == 1:
        return ((low + high) / 2,)
    return tuple(low + (high - low) * k / (count - 1) for k in range(count))


def pillar_points(
    grid: VoxelGrid, heights: tuple[int | float, ...], device: torch.device | str = "cpu"
) -> Float[Tensor, "Q A 3"]:
    """World points at ``heights`` (metres) above the centres of a grid's columns, in the order ``(y, x)``."""
    ground = grid.centers(device)[0, :, :, :2].flatten(0, 1)
    z = ops.constant(heights, ground)
    columns = ground[:, None].expand(-1, len(heights), -1)
    return torch.cat([columns, z[:, None].expand(len(ground), -1, 1)], -1)


@uncompiled
@torch.no_grad()
def project_pillars(
    cameras: Cameras, camera_valid: Bool[Tensor, "B N"], grid: VoxelGrid, heights: tuple[int | float, ...]
) -> PillarViews:
    """Where the cameras see the columns of a grid; cameras that never move need it once.

    Args:
        cameras: ``(B, N)`` of them.
        camera_valid: False for padding, which sees nothing.
        grid: Its columns are the pillars.
        heights: World heights of the reference points, metres.
    """
    sizes = check_shape("camera_valid", camera_valid, "B N")
    if tuple(cameras.shape) != (sizes["B"], sizes["N"]):
        raise ValueError(f"cameras: expected {(sizes['B'], sizes['N'])}, got {tuple(cameras.shape)}")
    points = pillar_points(grid, heights, camera_valid.device).flatten(0, 1)
    coordinates, visible = view_coordinates(cameras, points, (0.0, FARTHEST))
    front = coordinates[..., 2:] > 2 * NEAREST_DEPTH / FARTHEST - 1
    places = torch.where(front, (coordinates[..., :2] + 1) / 2, OUTSIDE)
    shape = (-1, len(heights))
    visible = visible & camera_valid[..., None]
    return PillarViews.pack(places.unflatten(2, shape), visible.unflatten(2, shape))
