"""Operators on tensors: each is one file with its meaning, its plain-PyTorch reference and its kernels.

They run compiled where ``has_native`` says so for the tensor's device, and as their references elsewhere.
"""

from renderpretrain.ops._native import has_native, native_status
from renderpretrain.ops.box_intersect import box_intersect, box_intersect_reference
from renderpretrain.ops.composite import composite, composite_reference
from renderpretrain.ops.grid_sample import grid_sample, grid_sample_reference
from renderpretrain.ops.neus import neus_alphas
from renderpretrain.ops.noise import draw_seeds, fork, uniform
from renderpretrain.ops.resample import resample, resample_reference
from renderpretrain.ops.sparse_conv import sparse_conv3d, sparse_conv3d_reference
from renderpretrain.ops.sparse_neighbors import (
    strided_neighbors,
    strided_neighbors_reference,
    submanifold_neighbors,
    submanifold_neighbors_reference,
)
from renderpretrain.ops.splat import splat, splat_reference

__all__ = [
    "box_intersect",
    "box_intersect_reference",
    "composite",
    "composite_reference",
    "draw_seeds",
    "fork",
    "grid_sample",
    "grid_sample_reference",
    "has_native",
    "native_status",
    "neus_alphas",
    "resample",
    "resample_reference",
    "sparse_conv3d",
    "sparse_conv3d_reference",
    "splat",
    "splat_reference",
    "strided_neighbors",
    "strided_neighbors_reference",
    "submanifold_neighbors",
    "submanifold_neighbors_reference",
    "uniform",
]
