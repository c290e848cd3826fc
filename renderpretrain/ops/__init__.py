"""Operators on tensors: each is one file with its meaning, its plain-PyTorch reference and its kernels.

They run compiled where ``has_native`` says so for the tensor's device, and as their references elsewhere.
"""

from renderpretrain.ops._native import has_native, native_status
from renderpretrain.ops.box_intersect import box_intersect, box_intersect_reference
from renderpretrain.ops.composite import composite, composite_reference
from renderpretrain.ops.frustum_coordinates import frustum_coordinates, frustum_coordinates_reference
from renderpretrain.ops.grid_sample import grid_sample, grid_sample_reference
from renderpretrain.ops.image_lift import image_lift, image_lift_reference
from renderpretrain.ops.neus import neus_alphas
from renderpretrain.ops.noise import draw_seeds, fork, uniform
from renderpretrain.ops.resample import resample, resample_reference
from renderpretrain.ops.splat import splat, splat_reference

__all__ = [
    "box_intersect",
    "box_intersect_reference",
    "composite",
    "composite_reference",
    "draw_seeds",
    "fork",
    "frustum_coordinates",
    "frustum_coordinates_reference",
    "grid_sample",
    "grid_sample_reference",
    "has_native",
    "image_lift",
    "image_lift_reference",
    "native_status",
    "neus_alphas",
    "resample",
    "resample_reference",
    "splat",
    "splat_reference",
    "uniform",
]
