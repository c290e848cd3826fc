"""Images to a volume by lift and splat: a pixel's feature goes to the voxels on its ray, by its depth."""

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_depth_range, check_shape
from renderpretrain.geometry import Cameras, RaySamples, VoxelGrid
from renderpretrain.lifters.maps import check_maps
from renderpretrain.ops.batch_norm import BatchNorm2d


def frustum_points(
    cameras: Cameras, depths: Float[Tensor, " D"], size: tuple[int, int]
) -> Float[Tensor, "*batch D h w 3"]:
    """World points on the rays of a feature map's cells, at the same depths for all.

    Args:
        cameras: Any batch of cameras.
        depths: Along the optical axis, or of a fisheye along the ray, metres.
        size: ``(h, w)`` of the feature map; it covers the image edge to edge.
    """
    check_shape("depths", depths, "D")
    v, u = (
        (torch.arange(count, device=depths.device) + 0.5) * (extent / count)
        for count, extent in zip(size, cameras.image_size, strict=True)
    )
    v, u = torch.meshgrid(v, u, indexing="ij")
    pixels = torch.stack([u, v], -1).flatten(0, 1)
    rays = cameras.rays(pixels.expand(*cameras.shape, -1, 2))
    t = depths[:, None] / cameras.depth_per_meter(rays.directions)[..., None, :]
    points = rays.origins[..., None, :, :] + t[..., None] * rays.directions[..., None, :, :]
    return points.unflatten(-2, size)


class LiftSplat(nn.Module):
    """Lifting with a learned depth distribution, pushed from the pixels to the voxels.

    Called like :class:`~renderpretrain.lifters.ViewLifter`, which pulls from the voxels to the pixels: there
    every voxel in view gets a feature, here every pixel's feature goes somewhere, once.

    Lift, Splat, Shoot (https://arxiv.org/abs/2008.05711), with points at the middle of their depth bins.

    Args:
        grid: The volume's grid; one voxel high it is a bird's-eye view.
        channels: Width of the feature maps, and of the volume.
        depth_bins: Bins of the depth distribution.
        depth_range: Their nearest and farthest edge along the optical axis, metres.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        depth_bins: int = 64,
        depth_range: tuple[int | float, int | float] = (0.0, 64.0),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.depth_bins = depth_bins
        check_depth_range(depth_range)
        near, far = depth_range
        self.depth_range = (float(near), float(far))
        self.depth_head = nn.Conv2d(channels, depth_bins, kernel_size=1)
        self.context = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B C Z Y X"]:
        """Lift and sum all levels; the two convolutions are shared between them."""
        return self.lift(levels, cameras, camera_valid)[0]

    def lift(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B C Z Y X"], list[Float[Tensor, "B N D _ _"]]]:
        """The volume, and every level's depth probabilities for losses on them."""
        check_maps(levels, cameras, camera_valid, self.context.in_channels)
        volumes, probabilities = [], []
        for features in levels:
            plan = self.plan(cameras, camera_valid, (features.shape[3], features.shape[4]))
            volume, likely = self.pool(features, plan)
            volumes.append(volume)
            probabilities.append(likely)
        return functools.reduce(torch.add, volumes), probabilities  # keeps the order of memory

    @torch.no_grad()
    def plan(self, cameras: Cameras, camera_valid: Bool[Tensor, "B N"], size: tuple[int, int]) -> ops.LssPlan:
        """Where the pixels of a feature map ``(h, w)`` go; cameras that never move need it once."""
        bins = RaySamples.even(*self.depth_range, self.depth_bins, device=camera_valid.device)
        points = frustum_points(cameras, bins.t_mids, size)
        cells = ops.frustum_cells(points, self.grid.shape, self.grid.scale, self.grid.offset)
        cells = torch.where(camera_valid[..., None, None, None], cells, -1)
        return ops.lss_plan(cells.flatten(0, 1), len(cells) * self.grid.num_voxels, trusted=True)

    def pool(
        self, features: Float[Tensor, "B N C h w"], plan: ops.LssPlan
    ) -> tuple[Float[Tensor, "B C Z Y X"], Float[Tensor, "B N D h w"]]:
        """One level's volume and depth probabilities."""
        check_shape("features", features, "B N C h w", C=self.context.in_channels)
        images = features.flatten(0, 1)
        probabilities = self.depth_head(images).float().softmax(1)
        pooled = ops.lss_pool(probabilities, self.context(images), plan)
        volume = pooled.view(len(features), *self.grid.shape, -1).permute(0, 4, 1, 2, 3)
        return volume, probabilities.unflatten(0, features.shape[:2])


class SplatLifter(nn.Module):
    """Lift-splat to one height, two convolutions in the plane, channels dealt out to the heights.

    Args:
        grid: The volume's grid; ``Z`` divides the channels.
        channels: Width of the maps and of the plane.
        depth_bins: Of the depth distribution.
        depth_range: Nearest and farthest depth, metres.
    """

    def __init__(
        self, grid: VoxelGrid, channels: int, *, depth_bins: int, depth_range: tuple[float, float]
    ) -> None:
        super().__init__()
        heights = grid.shape[0]
        if channels % heights:
            raise ValueError(f"channels: expected a multiple of the grid's Z={heights}, got {channels}")
        self.grid = grid
        flat = grid.coarsened((1, 1, heights))
        self.splat = LiftSplat(flat, channels, depth_bins=depth_bins, depth_range=depth_range)
        self.bev = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    BatchNorm2d(channels),
                    nn.ReLU(),
                )
                for _ in range(2)
            )
        )

    def forward(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B D Z Y X"]:
        """The volume. Differentiable in the maps."""
        flat = self.splat(levels, cameras, camera_valid)[:, :, 0]
        return self.bev(flat).reshape(len(flat), -1, *self.grid.shape)
