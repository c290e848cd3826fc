"""From images or points to a volume ``(B, C, Z, Y, X)``."""

from renderpretrain.lifters.points import lift_points
from renderpretrain.lifters.views import ViewLifter, depth_log_likelihood, lift_views, view_coordinates

__all__ = ["ViewLifter", "depth_log_likelihood", "lift_points", "lift_views", "view_coordinates"]
