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
from renderpretrain.ops.constant import constant
from renderpretrain.ops.distortion import distortion_loss, distortion_loss_reference
from renderpretrain.ops.field_shape import FieldHead, FieldOutputs, FieldShape, FieldValues
from renderpretrain.ops.frustum_coordinates import frustum_coordinates, frustum_coordinates_reference
from renderpretrain.ops.fused_mlp import fused_mlp, fused_mlp_reference
from renderpretrain.ops.grid_sample import (
    grid_sample,
    grid_sample_reference,
    grid_sample_vjp,
    grid_sample_vjp_reference,
)
from renderpretrain.ops.image_lift import image_lift, image_lift_reference
from renderpretrain.ops.injected_mlp import InjectedShape
from renderpretrain.ops.lss_plan import LssPlan, frustum_cells, lss_plan
from renderpretrain.ops.lss_pool import lss_pool, lss_pool_reference
from renderpretrain.ops.march import (
    Marched,
    PackedSamples,
    march,
    march_packed,
    march_packed_reference,
    march_reference,
)
from renderpretrain.ops.neus import neus_alphas, neus_alphas_reference
from renderpretrain.ops.neus_render import neus_render, neus_render_reference
from renderpretrain.ops.neus_upsample import neus_upsample, neus_upsample_reference
from renderpretrain.ops.noise import draw_seeds, fold_in, own_seeds, per_camera, uniform
from renderpretrain.ops.raycast_grid import BeamCounts, raycast_grid, raycast_grid_reference
from renderpretrain.ops.resample import resample, resample_reference
from renderpretrain.ops.scatter_plan import ScatterPlan, scatter_plan, scatter_plan_reference
from renderpretrain.ops.sdf_field import sdf_field, sdf_field_infer, sdf_field_reference
from renderpretrain.ops.segment_scan import (
    segment_exclusive_prod,
    segment_exclusive_prod_reference,
    segment_exclusive_sum,
    segment_exclusive_sum_reference,
)
from renderpretrain.ops.sparse_conv import sparse_conv3d, sparse_conv3d_reference
from renderpretrain.ops.sparse_neighbors import (
    StridedNeighbors,
    strided_neighbors,
    strided_neighbors_reference,
    submanifold_neighbors,
    submanifold_neighbors_reference,
)
from renderpretrain.ops.splat import splat, splat_reference
from renderpretrain.ops.strided_chain import strided_chain, strided_chain_reference
from renderpretrain.ops.voxel_scatter import voxel_scatter, voxel_scatter_reference
from renderpretrain.ops.voxelize import (
    OccupiedCells,
    occupied_cells,
    occupied_cells_reference,
    voxel_index,
    voxel_index_reference,
)

__all__ = [
    "BeamCounts",
    "Composited",
    "FieldHead",
    "FieldOutputs",
    "FieldShape",
    "FieldValues",
    "InjectedShape",
    "LssPlan",
    "Marched",
    "OccupiedCells",
    "PackedSamples",
    "ScatterPlan",
    "StridedNeighbors",
    "accumulate",
    "accumulate_reference",
    "box_intersect",
    "box_intersect_reference",
    "composite",
    "composite_reference",
    "composite_values",
    "composite_values_reference",
    "constant",
    "distortion_loss",
    "distortion_loss_reference",
    "draw_seeds",
    "fold_in",
    "frustum_cells",
    "frustum_coordinates",
    "frustum_coordinates_reference",
    "fused_mlp",
    "fused_mlp_reference",
    "grid_sample",
    "grid_sample_reference",
    "grid_sample_vjp",
    "grid_sample_vjp_reference",
    "has_native",
    "image_lift",
    "image_lift_reference",
    "lss_plan",
    "lss_pool",
    "lss_pool_reference",
    "march",
    "march_packed",
    "march_packed_reference",
    "march_reference",
    "native_status",
    "neus_alphas",
    "neus_alphas_reference",
    "neus_render",
    "neus_render_reference",
    "neus_upsample",
    "neus_upsample_reference",
    "occupied_cells",
    "occupied_cells_reference",
    "own_seeds",
    "per_camera",
    "raycast_grid",
    "raycast_grid_reference",
    "resample",
    "resample_reference",
    "scatter_plan",
    "scatter_plan_reference",
    "sdf_field",
    "sdf_field_infer",
    "sdf_field_reference",
    "segment_exclusive_prod",
    "segment_exclusive_prod_reference",
    "segment_exclusive_sum",
    "segment_exclusive_sum_reference",
    "sparse_conv3d",
    "sparse_conv3d_reference",
    "splat",
    "splat_reference",
    "strided_chain",
    "strided_chain_reference",
    "strided_neighbors",
    "strided_neighbors_reference",
    "submanifold_neighbors",
    "submanifold_neighbors_reference",
    "uniform",
    "voxel_index",
    "voxel_index_reference",
    "voxel_scatter",
    "voxel_scatter_reference",
]
