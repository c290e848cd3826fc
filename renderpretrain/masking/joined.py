"""Policies joined by ``|`` and ``&``: each draws on its own, though all get the same seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.masking.choose import policy_seeds

MaskPolicy = Callable[[Bool[Tensor, "B ..."], Int[Tensor, " B"]], Bool[Tensor, "B ..."]]
"""``(candidates, seeds) -> mask``; the mask is a subset of the candidates."""


class Joinable:
    """Gives a policy ``|`` and ``&`` with any other, which may be a plain function.

    Masks that two equal policies drew from the same seeds are the same mask, and ``|`` between them changes
    nothing. Between the policies it joins draws of their own.
    """

    def __or__(self, other: MaskPolicy) -> "Either":
        """Hide what this policy or the other hides."""
        return Either((cast(MaskPolicy, self), other))

    def __ror__(self, other: MaskPolicy) -> "Either":
        """Either policy, where the first one is a plain function."""
        return Either((other, cast(MaskPolicy, self)))

    def __and__(self, other: MaskPolicy) -> "Both":
        """Hide what this policy and the other hide."""
        return Both((cast(MaskPolicy, self), other))

    def __rand__(self, other: MaskPolicy) -> "Both":
        """Both policies, where the first one is a plain function."""
        return Both((other, cast(MaskPolicy, self)))


@dataclass(frozen=True)
class Either(Joinable):
    """Hide what any of the policies hides, each of which draws on its own; ``a | b`` makes one.

    Attributes:
        policies: At least one.
    """

    policies: tuple[MaskPolicy, ...]

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        return _each("Either", self.policies, candidates, seeds).any(0)


@dataclass(frozen=True)
class Both(Joinable):
    """Hide only what all of the policies hide, each of which draws on its own; ``a & b`` makes one.

    Attributes:
        policies: At least one.
    """

    policies: tuple[MaskPolicy, ...]

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        return _each("Both", self.policies, candidates, seeds).all(0)


def _each(
    name: str, policies: tuple[MaskPolicy, ...], candidates: Bool[Tensor, "B ..."], seeds: Tensor | None
) -> Bool[Tensor, "N B ..."]:
    """The masks of all policies; the place of each among the others is part of its seeds."""
    own = policy_seeds(name, candidates, seeds)
    return torch.stack([policy(candidates, ops.fold_in(own, i)) for i, policy in enumerate(policies)])
