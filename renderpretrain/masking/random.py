"""Hide a fraction of the candidates, each with its own chance."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.masking.choose import check_share, hide_smallest, per_candidate, policy_seeds
from renderpretrain.masking.joined import Joinable


@dataclass(frozen=True)
class RandomMask(Joinable):
    """Hide ``ratio`` of each sample's candidates, rounded to whole tokens.

    On points it is PonderV2's indoor drop-out (0.8 of them, https://arxiv.org/abs/2310.08586), on pixels with
    a depth NS-MAE's mask of depth images (0.9, https://arxiv.org/abs/2405.17942).

    Attributes:
        ratio: Share to hide, in [0, 1].
    """

    ratio: int | float

    def __post_init__(self) -> None:
        check_share("RandomMask: ratio", self.ratio)

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        seeds = policy_seeds("RandomMask", candidates, seeds)
        return hide_smallest(ops.uniform(seeds, tuple(candidates.shape[1:])), candidates, self.ratio)


@dataclass(frozen=True)
class WeightedMask(Joinable):
    """Hide ``ratio`` of each sample's candidates, rounded to whole tokens, some more likely than others.

    Tokens are drawn one after the other without replacement, each with a chance proportional to its weight
    among those left: by exponential keys ``-log(u) / weight`` (Efraimidis and Spirakis 2006, "Weighted random
    sampling with a reservoir"). A token of weight zero is hidden only when no other is left.

    Attributes:
        weights: At least zero; in the shape of one sample's candidates, or per sample ``(B, ...)``.
        ratio: Share to hide, in [0, 1].
    """

    weights: Float[Tensor, "..."]
    ratio: int | float

    def __post_init__(self) -> None:
        check_share("WeightedMask: ratio", self.ratio)

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator.

        Raises:
            ValueError: If the weights are not of the candidates' shape.
        """
        weights = per_candidate("WeightedMask: weights", self.weights, candidates).double()
        seeds = policy_seeds("WeightedMask", candidates, seeds)
        # Double precision, so that devices whose logarithms differ in the last bit sort alike.
        waits = -torch.log1p(-ops.uniform(seeds, (weights.shape[1],)).double())
        never = 1e200 * (1 + waits)
        keys = torch.where(weights > 0, waits / weights, never)
        return hide_smallest(keys.view(candidates.shape), candidates, self.ratio)


def no_mask(candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"]) -> Bool[Tensor, "B ..."]:
    """A policy that hides nothing at all."""
    return torch.zeros_like(candidates)


def lidar_guided(
    returns: Int[Tensor, "M h w"], ratio: int | float, *, odds: int | float = 10.0
) -> WeightedMask:
    """A policy for image patches that prefers those a LiDAR sees: there the rendered depth has a target.

    Args:
        returns: LiDAR returns in each patch, from :func:`~renderpretrain.masking.returns_per_patch`.
        ratio: Share of all patches to hide, in [0, 1].
        odds: How many times as likely as one without returns a patch with returns is to be hidden next.
    """
    if odds <= 0:
        raise ValueError(f"odds: expected a positive number, got {odds}")
    return WeightedMask(torch.where(returns > 0, float(odds), 1.0), ratio)
