"""The loss terms of rendered rays that recipes have in common."""

from jaxtyping import Float
from torch import Tensor

from renderpretrain import losses
from renderpretrain.recipes.ray_config import RayLossConfig
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import RayTargets

CLOSEST = 1e-3
"""Metres that smaller depths count as where errors are taken relative to them."""


def ray_terms(
    rendered: Rendered, targets: RayTargets, weights: RayLossConfig
) -> dict[str, Float[Tensor, ""]]:
    """The weighted terms of geometry and colour; a term of weight 0 is left out."""
    believed = depth_inliers(rendered, targets, weights.inliers)
    error = losses.depth_l1(rendered.depth, targets.depth, targets.hit, inliers=believed)
    terms = {"depth": weights.depth * error}
    if rendered.rgb is not None:
        seen = rgb_inliers(rendered, targets, weights.inliers)
        error = losses.rgb_l1(rendered.rgb, targets.rgb, targets.rgb_valid, inliers=seen)
        terms["rgb"] = weights.rgb * error
    if rendered.along is None:
        return terms
    field, samples = rendered.along.field, rendered.along.samples
    measured = (samples.t_mids, targets.depth, targets.hit)
    if weights.free_space and field.sdf is not None:
        free = losses.free_space(field.sdf, *measured, truncation=weights.truncation, inliers=believed)
        terms["free_space"] = weights.free_space * free
    if weights.sdf and field.sdf is not None:
        near = losses.near_surface_sdf(field.sdf, *measured, truncation=weights.truncation, inliers=believed)
        terms["sdf"] = weights.sdf * near
    if weights.eikonal and field.gradients is not None:
        terms["eikonal"] = weights.eikonal * losses.eikonal(field.gradients, samples.valid)
    return terms


def depth_inliers(
    rendered: Rendered, targets: RayTargets, scale: int | float | None
) -> Float[Tensor, "B R"] | None:
    """How far each ray's depth is believed, by its relative error; ``None`` without a scale: all alike."""
    if scale is None:
        return None
    error = (rendered.depth - targets.depth) / targets.depth.clamp(min=CLOSEST)
    return losses.inlier_weights(error, targets.hit, scale=scale)


def rgb_inliers(
    rendered: Rendered, targets: RayTargets, scale: int | float | None
) -> Float[Tensor, "B R"] | None:
    """How far each ray's colour is believed, by its error; ``None`` without a scale: all alike."""
    if scale is None or rendered.rgb is None:
        return None
    return losses.inlier_weights((rendered.rgb - targets.rgb).abs().mean(-1), targets.rgb_valid, scale=scale)
