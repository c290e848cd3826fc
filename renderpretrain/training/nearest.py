"""What the input itself says of a ray's depth: the first of its points in a cylinder around the ray.

Nothing is learned here. Where a ray goes to a return that is in the input, this is nearly exact; a method
that renders is worth something where the return was taken out (:mod:`renderpretrain.training.withheld`).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.geometry import Rays

RADII = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Metres; the cylinder grows so where it holds nothing, and at last the ray has no point."""

RAYS_AT_ONCE = 64
"""Neighbouring rays, which look at the points on their side of the sensor together."""

AROUND = 4.0
"""Points nearer to a sensor than so many radii, in the plane, are looked at by all of its rays."""


def first_in_cylinder(
    rays: Rays, points: Float[Tensor, "P 3"], *, near: float = 0.0, radii: tuple[float, ...] = RADII
) -> Float[Tensor, " R"]:
    """Distance along each ray of the first point in front that is at most a radius away from the ray.

    The first radius counts whose cylinder holds a point. Ties at the cylinder's wall count as inside.

    Args:
        rays: ``(R,)`` of the world; a ray without a direction meets nothing.
        points: World, metres.
        near: Metres along the ray up to which points do not count, such as those on the recording car.
        radii: Metres, ascending.

    Returns:
        Metres; infinite where no cylinder holds a point.
    """
    check_shape("rays.origins", rays.origins, "R 3")
    check_shape("points", points, "P 3")
    first = torch.full(rays.shape, torch.inf, dtype=torch.float64, device=points.device)
    there = rays.directions.square().sum(-1) > 0
    starts, sensor = torch.unique(rays.origins, dim=0, return_inverse=True)
    for number, start in enumerate(starts):
        offsets = points.double() - start.double()
        for radius in radii:
            left = torch.nonzero(there & (sensor == number) & first.isinf())[:, 0]
            if len(left):
                first[left] = _first_within(rays.directions[left].double(), offsets, near, radius)
    return first


def _first_within(directions: Tensor, offsets: Tensor, near: float, radius: float) -> Float[Tensor, " R"]:
    """The same of one sensor's rays and one radius, points seen from the sensor.

    What is ``s`` metres away in the plane lies at most ``asin(radius / s)`` beside a ray that it is near to,
    however steep this is: so far it is from the upright plane that holds the ray.
    """
    first = torch.full((len(directions),), torch.inf, dtype=torch.float64, device=offsets.device)
    azimuths = torch.atan2(offsets[:, 1], offsets[:, 0])
    around = offsets[:, :2].norm(dim=-1) < AROUND * radius
    beside = math.asin(1 / AROUND)
    turned = torch.atan2(directions[:, 1], directions[:, 0])
    for chosen in turned.argsort().split(RAYS_AT_ONCE):
        low, high = turned[chosen[0]], turned[chosen[-1]]
        apart = (azimuths - (low + high) / 2 + math.pi).remainder(2 * math.pi) - math.pi
        seen = offsets[around | (apart.abs() <= (high - low) / 2 + beside)]
        along = directions[chosen] @ seen.mT
        aside = seen.square().sum(-1) - along.square()
        inside = (along > near) & (aside <= radius**2)
        if len(seen):
            first[chosen] = torch.where(inside, along, torch.inf).amin(1)
    return first
