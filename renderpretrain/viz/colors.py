"""Numbers to colours: ``(3, H, W)`` RGB in [0, 1] on the CPU."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DEPTH_STOPS = (
    (0.99, 0.91, 0.15),
    (0.99, 0.65, 0.21),
    (0.88, 0.39, 0.38),
    (0.69, 0.17, 0.56),
    (0.42, 0.00, 0.66),
    (0.05, 0.03, 0.53),
)
"""Near is bright, far is dark; evenly spaced in log depth."""

ERROR_STOPS = ((0.10, 0.10, 0.14), (0.16, 0.39, 0.62), (0.96, 0.88, 0.52), (0.84, 0.12, 0.15))
"""Right is dark, wrong is red."""


HEIGHT_STOPS = (
    (0.24, 0.15, 0.52),
    (0.22, 0.42, 0.80),
    (0.16, 0.68, 0.66),
    (0.54, 0.82, 0.35),
    (0.98, 0.86, 0.35),
)
"""Low is violet, high is yellow."""


def ramp(
    values: Float[Tensor, "H W"], stops: tuple[tuple[float, float, float], ...]
) -> Float[Tensor, "3 H W"]:
    """Piecewise linear colours for values in [0, 1]; NaN is black."""
    table = torch.tensor(stops)
    place = values.nan_to_num(0.0).clamp(0, 1) * (len(stops) - 1)
    low = place.floor().long().clamp(max=len(stops) - 2)
    share = (place - low)[..., None]
    return ((1 - share) * table[low] + share * table[low + 1]).permute(2, 0, 1)


def depth_colors(
    depth: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"], *, near: int | float, far: int | float
) -> Float[Tensor, "3 H W"]:
    """Depth in metres on a logarithmic scale from ``near`` to ``far``; black where not valid."""
    low, high = torch.tensor(near).log(), torch.tensor(far).log()
    place = (depth.clamp(min=1e-3).log() - low) / (high - low)
    return ramp(place, DEPTH_STOPS) * valid


def error_colors(
    error: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"], *, worst: float
) -> Float[Tensor, "3 H W"]:
    """Errors from 0 to ``worst`` and beyond; black where not valid."""
    return ramp(error / worst, ERROR_STOPS) * valid


def normal_colors(normals: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """Unit normals by axis: red +x, green +y, blue +z around grey; a zero vector is black."""
    length = normals.norm(dim=0, keepdim=True)
    return (0.5 + 0.5 * normals / length.clamp(min=1e-6)) * length.clamp(max=1)


def class_colors(labels: Int[Tensor, "H W"]) -> Float[Tensor, "3 H W"]:
    """A colour per class, the same everywhere; black for class 0 and below, which is nothing."""
    turn = 0.618034 * labels.clamp(min=0)  # the golden ratio spreads any number of hues
    hue = 6 * torch.stack([turn, turn - 1 / 3, turn + 1 / 3]).remainder(1)
    level = torch.where(labels % 2 == 0, 0.65, 1.0)
    return ((hue - 3).abs() - 1).clamp(0.1, 1) * level * (labels > 0)
