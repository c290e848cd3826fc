"""What PonderV2's recipes share beside the rays: the terms that need classes."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.data import Batch
from renderpretrain.encoders import VoxelEncoder, Voxels
from renderpretrain.fields import SDFField
from renderpretrain.recipes.ponder_classes import ClassVectors, Vocabulary
from renderpretrain.recipes.ponder_config import FieldConfig, LossConfig
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import NeuSImportance, RayTargets


def check_parts(encoder: nn.Module, renderer: VolumeRenderer) -> tuple[SDFField, int]:
    """The field that is rendered, and the width of the encoder's features.

    Raises:
        ValueError: If the encoder does not meet its contract, or the field has no signed distances.
    """
    if not isinstance(encoder, nn.Module) or not isinstance(encoder, VoxelEncoder):
        raise ValueError(
            f"encoder: expected a module with out_channels, got {type(encoder).__name__}; a dense network "
            "goes into VolumeEncoder, one on lists of points into FlatEncoder"
        )
    if not isinstance(renderer.field, SDFField):
        raise ValueError(f"renderer.field: expected an SDFField, got {type(renderer.field).__name__}")
    return renderer.field, encoder.out_channels


def importance_of(field: SDFField, config: FieldConfig) -> NeuSImportance:
    """Where along rays a configured field is asked."""
    return NeuSImportance(
        field,
        num_samples=config.num_samples,
        num_importance=config.num_importance,
        near=config.near,
        sharpness=config.upsample_sharpness,
    )


def read_vectors(
    source: str | None, terms: dict[str, float], *, unnamed: bool = False
) -> ClassVectors | None:
    """The class embeddings, where a term asks for them.

    Args:
        source: Where they are; see :class:`ClassVectors`.
        terms: Weights of the terms that need them, by the names of their settings.
        unnamed: Whether scenes may come without classes.

    Raises:
        ValueError: If one does and there is no source.
    """
    on = [name for name, weight in terms.items() if weight]
    if not on:
        return None
    if source is None:
        off = " ".join(f"{name}=0" for name in on)
        raise ValueError(
            f"embeddings: expected an .npz of class vectors, for {' and '.join(on)} is on; got none: "
            f"give the file, or embeddings=hashed:64, or set {off}"
        )
    return ClassVectors(source, unnamed=unnamed)


def known_labels(
    batch: Batch, what: Literal["points", "pixels"], way_out: str, *, optional: bool = False
) -> Tensor:
    """The classes of points or pixels.

    Args:
        batch: Where they are.
        what: Of what.
        way_out: How to do without, for the error message.
        optional: Whether a batch may have none; then all are -1.

    Raises:
        ValueError: If there are none.
    """
    views = batch.views
    labels, shape = batch.points.labels, batch.points.valid.shape
    if what == "pixels":
        labels = None if views is None else views.labels
        shape = shape if views is None else views.images[:, :, 0].shape
    if labels is not None:
        return labels
    if optional:
        return torch.full(shape, -1, device=batch.device)
    raise ValueError(
        f"scene {batch.names[0]!r} has no classes of {what}: the semantic term needs them; set {way_out}"
    )


def semantic_terms(
    rendered: Rendered, targets: RayTargets, weights: LossConfig, vocabulary: Vocabulary | None
) -> dict[str, Float[Tensor, ""]]:
    """The weighted term of rendered embeddings, where there is a vocabulary."""
    if vocabulary is None or targets.labels is None or not weights.semantic:
        return {}
    wanted, known = vocabulary.embeddings.targets(vocabulary.rows_of(targets.labels))
    features, valid = rendered.channels["semantic"], known & targets.hit
    nce = losses.semantic_info_nce(features, wanted, valid, temperature=weights.temperature)
    return {"semantic": weights.semantic * nce}


def alignment(
    features: Float[Tensor, "M C"],
    voxels: Voxels,
    labels: Int[Tensor, "B P"],
    vocabulary: Vocabulary,
    temperature: float,
) -> Float[Tensor, ""]:
    """PPT's term: every point's voxel is told from the other classes of its own data set, by cosine.

    Mean over each sample's points that were voxelised and have a class, then over the batch.
    """
    rows, voxel = vocabulary.rows_of(labels), voxels.point_to_voxel
    known = (rows >= 0) & (voxel >= 0)
    if not len(features) or not vocabulary.embeddings.names:
        return 0 * features.sum()
    allowed = (vocabulary.labels >= 0)[voxels.coords[:, 0].long()]
    vectors = vocabulary.embeddings.vectors
    log_p = losses.class_log_probabilities(features, vectors, allowed, temperature=temperature)
    own = log_p[torch.where(known, voxel, 0), torch.where(known, rows, 0)]
    return losses.masked_mean(-own, known)
