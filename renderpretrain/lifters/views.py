"""Images to a volume: for every voxel, what the cameras see there and how far away they think it is."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain.geometry import Cameras, VoxelGrid

SMALLEST_PROBABILITY = 1e-6
"""Keeps the logarithm of an excluded depth finite."""


def view_coordinates(
    cameras: Cameras, points: Float[Tensor, "... P 3"], depth_range: tuple[float, float]
) -> tuple[Float[Tensor, "*batch P 3"], Bool[Tensor, "*batch P"]]:
    """Where points lie in each camera's frustum, edge to edge in [-1, 1].

    Args:
        cameras: Any batch of cameras.
        points: World points, metres; ``(P, 3)`` for all cameras, or a set for each.
        depth_range: Nearest and farthest depth along the optical axis, metres.

    Returns:
        ``(u, v, d)``, each -1 at the first edge and 1 at the last; and whether the point is in the frustum.
    """
    pixels, z_depth, visible = cameras.project(points.expand(*cameras.shape, *points.shape[-2:]))
    near, far = depth_range
    uv = 2 * pixels / pixels.new_tensor(cameras.image_size[::-1]) - 1
    d = 2 * (z_depth - near) / (far - near) - 1
    return torch.cat([uv, d[..., None]], -1), visible & (d > -1) & (d < 1)


def lift_views(
    features: Float[Tensor, "B N C h w"],
    depth_probabilities: Float[Tensor, "B N D h w"],
    coordinates: Float[Tensor, "B N P 3"],
    valid: Bool[Tensor, "B N P"],
) -> Float[Tensor, "B C P"]:
    r"""Features at points, weighted by the predicted probability of their depth, summed over cameras.

    .. math:: F(x) = \sum_n [x \in \text{frustum}_n]\; f_n(u, v)\; p_n(u, v, d)

    UniPAD's view transform (https://arxiv.org/abs/2310.08370, section 3.1; from UVTR). Differentiable in
    features and probabilities. One camera at a time, so that memory is that of one camera.

    Args:
        features: Feature maps.
        depth_probabilities: Distribution over ``D`` equal depth bins in every cell.
        coordinates: From :func:`view_coordinates`.
        valid: Which camera sees which point.
    """
    total = torch.zeros(len(features), features.shape[2], coordinates.shape[2], device=features.device)
    for n in range(features.shape[1]):
        uvd = torch.where(valid[:, n, :, None], coordinates[:, n], 2.0)
        seen = _sample(features[:, n], uvd[:, None, :, :2])
        likely = _sample(depth_probabilities[:, n, None], uvd[:, None, None])
        total = total + seen * (likely * valid[:, n, None])
    return total


def depth_log_likelihood(
    depth_probabilities: Float[Tensor, "B N D h w"],
    coordinates: Float[Tensor, "B N K 3"],
    valid: Bool[Tensor, "B N K"],
) -> Float[Tensor, "B N K"]:
    """Log of the probability that the distributions give to measured depths; 0 where not valid.

    The categorical depth supervision of BEVDepth (https://arxiv.org/abs/2206.10092), read at the
    measurement's own place in the frustum instead of at its cell's. Differentiable in the probabilities.

    Args:
        depth_probabilities: Distribution over ``D`` equal depth bins in every cell.
        coordinates: Of the measured points, from :func:`view_coordinates`.
        valid: Which of them count.
    """
    uvd = torch.where(valid[..., None], coordinates, 2.0).flatten(0, 1)
    likely = _sample(depth_probabilities.flatten(0, 1)[:, None], uvd[:, None, None])
    likely = likely.view(valid.shape)
    return torch.where(valid, likely, 1.0).clamp(min=SMALLEST_PROBABILITY).log()


def _sample(images: Tensor, places: Tensor) -> Tensor:
    """Bi- or trilinear reading, edge to edge, zero outside: ``(B, C, P)`` in float32.

    Places keep full precision under autocast: bf16 would move them by pixels.
    """
    with torch.autocast(images.device.type, enabled=False):
        read = torch.nn.functional.grid_sample(
            images.float(), places.float(), padding_mode="zeros", align_corners=False
        )
    return read.flatten(2)


class ViewLifter(nn.Module):
    """Depth-weighted lifting of feature maps with a learned depth distribution.

    Args:
        grid: The volume's grid.
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
        depth_range: tuple[float, float] = (0.0, 64.0),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.depth_range = depth_range
        self.depth_head = nn.Conv2d(channels, depth_bins, kernel_size=1)

    def forward(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B C Z Y X"]:
        """Lift and sum all levels; the depth head is shared between them."""
        return self.lift(levels, cameras, camera_valid)[0]

    def lift(
        self, levels: list[Float[Tensor, "B N C _ _"]], cameras: Cameras, camera_valid: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B C Z Y X"], list[Float[Tensor, "B N D _ _"]]]:
        """The volume, and every level's depth probabilities for losses on them."""
        centers = self.grid.centers(levels[0].device).reshape(-1, 3)
        coordinates, valid = view_coordinates(cameras, centers, self.depth_range)
        valid = valid & camera_valid[..., None]
        volumes, probabilities = [], []
        for features in levels:
            logits = self.depth_head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
            probabilities.append(logits.float().softmax(2))
            volumes.append(lift_views(features, probabilities[-1], coordinates, valid))
        return torch.stack(volumes).sum(0).unflatten(2, self.grid.shape), probabilities
