"""What both of PonderV2's recipes share after encoding: the renderer, the embeddings, the loss terms."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.encoders import Voxels
from renderpretrain.fields import Embeddings, load_embeddings
from renderpretrain.recipes.ponder_config import LossConfig, RayLossConfig
from renderpretrain.renderers import Rendered
from renderpretrain.samplers import RayTargets


def read_embeddings(path: str | None, weights: LossConfig) -> Embeddings | None:
    """The class embeddings, where a semantic term asks for them.

    Raises:
        ValueError: If it does and there is no file.
    """
    if not weights.semantic:
        return None
    if path is None:
        raise ValueError(
            "embeddings: expected an .npz of class vectors, for losses.semantic is on; got none: "
            "give the file, or set losses.semantic=0"
        )
    return load_embeddings(path)


def labels_of(batch: Batch) -> Int[Tensor, "B P"]:
    """The points' classes.

    Raises:
        ValueError: If there are none.
    """
    if batch.point_labels is None:
        raise ValueError(
            f"scene {batch.names[0]!r} has no classes of points: the semantic term needs them; "
            "set losses.semantic=0"
        )
    return batch.point_labels


def hidden_rows(voxels: Voxels, hidden: Bool[Tensor, "B P"]) -> Bool[Tensor, " M"]:
    """Which voxels hold a hidden point."""
    # Points without a voxel have index -1, as those that are not hidden get: the place appended here.
    mask = hidden.new_zeros(len(voxels.coords) + 1)
    mask[torch.where(hidden, voxels.point_to_voxel, -1)] = True
    return mask[:-1]


def semantic_terms(
    rendered: Rendered, targets: RayTargets, weights: LossConfig, embeddings: Embeddings | None
) -> dict[str, Float[Tensor, ""]]:
    """The weighted semantic term, where there are embeddings."""
    if embeddings is None or targets.labels is None:
        return {}
    wanted, known = embeddings.to(targets.labels.device).targets(targets.labels)
    features, valid = rendered.channels["semantic"], known & targets.hit
    nce = losses.semantic_info_nce(features, wanted, valid, temperature=weights.temperature)
    return {"semantic": weights.semantic * nce}


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
