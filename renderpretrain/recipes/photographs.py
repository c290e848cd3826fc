"""What posed photographs alone, without points and depth, change in the settings of UniPAD for cameras."""

import math
from typing import Any

CELLS, ALONG = 64, 8
"""Voxels along the longest side of what photographs show; along each side a multiple of the second."""


def of_photographs(box: tuple[float, ...], farthest: float) -> dict[str, Any]:
    """What posed photographs alone change in the ``unipad-camera`` presets: their range, colour terms only.

    Args:
        box: x, y, z of the lower corner of what they show, then of the upper one.
        farthest: How far from a camera it ends.
    """
    low, high = box[:3], box[3:]
    size = float(f"{max(b - a for a, b in zip(low, high, strict=True)) / CELLS:.3g}")
    counts = [ALONG * math.ceil((b - a) / size / ALONG) for a, b in zip(low, high, strict=True)]
    start = [size * round(((a + b) / 2 / size) - n / 2) for a, b, n in zip(low, high, counts, strict=True)]
    ends = [a + n * size for a, n in zip(start, counts, strict=True)]
    return {
        "point_cloud_range": [round(float(value), 6) for value in (*start, *ends)],
        "voxel_size": [size] * 3,
        "image": {"depth_range": [0.0, float(f"{farthest:.3g}")]},
        "sampler": {"near": float(f"{farthest / CELLS:.2g}")},
        "rays": {"near_radius": 0.0},
        "losses": {"depth": 0.0, "free_space": 0.0, "sdf": 0.0, "depth_bins": 0.0},
    }
