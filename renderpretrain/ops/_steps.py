"""Every step of rays through a grid, in plain PyTorch."""

import math

import torch
from torch import Tensor

from renderpretrain.ops._library import Triple
from renderpretrain.ops.box_intersect import box_intersect_reference
from renderpretrain.ops.constant import constant

MOST_STEPS = 1 << 23
"""Steps of a ray that are looked at: float32 counts no further in halves."""


def all_steps(  # noqa: PLR0913 - the signature of march
    origins: Tensor,
    directions: Tensor,
    t_near: Tensor,
    t_far: Tensor,
    occupied: Tensor,
    scale: Triple,
    offset: Triple,
    step: float,
) -> tuple[Tensor, Tensor]:
    """Borders ``(B, R, n + 1)`` of the steps that may lie in the grid, and which of them are samples."""
    size = constant(occupied.shape[:0:-1], origins)
    scales, offsets = constant(scale, origins), constant(offset, origins)
    # A voxel more on every side, for rounding.
    lower = tuple(((-1.5 - offsets) / scales).tolist())
    upper = tuple(((size + 0.5 - offsets) / scales).tolist())
    enter, leave, hit = box_intersect_reference(
        origins.double(), directions.double(), lower, upper, near=-math.inf
    )
    still = (directions == 0).all(-1)
    # Times are rounded to the type of the rays.
    margin = 2 + (t_near.abs() + enter.abs() + leave.abs()) * 2**-20 / step
    places = (enter - t_near) / step - margin, (torch.minimum(leave, t_far) - t_near) / step + margin
    first, last = (
        torch.where(hit & ~still, place, 0.0).nan_to_num(0.0).clamp(0, MOST_STEPS).floor() for place in places
    )
    most = max(int((last - first).max()), 0) + 1 if t_near.numel() else 0
    i = first[..., None].to(origins.dtype) + torch.arange(most + 1, device=origins.device)
    t = t_near[..., None] + (i[..., :-1] + 0.5) * step
    points = origins[..., None, :] + t[..., None] * directions[..., None, :]
    coordinates = points * scales + offsets + 0.5
    inside = ((coordinates >= 0) & (coordinates < size)).all(-1) & (t < t_far[..., None]) & ~still[..., None]
    inside = inside & (i[..., :-1] < MOST_STEPS)
    x, y, z = torch.where(inside[..., None], coordinates, 0.0).long().unbind(-1)
    voxels = occupied.flatten(1)
    if voxels.shape[1] == 0:
        return t_near[..., None] + i * step, inside
    flat = (z * occupied.shape[2] + y) * occupied.shape[3] + x
    return t_near[..., None] + i * step, inside & voxels.gather(1, flat.flatten(1)).reshape(flat.shape)


def check_most(count: int) -> None:
    """Raise ``ValueError`` where a ray has as many samples as there are steps that are looked at."""
    if count >= MOST_STEPS:
        raise ValueError(f"step: expected one that makes fewer than {MOST_STEPS} samples of a ray")
