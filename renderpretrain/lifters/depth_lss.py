"""BEVFusion's way from images to a bird's-eye map: lift and splat with the help of depth images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.geometry import Cameras, RaySamples, VoxelGrid
from renderpretrain.lifters.lift_splat import frustum_points
from renderpretrain.ops.batch_norm import BatchNorm2d

LIFTED_HEIGHTS = (-10.0, 10.0)
"""Between these the cameras' points are pooled in one BEV cell, metres."""


@dataclass(frozen=True)
class LiftedBEV:
    """What the cameras saw.

    Attributes:
        bev: Features of the BEV cells.
        context: Features of the image cells.
        probabilities: Depth distribution of every image cell.
    """

    bev: Float[Tensor, "B C Y X"]
    context: Float[Tensor, "B N C h w"]
    probabilities: Float[Tensor, "B N D h w"]


class DepthLSS(nn.Module):
    """Lift and splat with a depth net that also reads a sparse depth image.

    BEVFusion's ``DepthLSSTransform`` (https://arxiv.org/abs/2205.13542), keys ``dtransform``, ``depthnet``,
    ``downsample``. Without depth images there is no ``dtransform``.

    Args:
        in_channels: Width of the feature maps.
        channels: Width of context and BEV map.
        grid: The BEV map's cells; its height does not matter.
        bins: Number of depth bins.
        depth_range: Their outer edges along the optical axis, metres.
        bev_scale: The map is splatted with so many times finer cells, and strided.
        depth_images: Whether there are any.

    Attributes:
        out_grid: The cells of the map that comes out, one cell high.
    """

    def __init__(  # noqa: PLR0913  the transform's sizes are its configuration
        self,
        in_channels: int,
        channels: int,
        grid: VoxelGrid,
        *,
        bins: int,
        depth_range: tuple[float, float],
        bev_scale: int,
        depth_images: bool,
    ) -> None:
        super().__init__()
        self.grid, self.out_grid = _finer(grid, bev_scale), _one_high(grid)
        self.channels = channels
        self.bins, self.depth_range = bins, depth_range
        self.dtransform = (
            nn.Sequential(*_conv(1, 8, 1), *_conv(8, 32, 5, stride=4), *_conv(32, 64, 5, stride=2))
            if depth_images
            else None
        )
        known = in_channels + (64 if depth_images else 0)
        self.depthnet = nn.Sequential(
            *_conv(known, in_channels, 3),
            *_conv(in_channels, in_channels, 3),
            nn.Conv2d(in_channels, bins + channels, 1),
        )
        self.downsample = nn.Sequential(
            *_conv(channels, channels, 3, bias=False),
            *_conv(channels, channels, 3, stride=bev_scale, bias=False),
            *_conv(channels, channels, 3, bias=False),
        )

    def forward(
        self,
        features: Float[Tensor, "B N C h w"],
        depth: Float[Tensor, "B N H W"] | None,
        cameras: Cameras,
        camera_valid: Bool[Tensor, "B N"],
    ) -> LiftedBEV:
        """Depth distribution and context of every cell, pooled; no product of the two is ever stored."""
        known = features.flatten(0, 1)
        if self.dtransform is not None and depth is not None:
            known = torch.cat([known, self.dtransform(depth.flatten(0, 1)[:, None])], 1)
        out = self.depthnet(known)
        probabilities, context = out[:, : self.bins].float().softmax(1), out[:, self.bins :]
        plan = self._plan(cameras, camera_valid, (features.shape[3], features.shape[4]))
        pooled = ops.lss_pool(probabilities, context, plan)
        bev = pooled.view(len(features), *self.grid.shape[1:], -1).permute(0, 3, 1, 2)
        shape = features.shape[:2]
        return LiftedBEV(self.downsample(bev), context.unflatten(0, shape), probabilities.unflatten(0, shape))

    @torch.no_grad()
    def _plan(
        self, cameras: Cameras, camera_valid: Bool[Tensor, "B N"], size: tuple[int, int]
    ) -> ops.LssPlan:
        """Where the image cells go."""
        bins = RaySamples.even(*self.depth_range, self.bins, device=camera_valid.device)
        points = frustum_points(cameras, bins.t_mids, size)
        cells = ops.frustum_cells(points, self.grid.shape, self.grid.scale, self.grid.offset)
        cells = torch.where(camera_valid[..., None, None, None], cells, -1)
        return ops.lss_plan(cells.flatten(0, 1), len(cells) * self.grid.num_voxels, trusted=True)


def _one_high(grid: VoxelGrid) -> VoxelGrid:
    """The columns of a grid, as high as what is pooled in them."""
    (x, y, _), (low, high) = grid.voxel_size, LIFTED_HEIGHTS
    return VoxelGrid((*grid.lower[:2], low, *grid.upper[:2], high), (x, y, high - low))


def _finer(grid: VoxelGrid, scale: int) -> VoxelGrid:
    """One cell high, cells ``scale`` times finer, and every ``scale``-th centred on a cell of the grid.

    That is where convolutions of that stride leave their outputs.
    """
    (x, y, _), (low, high) = grid.voxel_size, LIFTED_HEIGHTS
    sizes = (x / scale, y / scale)
    shifts = [(size - fine) / 2 for size, fine in zip((x, y), sizes, strict=True)]
    lower = [low + shift for low, shift in zip(grid.lower[:2], shifts, strict=True)]
    upper = [high + shift for high, shift in zip(grid.upper[:2], shifts, strict=True)]
    return VoxelGrid((lower[0], lower[1], low, upper[0], upper[1], high), (*sizes, high - low))


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, bias: bool = True
) -> list[nn.Module]:
    """A convolution, batch normalisation and ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
    )
    return [conv, BatchNorm2d(out_channels), nn.ReLU()]
