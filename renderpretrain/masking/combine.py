"""Masking policies that are made of other policies."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.masking.choose import check_share, policy_seeds
from renderpretrain.masking.joined import Joinable, MaskPolicy
from renderpretrain.masking.random import RandomMask

WHETHER, POLICY = 1, 2
"""Purposes of seeds: whether a sample is masked, and what is hidden of it."""


@dataclass(frozen=True)
class Compose(Joinable):
    """Hide what the policies hide one after the other, each among what the ones before it left.

    Attributes:
        policies: At least one, first one first.
    """

    policies: tuple[MaskPolicy, ...]

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        seeds = policy_seeds("Compose", candidates, seeds)
        mask = torch.zeros_like(candidates)
        for i, policy in enumerate(self.policies):
            mask = mask | policy(candidates & ~mask, ops.fold_in(seeds, i))
        return mask


@dataclass(frozen=True)
class Sometimes(Joinable):
    """Hide nothing of some samples, and what a policy hides of the others.

    Attributes:
        policy: For a sample that is masked.
        probability: Of being masked, in [0, 1].
    """

    policy: MaskPolicy
    probability: int | float

    def __post_init__(self) -> None:
        check_share("Sometimes: probability", self.probability)

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        seeds = policy_seeds("Sometimes", candidates, seeds)
        masked = ops.uniform(ops.fold_in(seeds, WHETHER), (1,))[:, 0] < self.probability
        mask = self.policy(candidates, ops.fold_in(seeds, POLICY))
        return mask & masked.view(-1, *(1,) * (mask.dim() - 1))


@dataclass(frozen=True)
class SharedMask(Joinable):
    """One decision for all tokens along some axes: a policy for columns, frames, or all cameras at once.

    A line of tokens is a candidate where any of its tokens is. For the columns of a bird's-eye view on
    candidates ``(B, Z, Y, X)``: ``SharedMask(RandomMask(0.5), axes=(1,))``.

    Attributes:
        policy: Sees the candidates without these axes.
        axes: Counted with the batch, which is axis 0 and cannot be one of them.
    """

    policy: MaskPolicy
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.axes or min(self.axes) < 1:
            raise ValueError(f"SharedMask: axes: expected axes from 1 on, got {self.axes}")

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator."""
        if max(self.axes) >= candidates.dim():
            raise ValueError(f"SharedMask: axes: expected axes of {tuple(candidates.shape)}, got {self.axes}")
        seeds = policy_seeds("SharedMask", candidates, seeds)
        lines = candidates.any(dim=self.axes, keepdim=True)
        mask = self.policy(lines.squeeze(self.axes), seeds)
        return candidates & mask.reshape(lines.shape)


@dataclass(frozen=True)
class FrameMask(Joinable):
    """Drop whole frames of a sequence; the newest ones stay.

    UniScene sees three of the four frames before the key frame (https://arxiv.org/abs/2305.18829):
    ``FrameMask(0.25)`` on five.

    Attributes:
        ratio: Share of the older frames to hide, in [0, 1].
        keep: Newest frames that are never hidden.
    """

    ratio: int | float
    keep: int = 1

    def __post_init__(self) -> None:
        check_share("FrameMask: ratio", self.ratio)
        if self.keep < 0:
            raise ValueError(f"FrameMask: keep: expected at least zero, got {self.keep}")

    def __call__(
        self, candidates: Bool[Tensor, "B T ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B T ..."]:
        """Draw the mask of frames, oldest first; without seeds they come from torch's global generator."""
        seeds = policy_seeds("FrameMask", candidates, seeds)
        frames = candidates.flatten(2).any(2) if candidates.dim() > 2 else candidates
        old = torch.arange(frames.shape[1], device=frames.device) < frames.shape[1] - self.keep
        mask = RandomMask(self.ratio)(frames & old, seeds)
        return candidates & mask.view(*mask.shape, *(1,) * (candidates.dim() - 2))
