"""Losses on rendered semantic features, such as embeddings of a vision-language model."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.rays import masked_mean

EXCLUDED = -1e9
"""Logit of a target that is not valid: finite, so that a sample without any has a gradient of zero."""


def semantic_info_nce(
    features: Float[Tensor, "B R C"],
    target: Float[Tensor, "B R C"],
    valid: Bool[Tensor, "B R"],
    *,
    temperature: int | float = 0.01,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding a ray's own target among those of its sample, by cosine similarity.

    PonderV2's semantic loss (https://arxiv.org/abs/2310.08586) with its temperature; InfoNCE of CPC
    (https://arxiv.org/abs/1807.03748). Rays with equal targets cannot tell them apart: ``n`` of them cost at
    least ``log n`` each. The targets of other samples are no negatives, so that the loss does not depend on
    the batch. Differentiable in features; computed in float32, with ``(B, R, R)`` similarities.

    Args:
        features: Rendered features, of any length.
        target: Embeddings, of any length.
        valid: Which rays have a target; the others are no negatives either.
        temperature: Of the softmax, positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    _check_features(features, target, valid)
    with torch.autocast(features.device.type, enabled=False):
        mine, theirs = _directions(features, valid), _directions(target, valid)
        logits = (mine @ theirs.mT / temperature).masked_fill(~valid[:, None], EXCLUDED)
        own = logits.diagonal(dim1=1, dim2=2)
        return masked_mean(logits.logsumexp(-1) - own, valid)


def semantic_cosine(
    features: Float[Tensor, "B R C"], target: Float[Tensor, "B R C"], valid: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Mean of one minus the cosine between rendered features and targets. Differentiable in features."""
    _check_features(features, target, valid)
    return masked_mean(1 - (_directions(features, valid) * _directions(target, valid)).sum(-1), valid)


def class_log_probabilities(
    features: Float[Tensor, "M C"],
    vectors: Float[Tensor, "K C"],
    allowed: Bool[Tensor, "M K"],
    *,
    temperature: int | float = 0.01,
) -> Float[Tensor, "M K"]:
    """Logarithm of the softmax over classes of a feature's cosine similarity with their embeddings.

    The negative of the entry of the right class is PPT's language-guided categorical alignment
    (https://arxiv.org/abs/2308.09718, section 3.4): a feature is told apart from the classes of its own data
    set only, for another one's "furniture" may be its "chair". Differentiable in features; computed in
    float32.

    Args:
        features: Of any length.
        vectors: One embedding per class, of any length.
        allowed: Which classes a feature may be told to be; the others get about -1e9.
        temperature: Of the softmax, positive; 0.01 is CLIP's.
    """
    if temperature <= 0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    sizes = check_shape("features", features, "M C")
    classes = check_shape("vectors", vectors, "K C", C=sizes["C"])["K"]
    check_shape("allowed", allowed, "M K", M=sizes["M"], K=classes)
    check_floating(features=features, vectors=vectors)
    check_bool(allowed=allowed)
    with torch.autocast(features.device.type, enabled=False):
        cosines = normalize(features.float(), dim=-1) @ normalize(vectors.float(), dim=-1).mT
        return (cosines / temperature).masked_fill(~allowed, EXCLUDED).log_softmax(-1)


def _check_features(features: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raise ``ValueError`` unless every rendered feature has a target and a mark."""
    sizes = check_shape("features", features, "B R C")
    check_alike(features=features, target=target)
    check_floating(features=features, target=target)
    check_shape("valid", valid, "B R", B=sizes["B"], R=sizes["R"])
    check_bool(valid=valid)


def _directions(features: Tensor, valid: Tensor) -> Tensor:
    """Features of unit length in float32; zero where not valid."""
    return normalize(torch.where(valid[..., None], features, 0.0).float(), dim=-1)
