"""What PonderV2's recipes share beside the rays: hidden voxels, classes and their embeddings."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.encoders import Voxels
from renderpretrain.fields import Embeddings, load_embeddings
from renderpretrain.recipes.ponder_config import LossConfig
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
