"""From images or points to a volume ``(B, C, Z, Y, X)``."""

from renderpretrain.lifters.lift_splat import LiftSplat, frustum_points
from renderpretrain.lifters.points import lift_points
from renderpretrain.lifters.views import ViewLifter, depth_log_likelihood, lift_views, view_coordinates

__all__ = [
    "LiftSplat",
    "ViewLifter",
    "depth_log_likelihood",
    "frustum_points",
    "lift_points",
    "lift_views",
    "view_coordinates",
]
