"""Where rays enter and leave an axis-aligned box."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_box, check_shape
from renderpretrain.ops._library import Triple, common_float, register
from renderpretrain.ops._native import has_native, launch
from renderpretrain.ops._signatures import Box
from renderpretrain.ops.constant import constant


def box_intersect(
    origins: Float[Tensor, "*batch 3"],
    directions: Float[Tensor, "*batch 3"],
    lower: tuple[float, float, float],
    upper: tuple[float, float, float],
    *,
    near: float = 0.0,
    far: float = math.inf,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
    """Interval of every ray within a box, by the slab test.

    The box is closed: a ray in the plane of a face is inside. A ray that only touches an edge or a corner has
    an empty interval and misses, and so does one with a NaN. Nothing is added to small directions; a zero
    component of either sign means parallel.

    Args:
        origins: Where the rays start, metres.
        directions: Any length but zero; ``t`` counts in that length, metres for unit directions.
        lower: Lower corner (x, y, z), metres.
        upper: Upper corner (x, y, z), metres.
        near: Smallest ``t`` of interest; finite.
        far: Largest ``t`` of interest.

    Returns:
        ``t_near`` and ``t_far`` in float32 or float64, ``near <= t_near < t_far <= far`` where ``hit``, both
        equal to ``near`` elsewhere; and ``hit``. Without gradient.

    Raises:
        ValueError: If a lower coordinate exceeds the upper one, or ``near`` is not finite or exceeds ``far``.
    """
    check_shape("origins", origins, "... 3")
    if directions.shape != origins.shape:
        raise ValueError(
            f"directions: expected the shape of origins {tuple(origins.shape)}, got {tuple(directions.shape)}"
        )
    _check_box(lower, upper, near, far)
    origins, directions = common_float(origins=origins.detach(), directions=directions.detach())
    if not has_native(origins.device.type):
        return box_intersect_reference(origins, directions, lower, upper, near=near, far=far)
    return torch.ops.renderpretrain.box_intersect(origins, directions, lower, upper, near, far)


@torch.no_grad()
def box_intersect_reference(
    origins: Float[Tensor, "*batch 3"],
    directions: Float[Tensor, "*batch 3"],
    lower: tuple[float, float, float],
    upper: tuple[float, float, float],
    *,
    near: float = 0.0,
    far: float = math.inf,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
    """:func:`box_intersect` in plain PyTorch: the definition the kernels are tested against."""
    low, high = constant(lower, origins), constant(upper, origins)
    first, second = (low - origins) / directions, (high - origins) / directions
    parallel = directions == 0
    between = (origins >= low) & (origins <= high)
    enter = torch.where(parallel, -math.inf, torch.minimum(first, second)).amax(-1)
    leave = torch.where(parallel, math.inf, torch.maximum(first, second)).amin(-1)
    enter, leave = enter.clamp(min=near), leave.clamp(max=far)
    hit = (enter < leave) & (between | ~parallel).all(-1)
    return torch.where(hit, enter, near), torch.where(hit, leave, near), hit


def _check_box(lower: Triple, upper: Triple, near: float, far: float) -> None:
    check_box(lower, upper)
    if not (abs(near) < math.inf and near <= far):
        raise ValueError(f"near: expected a finite number that is at most far {far}, got {near}")


def _box_intersect(
    origins: Tensor, directions: Tensor, lower: Triple, upper: Triple, near: float, far: float
) -> tuple[Tensor, Tensor, Tensor]:
    t_near, t_far, hit = _fake(origins, directions, lower, upper, near, far)
    box = Box(*lower, *upper, near, far)
    launch("box_intersect", origins, directions, t_near.numel(), box, t_near, t_far, hit)
    return t_near, t_far, hit


def _fake(
    origins: Tensor, directions: Tensor, lower: Triple, upper: Triple, near: float, far: float
) -> tuple[Tensor, Tensor, Tensor]:
    batch = origins.shape[:-1]
    return origins.new_empty(batch), origins.new_empty(batch), origins.new_empty(batch, dtype=torch.bool)


register(
    "box_intersect(Tensor origins, Tensor directions, float[3] lower, float[3] upper, float near, float far)"
    " -> (Tensor, Tensor, Tensor)",
    _box_intersect,
    _fake,
    {"origins": "float ... 3", "directions": "float ... 3"},
    lambda origins, directions, *box: _check_box(*box),
)
