"""Hide a fraction of the candidates, uniformly at random."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from renderpretrain import ops

MaskPolicy = Callable[[Bool[Tensor, "B ..."], Int[Tensor, " B"]], Bool[Tensor, "B ..."]]
"""``(candidates, seeds) -> mask``; the mask is a subset of the candidates."""


@dataclass(frozen=True)
class RandomMask:
    """Hide ``ratio`` of each sample's candidates, rounded to whole tokens.

    Attributes:
        ratio: Share to hide, in [0, 1].
    """

    ratio: float

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"RandomMask: ratio: expected a number in [0, 1], got {self.ratio}")

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        if seeds is None:
            seeds = ops.draw_seeds(len(candidates), candidates.device)
        flat = candidates.flatten(1)
        keys = torch.where(flat, ops.uniform(seeds, (flat.shape[1],)), 2.0)
        order = keys.argsort(dim=1, stable=True)
        places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        rank = torch.zeros_like(order).scatter_(1, order, places)
        count = (flat.sum(1, keepdim=True) * self.ratio + 0.5).floor()
        return ((rank < count) & flat).view_as(candidates)


def no_mask(candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"]) -> Bool[Tensor, "B ..."]:
    """Hide nothing."""
    return torch.zeros_like(candidates)
