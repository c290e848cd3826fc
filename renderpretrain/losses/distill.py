"""What a student is told to say: targets that are features of a teacher.

The comparison itself is :func:`~renderpretrain.losses.semantic_cosine`; here is what makes targets worth
comparing with. Features are rows ``(B, M, C)``, of which some count; a sample is compared with itself alone.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.rays import masked_mean

SMALLEST_VARIANCE = 1e-4
"""Added to a variance before its root: a channel that says nothing stays small."""

EXCLUDED = -1e9
"""Logarithm of the share of a row that does not count."""


def standardize(features: Float[Tensor, "B M C"], valid: Bool[Tensor, "B M"]) -> Float[Tensor, "B M C"]:
    """Every channel without its mean, over its standard deviation; rows that are not valid are 0.

    What all places have in common is most of the length of features behind a rectifier, and a cosine near 1
    for a student that says the same everywhere: without it, a target is what sets a place apart. Both are of
    the valid rows of a sample; where these are fewer than two, all is 0. Differentiable; in float32.
    """
    sizes = check_shape("features", features, "B M C")
    check_shape("valid", valid, "B M", B=sizes["B"], M=sizes["M"])
    check_floating(features=features)
    check_bool(valid=valid)
    kept, mark = torch.where(valid[..., None], features, 0.0).float(), valid[..., None]
    count = mark.sum(1, keepdim=True).clamp(min=1)
    centered = torch.where(mark, kept - kept.sum(1, keepdim=True) / count, 0.0)
    variance = centered.square().sum(1, keepdim=True) / count
    return centered * (variance + SMALLEST_VARIANCE).rsqrt()


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "B M K"],
    valid: Bool[Tensor, "B M"],
    *,
    temperature: int | float = 1.0,
    iterations: int = 3,
) -> Float[Tensor, "B M K"]:
    """Shares of rows in prototypes, so that every prototype gets as much of a sample as any other.

    ``exp(scores / temperature)``, whose columns and rows are in turn divided by their sums: SwAV's
    assignment (https://arxiv.org/abs/2006.09882). A row's shares sum to 1; those of a row that is not valid
    are 0. Not differentiable.

    Args:
        scores: Cosines of rows with prototypes.
        valid: Which rows count.
        temperature: How sharp the assignment is, positive.
        iterations: Rounds of the two divisions.
    """
    if temperature <= 0 or iterations < 1:
        raise ValueError(
            f"temperature, iterations: expected a positive number and at least 1, got {temperature} and "
            f"{iterations}"
        )
    sizes = check_shape("scores", scores, "B M K")
    check_shape("valid", valid, "B M", B=sizes["B"], M=sizes["M"])
    check_bool(valid=valid)
    counts = valid[..., None]
    log = torch.where(counts, scores.float() / temperature, EXCLUDED)
    for _ in range(iterations):
        log = torch.where(counts, log - log.logsumexp(1, keepdim=True), EXCLUDED)
        log = torch.where(counts, log - log.logsumexp(2, keepdim=True), EXCLUDED)
    return torch.where(counts, log.exp(), 0.0)


def swapped_prediction(
    first: Float[Tensor, "B M C"],
    second: Float[Tensor, "B M C"],
    prototypes: Float[Tensor, "K C"],
    valid: Bool[Tensor, "B M"],
    *,
    temperature: int | float = 1.0,
    iterations: int = 3,
) -> Float[Tensor, ""]:
    """Cross-entropy of each view's prototypes with the assignment of the other, by cosine.

    SwAV's loss with CLAP's numbers (https://arxiv.org/abs/2412.03059). Differentiable in both views and in
    the prototypes; a teacher's view has no gradient to begin with.

    Args:
        first: One view of places.
        second: Another view of the same places.
        prototypes: Directions that features are assigned to.
        valid: Which places count.
        temperature: Of softmax and assignment, positive.
        iterations: Of :func:`sinkhorn`.
    """
    sizes = check_shape("first", first, "B M C")
    check_alike(first=first, second=second)
    check_floating(first=first, second=second, prototypes=prototypes)
    check_shape("prototypes", prototypes, "K C", C=sizes["C"])
    with torch.autocast(first.device.type, enabled=False):
        kept = (torch.where(valid[..., None], view, 0.0).float() for view in (first, second))
        one, other = (normalize(view, dim=-1) @ normalize(prototypes.float(), dim=-1).mT for view in kept)
        entropies = [
            -(
                sinkhorn(told, valid, temperature=temperature, iterations=iterations)
                * (said / temperature).log_softmax(-1)
            ).sum(-1)
            for said, told in ((one, other), (other, one))
        ]
        return masked_mean((entropies[0] + entropies[1]) / 2, valid)


def gram_penalty(prototypes: Float[Tensor, "K C"]) -> Float[Tensor, ""]:
    """Mean cosine of two different prototypes: 1 where all are one. CLAP's term against that.

    Differentiable in the prototypes.
    """
    count = check_shape("prototypes", prototypes, "K C")["K"]
    if count < 2:
        raise ValueError(f"prototypes: expected at least two, got {count}")
    total = normalize(prototypes.float(), dim=-1).sum(0).square().sum()
    return (total - count) / (count * (count - 1))


class Prototypes(nn.Module):
    """Directions that features are assigned to, with the two terms that teach them.

    Args:
        width: Channels of the features.
        count: How many there are.
        temperature: Of softmax and assignment.
        gram: Weight of :func:`gram_penalty` beside the swapped prediction.
    """

    def __init__(
        self, width: int, count: int = 512, *, temperature: int | float = 1.0, gram: int | float = 0.1
    ) -> None:
        super().__init__()
        self.temperature, self.gram = temperature, gram
        self.directions = nn.Parameter(normalize(torch.randn(count, width), dim=-1))

    def forward(
        self, first: Float[Tensor, "B M C"], second: Float[Tensor, "B M C"], valid: Bool[Tensor, "B M"]
    ) -> Float[Tensor, ""]:
        """Swapped prediction of two views of the same places, and the Gram penalty. Differentiable."""
        swapped = swapped_prediction(first, second, self.directions, valid, temperature=self.temperature)
        return swapped + self.gram * gram_penalty(self.directions)
