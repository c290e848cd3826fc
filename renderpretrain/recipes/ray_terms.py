"""Moved to :mod:`renderpretrain.recipes.sections`."""

from renderpretrain.recipes.sections import depth_inliers, ray_terms, rgb_inliers

__all__ = ["depth_inliers", "ray_terms", "rgb_inliers"]
