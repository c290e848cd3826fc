"""Operators on tensors: each is one file with its meaning, its plain-PyTorch reference and its kernels.

They run compiled where ``has_native`` says so for the tensor's device, and as their references elsewhere.
"""

from renderpretrain.ops._native import has_native, native_status
from renderpretrain.ops.accumulate import accumulate, accumulate_reference
from renderpretrain.ops.box_intersect import box_intersect, box_intersect_reference
from renderpretrain.ops.composite import composite, composite_reference
from renderpretrain.ops.composite_values import (
    Composited,
    composite_values,
    composite_values_reference,
)
from renderpretrain.ops.grid_sample import grid_sample, grid_sample_reference
from renderpretrain.ops.neus import neus_alphas, neus_alphas_reference
from renderpretrain.ops.neus_render import neus_render, neus_render_reference
from renderpretrain.ops.noise import draw_seeds, fork, uniform
from renderpretrain.ops.resample import resample, resample_reference
from renderpretrain.ops.splat import splat, splat_reference

__all__ = [
    "Composited",
    "accumulate",
    "accumulate_reference",
    "box_intersect",
    "box_intersect_reference",
    "composite",
    "composite_reference",
    "composite_values",
    "composite_values_reference",
    "draw_seeds",
    "fork",
    "grid_sample",
    "grid_sample_reference",
    "has_native",
    "native_status",
    "neus_alphas",
    "neus_alphas_reference",
    "neus_render",
    "neus_render_reference",
    "resample",
    "resample_reference",
    "splat",
    "splat_reference",
    "uniform",
]
