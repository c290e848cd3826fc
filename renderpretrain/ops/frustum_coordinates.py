"""Where points lie in the frusta of pinhole cameras."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import common_float, register
from renderpretrain.ops._native import has_native, launch, new_memory


def frustum_coordinates(
    points: Float[Tensor, "*views P 3"],
    matrices: Float[Tensor, "N 3 4"],
    depth_range: tuple[float, float],
    nearest: float = 1e-3,
) -> tuple[Float[Tensor, "N P 3"], Bool[Tensor, " N P"]]:
    """Normalised image coordinates and depth of points, for many points and cameras in one pass.

    Args:
        points: World points (x, y, z), metres: ``(P, 3)`` for all views, or ``(N, P, 3)``.
        matrices: Map ``(x, y, z, 1)`` to ``(u z', v z', z')``, with ``u`` and ``v`` -1 at the first edge of
            the image and 1 at the last, and ``z'`` the depth along the optical axis in metres.
        depth_range: Nearest and farthest depth, metres.
        nearest: Points whose depth is not larger are behind the camera.

    Returns:
        ``(u, v, d)``, with ``d`` -1 at the nearest depth and 1 at the farthest; and whether the point is in
        front of the camera and inside the frustum. Coordinates of points behind the camera have no meaning.
        Neither is differentiable.
    """
    check_shape("matrices", matrices, "N 3 4")
    if points.ndim == 2:
        check_shape("points", points, "P 3")
    else:
        check_shape("points", points, "N P 3", N=len(matrices))
    points, matrices = common_float(points=points.detach(), matrices=matrices.detach())
    near, far = depth_range
    _check_range(near, far)
    if not has_native(points.device.type):
        return frustum_coordinates_reference(points, matrices, depth_range, nearest)
    coordinates, valid = torch.ops.renderpretrain.frustum_coordinates(points, matrices, near, far, nearest)
    return coordinates, valid


def frustum_coordinates_reference(
    points: Float[Tensor, "*views P 3"],
    matrices: Float[Tensor, "N 3 4"],
    depth_range: tuple[float, float],
    nearest: float = 1e-3,
) -> tuple[Float[Tensor, "N P 3"], Bool[Tensor, " N P"]]:
    """What :func:`frustum_coordinates` does, in plain PyTorch."""
    near, far = depth_range
    with torch.autocast(points.device.type, enabled=False):
        projected = points @ matrices[..., :3].mT + matrices[:, None, :, 3]
    depth = projected[..., 2]
    front = depth > nearest
    uv = projected[..., :2] / torch.where(front, depth, 1.0)[..., None]
    d = 2 * (depth - near) / (far - near) - 1
    inside = ((uv >= -1) & (uv < 1)).all(-1) & (d > -1) & (d < 1)
    return torch.cat([uv, d[..., None]], -1), front & inside


def _check_range(near: float, far: float) -> None:
    if not near < far:
        raise ValueError(f"depth_range: expected the nearest depth before the farthest, got {(near, far)}")


def _check(points: Tensor, matrices: Tensor, near: float, far: float, nearest: float) -> None:
    if points.shape[:-2] not in ((), (len(matrices),)):
        raise ValueError(f"points: expected (P 3) or (N P 3), N={len(matrices)}, got {tuple(points.shape)}")
    _check_range(near, far)


def _frustum_coordinates(
    points: Tensor, matrices: Tensor, near: float, far: float, nearest: float
) -> tuple[Tensor, Tensor]:
    views, count = len(matrices), points.shape[-2]
    coordinates = new_memory(points, views, count, 3)
    valid = new_memory(points, views, count, dtype=torch.bool)
    stride = 0 if points.ndim == 2 else 3 * count
    depths = (near, far, nearest)
    launch("frustum_coordinates", points, stride, matrices, views, count, *depths, coordinates, valid)
    return coordinates, valid


def _fake(points: Tensor, matrices: Tensor, near: float, far: float, nearest: float) -> tuple[Tensor, Tensor]:
    shape = (matrices.shape[0], points.shape[-2])
    return points.new_empty(*shape, 3), points.new_empty(shape, dtype=torch.bool)


register(
    "frustum_coordinates(Tensor points, Tensor matrices, float near, float far, float nearest)"
    " -> (Tensor, Tensor)",
    _frustum_coordinates,
    _fake,
    {"points": "float ... P 3", "matrices": "float N 3 4"},
    _check,
)
