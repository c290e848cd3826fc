"""Lens models: where a lens puts a direction on its image plane, and back.

The plane is in units of the focal length: the intrinsics make pixels of it. Both models are OpenCV's. A
pinhole's plane is z = 1, bent by ``k1, k2, p1, p2, k3``. A fisheye's (Kannala and Brandt 2006, OpenCV's
``fisheye`` module, nerfstudio's ``OPENCV_FISHEYE``) is polar: its radius is a polynomial of the angle
``theta`` off the optical axis, ``theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)``, so that it
may see beyond 90 degrees.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

UNDISTORT_STEPS = 20
"""Newton steps of the undistortion; a typical automotive lens converges below 1e-8 in three."""

FARTHEST_PLANE = 6.0
"""Largest coordinate on the plane z = 1 that undistortion returns: 80 degrees off the axis."""

LARGEST_STEP = 0.3
"""Longest Newton step on the plane z = 1; outside the lens model an unbounded one would overflow."""

ANGLES = 512
"""Angles from 0 to 180 degrees at which a fisheye's polynomial is tried for where it folds back."""

ON_AXIS = 1e-10
"""Square of the angle off the axis below which a fisheye is a pinhole to the last digit."""


def distort(plane: Float[Tensor, "*batch P 2"], coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """OpenCV's distortion on the plane z = 1, and where its radial part still increases.

    Args:
        plane: Undistorted.
        coefficients: ``(*batch, 5)``: k1, k2, p1, p2, k3.
    """
    k1, k2, p1, p2, k3 = (c[..., None] for c in coefficients.unbind(-1))
    x, y = plane.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    distorted = torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        -1,
    )
    return distorted, 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * 7 * k3)) > 0


def undistort(distorted: Float[Tensor, "*batch P 2"], coefficients: Tensor) -> Float[Tensor, "*batch P 2"]:
    """Invert :func:`distort` by bounded Newton steps: 1e-6 inside the lens model, finite outside."""
    k1, k2, p1, p2, k3 = (c[..., None] for c in coefficients.unbind(-1))
    plane = distorted
    for _ in range(UNDISTORT_STEPS):
        x, y = plane.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = k1 + r2 * (2 * k2 + r2 * 3 * k3)
        error = distort(plane, coefficients)[0] - distorted
        xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
        xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
        yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
        determinant = (xx * yy - xy * xy).clamp(min=1e-3)
        ex, ey = error.unbind(-1)
        step = torch.stack([yy * ex - xy * ey, xx * ey - xy * ex], -1) / determinant[..., None]
        plane = (plane - step.clamp(-LARGEST_STEP, LARGEST_STEP)).clamp(-FARTHEST_PLANE, FARTHEST_PLANE)
    return plane


def bend(
    points: Float[Tensor, "*batch P 3"], coefficients: Float[Tensor, "*batch 5"]
) -> tuple[Float[Tensor, "*batch P 2"], Bool[Tensor, "*batch P"]]:
    """Where a fisheye puts points on its plane, and whether they lie inside the lens model.

    What lies outside is put on its rim. Differentiable, on the axis too.

    Args:
        points: In the camera's axes, of any length; behind it, too.
        coefficients: k1, k2, k3, k4, and one that is not read.
    """
    widest = _widest(coefficients)[..., None]
    x, y, z = points.unbind(-1)
    r2 = x * x + y * y
    on_axis = r2 <= ON_AXIS * z * z
    r = torch.where(on_axis, 1.0, r2).sqrt()
    theta = torch.atan2(r, z)
    radius, _ = _radius(torch.minimum(theta, widest), coefficients)
    ahead = z > 0
    scale = torch.where(on_axis, 1 / torch.where(ahead & on_axis, z, 1.0), radius / r)
    return scale[..., None] * points[..., :2], torch.where(on_axis, ahead, theta <= widest)


def unbend(
    plane: Float[Tensor, "*batch P 2"], coefficients: Float[Tensor, "*batch 5"]
) -> Float[Tensor, "*batch P 3"]:
    """Unit directions of places on a fisheye's plane: the inverse of :func:`bend`.

    Newton's steps, halving an interval where one would leave it, and then one that is differentiated. A place
    outside of the lens model gives its widest angle.
    """
    r2 = plane.square().sum(-1)
    on_axis = r2 <= ON_AXIS
    r = torch.where(on_axis, 1.0, r2).sqrt()
    with torch.no_grad():
        widest = _widest(coefficients)[..., None].expand_as(r)
        low, high = torch.zeros_like(r), widest
        target = torch.minimum(r, _radius(widest, coefficients)[0])
        theta = torch.minimum(target, widest)
        for _ in range(UNDISTORT_STEPS):
            radius, slope = _radius(theta, coefficients)
            short = radius < target
            low, high = torch.where(short, theta, low), torch.where(short, high, theta)
            step = theta - (radius - target) / slope
            theta = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    radius, slope = _radius(theta, coefficients)
    reached = torch.minimum(r, _radius(widest, coefficients)[0])
    theta = theta - (radius - reached) / slope.clamp(min=1e-3)
    scale = torch.where(on_axis, 1.0, theta.sin() / r)
    z = torch.where(on_axis, 1.0, theta.cos())
    return torch.cat([scale[..., None] * plane, z[..., None]], -1)


def within_fisheye(
    plane: Float[Tensor, "*batch P 2"], coefficients: Float[Tensor, "*batch 5"]
) -> Bool[Tensor, "*batch P"]:
    """Whether a fisheye has a direction for places on its plane."""
    widest = _widest(coefficients)[..., None]
    return plane.norm(dim=-1) <= _radius(widest, coefficients)[0]


def _radius(theta: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Distance from the middle of a fisheye's plane at an angle off the axis, and how fast it grows."""
    k1, k2, k3, k4, _ = (c[..., None] for c in coefficients.unbind(-1))
    t2 = theta * theta
    radius = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return radius, 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))


@torch.no_grad()
def _widest(coefficients: Tensor) -> Tensor:
    """``(*batch,)``: the angle up to which a fisheye's radius grows, at most 180 degrees."""
    angles = torch.linspace(0, math.pi, ANGLES, dtype=coefficients.dtype, device=coefficients.device)
    _, slope = _radius(angles, coefficients)
    growing = (slope > 0).to(torch.int64).cumprod(-1).sum(-1)
    return (growing - 1) * (math.pi / (ANGLES - 1))
