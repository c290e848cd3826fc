"""Moved to :mod:`renderpretrain.recipes.settings`."""

from renderpretrain.recipes.settings import NUSCENES_SAMPLES, OptimizationConfig, tiny_optimization

__all__ = ["NUSCENES_SAMPLES", "OptimizationConfig", "tiny_optimization"]
