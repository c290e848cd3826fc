"""Images to a volume: for every voxel, what the cameras see there and how far away they think it is."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_depth_range, check_shape
from renderpretrain.geometry import Cameras, VoxelGrid
from renderpretrain.geometry.cameras import NEAREST_DEPTH
from renderpretrain.geometry.poses import apply_matrix
from renderpretrain.lifters.maps import check_maps

SMALLEST_PROBABILITY = 1e-6
"""Keeps the logarithm of an excluded depth finite."""


def view_coordinates(
    cameras: Cameras, points: Float[Tensor, "... P 3"], depth_range: tuple[int | float, int | float]
) -> tuple[Float[Tensor, "*batch P 3"], Bool[Tensor, "*batch P"]]:
    """Where points lie in each camera's frustum, edge to edge in [-1, 1].

    Args:
        cameras: Any batch of cameras; distorted ones take several passes over the points instead of one.
        points: World points, metres; ``(P, 3)`` for all cameras, or a set for each.
        depth_range: Nearest and farthest depth, metres, along the optical axis or of a fisheye along the ray.

    Returns:
        ``(u, v, d)``, each -1 at the first edge and 1 at the last; and whether the point is in the frustum.
        Not differentiable.
    """
    check_shape("points", points, "... P 3")
    if cameras.distortion is not None:
        with torch.no_grad():
            return pose_coordinates(cameras, points.expand(*cameras.shape, *points.shape[-2:]), depth_range)
    height, width = cameras.image_size
    edge_to_edge = ops.constant([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], cameras.intrinsics)
    columns = apply_matrix(cameras.intrinsics, cameras.world_to_camera[..., :3, :].mT)
    matrices = apply_matrix(edge_to_edge, columns).mT
    if points.ndim > 2:
        points = points.expand(*cameras.shape, *points.shape[-2:]).reshape(-1, *points.shape[-2:])
    coordinates, valid = ops.frustum_coordinates(
        points, matrices.reshape(-1, 3, 4), depth_range, NEAREST_DEPTH
    )
    return coordinates.unflatten(0, cameras.shape), valid.unflatten(0, cameras.shape)


def pose_coordinates(
    cameras: Cameras, points: Float[Tensor, "*batch P 3"], depth_range: tuple[int | float, int | float]
) -> tuple[Float[Tensor, "*batch P 3"], Bool[Tensor, "*batch P"]]:
    """:func:`view_coordinates` in several passes, and differentiable in points and cameras: for few points.

    What :func:`depth_log_likelihood` says at these coordinates has a gradient that moves the cameras to where
    the distributions and the points agree.
    """
    pixels, z_depth, visible = cameras.project(points)
    near, far = depth_range
    uv = 2 * pixels / ops.constant(cameras.image_size[::-1], pixels) - 1
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

    UniPAD's view transform (https://arxiv.org/abs/2310.08370, section 3.1; from UVTR): :func:`ops.image_lift
    <renderpretrain.ops.image_lift>` in the layout of volumes. Differentiable in features and probabilities.

    Args:
        features: Feature maps; fastest in ``torch.channels_last`` memory.
        depth_probabilities: Distribution over ``D`` equal depth bins in every cell.
        coordinates: From :func:`view_coordinates`.
        valid: Which camera sees which point.

    Returns:
        Values in channels-last memory: unflattened to a volume they are in ``torch.channels_last_3d``.
    """
    return ops.image_lift(features, depth_probabilities, coordinates, valid).mT


def depth_log_likelihood(
    depth_probabilities: Float[Tensor, "B N D h w"],
    coordinates: Float[Tensor, "B N K 3"],
    valid: Bool[Tensor, "B N K"],
) -> Float[Tensor, "B N K"]:
    """Log of the probability that the distributions give to measured depths; 0 where not valid.

    The categorical depth supervision of BEVDepth (https://arxiv.org/abs/2206.10092), read at the
    measurement's own place in the frustum instead of at its cell's. Differentiable in the probabilities, and
    in coordinates from :func:`pose_coordinates`.

    Args:
        depth_probabilities: Distribution over ``D`` equal depth bins in every cell.
        coordinates: Of the measured points, from :func:`view_coordinates` or :func:`pose_coordinates`.
        valid: Which of them count.
    """
    sizes = check_shape("depth_probabilities", depth_probabilities, "B N D h w")
    places = check_shape("coordinates", coordinates, "B N K 3", B=sizes["B"], N=sizes["N"])
    check_shape("valid", valid, "B N K", **places)
    check_bool(valid=valid)
    uvd = torch.where(valid[..., None], coordinates, torch.nan).flatten(0, 1)
    bins, height, width = depth_probabilities.shape[2:]
    scale = (width / 2, height / 2, bins / 2)
    offset = ((width - 1) / 2, (height - 1) / 2, (bins - 1) / 2)
    likely = ops.grid_sample(depth_probabilities.flatten(0, 1)[:, None], uvd, scale, offset).view(valid.shape)
    return torch.where(valid, likely, 1.0).clamp(min=SMALLEST_PROBABILITY).log()


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
        depth_range: tuple[int | float, int | float] = (0.0, 64.0),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.channels = channels
        check_depth_range(depth_range)
        near, far = depth_range
        self.depth_range = (float(near), float(far))
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
        check_maps(levels, cameras, camera_valid, self.depth_head.in_channels)
        centers = self.grid.centers(levels[0].device).reshape(-1, 3)
        coordinates, valid = view_coordinates(cameras, centers, self.depth_range)
        valid = valid & camera_valid[..., None]
        volumes, probabilities = [], []
        for features in levels:
            logits = self.depth_head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
            probabilities.append(logits.float().softmax(2))
            volumes.append(lift_views(features, probabilities[-1], coordinates, valid))
        # Sums of views keep their memory order; a stack would copy them.
        return sum(volumes[1:], volumes[0]).unflatten(2, self.grid.shape), probabilities
