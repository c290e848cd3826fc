"""From images or points to a volume ``(B, C, Z, Y, X)``, and from several volumes to one."""

from renderpretrain.lifters.bevformer import BEVFormerLifter, BEVMemory, PreviousBEV, warp_bev
from renderpretrain.lifters.deformable import (
    SpatialCrossAttention,
    TemporalSelfAttention,
    deformable_attention,
)
from renderpretrain.lifters.depth_lss import DepthLSS, LiftedBEV
from renderpretrain.lifters.fusion import ConcatFusion, sum_volumes
from renderpretrain.lifters.lift_splat import LiftSplat, SplatLifter, frustum_points
from renderpretrain.lifters.pillars import PillarViews, pillar_heights, pillar_points, project_pillars
from renderpretrain.lifters.points import lift_points, lift_voxels
from renderpretrain.lifters.views import (
    ViewLifter,
    depth_log_likelihood,
    lift_views,
    pose_coordinates,
    view_coordinates,
)

__all__ = [
    "BEVFormerLifter",
    "BEVMemory",
    "ConcatFusion",
    "DepthLSS",
    "LiftSplat",
    "LiftedBEV",
    "PillarViews",
    "PreviousBEV",
    "SpatialCrossAttention",
    "SplatLifter",
    "TemporalSelfAttention",
    "ViewLifter",
    "deformable_attention",
    "depth_log_likelihood",
    "frustum_points",
    "lift_points",
    "lift_views",
    "lift_voxels",
    "pillar_heights",
    "pillar_points",
    "pose_coordinates",
    "project_pillars",
    "sum_volumes",
    "view_coordinates",
    "warp_bev",
]
