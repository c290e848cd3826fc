"""The loss terms of rendered rays that recipes have in common."""

from jaxtyping import Float
from torch import Tensor

from renderpretrain import losses
from renderpretrain.recipes.ray_config import RayLossConfig
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import RayTargets


def ray_terms(
    rendered: Rendered, targets: RayTargets, weights: RayLossConfig
) -> dict[str, Float[Tensor, ""]]:
    """The weighted terms of geometry and colour; a term of weight 0 is left out."""
    field, samples = rendered.field, rendered.samples
    terms = {"depth": weights.depth * losses.depth_l1(rendered.depth, targets.depth, targets.hit)}
    if rendered.rgb is not None:
        terms["rgb"] = weights.rgb * losses.rgb_l1(rendered.rgb, targets.rgb, targets.rgb_valid)
    measured = (samples.t_mids, targets.depth, targets.hit)
    if weights.free_space and field.sdf is not None:
        free = losses.free_space(field.sdf, *measured, truncation=weights.truncation)
        terms["free_space"] = weights.free_space * free
    if weights.sdf and field.sdf is not None:
        near = losses.near_surface_sdf(field.sdf, *measured, truncation=weights.truncation)
        terms["sdf"] = weights.sdf * near
    if weights.eikonal and field.gradients is not None:
        terms["eikonal"] = weights.eikonal * losses.eikonal(field.gradients, samples.valid)
    return terms
