"""Which rays to render, and where along them to look."""

from renderpretrain.samplers.intervals import uniform_positions
from renderpretrain.samplers.rays import LidarBeams, LidarGuidedRays, RayTargets, in_range, pixel_grid

__all__ = [
    "LidarBeams",
    "LidarGuidedRays",
    "RayTargets",
    "in_range",
    "pixel_grid",
    "uniform_positions",
]
