"""What a rendered ray, image or volume is compared with, and how several such terms become one loss.

Every loss is averaged per sample over its valid entries and then over the batch, so that two half batches
give the gradient of the whole one; with nothing valid it is 0 with gradient 0. Entries that are not valid may
hold anything, NaN included.
"""

from renderpretrain.losses.balancing import GradNorm, UncertaintyWeights, gradient_norms, weigh
from renderpretrain.losses.collapse import covariance_penalty, sigreg, variance_hinge
from renderpretrain.losses.distill import Prototypes, gram_penalty, sinkhorn, standardize, swapped_prediction
from renderpretrain.losses.images import rgb_ssim
from renderpretrain.losses.inliers import inlier_weights, trimmed_weights
from renderpretrain.losses.occupancy import lovasz_softmax, occupancy_bce, occupancy_focal, top_surface
from renderpretrain.losses.rays import (
    depth_kl,
    depth_l1,
    depth_l2,
    depth_silog,
    distortion,
    masked_mean,
    opacity_entropy,
    rgb_l1,
    rgb_mse,
)
from renderpretrain.losses.reprojection import photometric_errors, reprojection
from renderpretrain.losses.semantic import class_log_probabilities, semantic_cosine, semantic_info_nce
from renderpretrain.losses.surface import eikonal, free_space, near_surface_sdf, sdf_sparsity
from renderpretrain.losses.sweeps import empty_rays, intensity_smooth_l1, normal_error, surface_sdf
from renderpretrain.losses.views import CameraViews, error_sums

__all__ = [
    "CameraViews",
    "GradNorm",
    "Prototypes",
    "UncertaintyWeights",
    "class_log_probabilities",
    "covariance_penalty",
    "depth_kl",
    "depth_l1",
    "depth_l2",
    "depth_silog",
    "distortion",
    "eikonal",
    "empty_rays",
    "error_sums",
    "free_space",
    "gradient_norms",
    "gram_penalty",
    "inlier_weights",
    "intensity_smooth_l1",
    "lovasz_softmax",
    "masked_mean",
    "near_surface_sdf",
    "normal_error",
    "occupancy_bce",
    "occupancy_focal",
    "opacity_entropy",
    "photometric_errors",
    "reprojection",
    "rgb_l1",
    "rgb_mse",
    "rgb_ssim",
    "sdf_sparsity",
    "semantic_cosine",
    "semantic_info_nce",
    "sigreg",
    "sinkhorn",
    "standardize",
    "surface_sdf",
    "swapped_prediction",
    "top_surface",
    "trimmed_weights",
    "variance_hinge",
    "weigh",
]
