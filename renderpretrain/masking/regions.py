"""Hide what lies together: rectangles and boxes, sectors, cones, the squares of a grid."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.masking.choose import check_share, hide_smallest, per_candidate, policy_seeds
from renderpretrain.masking.joined import Joinable

ANGLE_STEPS = 1 << 20
"""Angles and cosines are compared in these steps: equal ones stay equal whatever a device's rounding."""


@dataclass(frozen=True)
class BlockMask(Joinable):
    """Hide rectangles of patches, or boxes of voxels, until ``ratio`` of the candidates is hidden.

    As in BEiT (https://arxiv.org/abs/2106.08254, algorithm 1), for any number of axes, with one difference:
    blocks may stick out of the picture, so that its border is hidden as often as its middle. The last block
    is cut, so that the share is exact to one token; tokens that no block reached, if any are needed, are
    drawn at random.

    Attributes:
        ratio: Share of each sample's candidates to hide, in [0, 1].
        smallest: Fewest tokens of a block along every axis: ``(h, w)`` or ``(z, y, x)``.
        largest: Most tokens along every axis; sizes in between are equally likely.
    """

    ratio: int | float
    smallest: tuple[int, ...]
    largest: tuple[int, ...]

    def __post_init__(self) -> None:
        check_share("BlockMask: ratio", self.ratio)
        fits = len(self.smallest) == len(self.largest) and all(
            1 <= a <= b for a, b in zip(self.smallest, self.largest, strict=True)
        )
        if not fits:
            raise ValueError(
                "BlockMask: expected 1 <= smallest <= largest on every axis, "
                f"got {self.smallest} and {self.largest}"
            )

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator.

        Raises:
            ValueError: If the candidates do not have one axis per size of a block, behind the batch.
        """
        shape = tuple(candidates.shape[1:])
        if len(shape) != len(self.largest):
            raise ValueError(
                f"candidates: expected a batch of {len(self.largest)} axes, got {tuple(candidates.shape)}"
            )
        seeds = policy_seeds("BlockMask", candidates, seeds)
        first, count = self._first_blocks(shape, seeds)
        scattered = ops.uniform(seeds, shape)
        return hide_smallest(first + torch.where(first == count, scattered, 0.0), candidates, self.ratio)

    def _first_blocks(self, shape: tuple[int, ...], seeds: Tensor) -> tuple[Tensor, int]:
        """Number of the first block that holds each token, and the number of blocks where none does."""
        count = self._blocks_needed(shape)
        index = torch.zeros((), dtype=torch.int64, device=seeds.device)
        inside = torch.ones((), dtype=torch.bool, device=seeds.device)
        for axis, extent in enumerate(shape):
            places, along = self._places(axis, extent, count, ops.fold_in(seeds, axis + 1))
            behind = (*along.shape[:2], *(1,) * axis, along.shape[2])
            index = index[..., None] * extent + places.view(behind)
            inside = inside[..., None] & along.view(behind)
        tokens = math.prod(shape)
        index = torch.where(inside, index, tokens).flatten(2)
        number = torch.arange(count, device=seeds.device)[:, None].expand_as(index)
        first = index.new_full((len(seeds), tokens + 1), count)
        first.scatter_reduce_(1, index.flatten(1), number.flatten(1), "amin")
        return first[:, :-1].unflatten(1, shape), count

    def _places(self, axis: int, extent: int, count: int, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Places along an axis of every block's tokens, ``(B, count, largest)``, and which of them exist."""
        low, high = self.smallest[axis], self.largest[axis]
        u = ops.uniform(seeds, (count, 2))
        size = low + (u[..., :1] * (high - low + 1)).long()
        start = (u[..., 1:] * (extent + size - 1)).long() - size + 1
        within = torch.arange(high, device=seeds.device)
        places = start + within
        return places, (within < size) & (places >= 0) & (places < extent)

    def _blocks_needed(self, shape: tuple[int, ...]) -> int:
        """Blocks that leave a quarter of what may be seen uncovered on average, twice over."""
        sizes = [(a + b) / 2 for a, b in zip(self.smallest, self.largest, strict=True)]
        chance = math.prod(size / (extent + size - 1) for size, extent in zip(sizes, shape, strict=True))
        if chance >= 1:
            return 1
        return math.ceil(2 * math.log(max(1 - self.ratio, 0.02) / 4) / math.log1p(-chance))


@dataclass(frozen=True)
class SectorMask(Joinable):
    """Hide one sector around the sensor, from a random azimuth on, that holds ``ratio`` of the candidates.

    Attributes:
        azimuths: Of every token, radians, ``atan2(y, x)``; in the shape of one sample's candidates, or per
            sample ``(B, ...)``.
        ratio: Share to hide, in [0, 1].
    """

    azimuths: Float[Tensor, "..."]
    ratio: int | float

    def __post_init__(self) -> None:
        check_share("SectorMask: ratio", self.ratio)

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator.

        Raises:
            ValueError: If the azimuths are not of the candidates' shape.
        """
        azimuths = per_candidate("SectorMask: azimuths", self.azimuths, candidates).double()
        seeds = policy_seeds("SectorMask", candidates, seeds)
        turns = azimuths / (2 * math.pi) - ops.uniform(seeds, (1,)).double()
        keys = (turns * ANGLE_STEPS).round().remainder(ANGLE_STEPS)
        return hide_smallest(keys.view(candidates.shape), candidates, self.ratio)


@dataclass(frozen=True)
class ConeMask(Joinable):
    """Hide the cone around one random candidate's direction that holds ``ratio`` of the candidates.

    Attributes:
        directions: From the sensor to every token, of any length but zero; ``(..., 3)`` with one sample's
            candidates in front, or per sample ``(B, ..., 3)``.
        ratio: Share to hide, in [0, 1].
    """

    directions: Float[Tensor, "... 3"]
    ratio: int | float

    def __post_init__(self) -> None:
        check_share("ConeMask: ratio", self.ratio)
        check_shape("ConeMask: directions", self.directions, "... 3")

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator.

        Raises:
            ValueError: If the directions are not of the candidates' shape.
        """
        parts = [per_candidate("ConeMask: directions", x, candidates) for x in self.directions.unbind(-1)]
        seeds = policy_seeds("ConeMask", candidates, seeds)
        directions = torch.nn.functional.normalize(torch.stack(parts, -1).double(), dim=-1)
        if directions.shape[1] == 0:
            return torch.zeros_like(candidates)
        chances = torch.where(candidates.flatten(1), ops.uniform(seeds, (directions.shape[1],)), -1.0)
        axis = directions.gather(1, chances.argmax(1)[:, None, None].expand(-1, 1, 3))
        keys = -((directions * axis).sum(-1) * ANGLE_STEPS).round()
        return hide_smallest(keys.view(candidates.shape), candidates, self.ratio)


@dataclass(frozen=True)
class GridMask(Joinable):
    """Hide the squares of a regular grid of random period and place.

    GridMask (https://arxiv.org/abs/2001.04086), section 3, without rotation, as BEVFormer and UniScene use
    it (there with a probability of 0.7: ``Sometimes(GridMask(...), 0.7)``). In every period of ``d`` tokens
    along both axes a square of ``d - round(ratio d)`` tokens is hidden, a share of about ``(1 - ratio)^2``
    of the picture.

    Attributes:
        periods: Smallest and largest ``d`` in tokens; whole numbers in between are equally likely.
        ratio: Share of a period, along each axis, between two squares, in [0, 1].
    """

    periods: tuple[int, int]
    ratio: int | float = 0.5

    def __post_init__(self) -> None:
        check_share("GridMask: ratio", self.ratio)
        if not 2 <= self.periods[0] <= self.periods[1]:
            raise ValueError(f"GridMask: periods: expected 2 <= smallest <= largest, got {self.periods}")

    def __call__(
        self, candidates: Bool[Tensor, "B h w"], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B h w"]:
        """Draw the mask; without seeds they come from torch's global generator."""
        check_shape("candidates", candidates, "B h w")
        seeds = policy_seeds("GridMask", candidates, seeds)
        low, high = self.periods
        u = ops.uniform(seeds, (3,))
        period = low + (u[:, :1] * (high - low + 1)).floor()
        edge = period - (period * self.ratio + 0.5).floor()
        rows, columns = (
            (torch.arange(extent, device=u.device) + (u[:, axis : axis + 1] * period).floor()) % period < edge
            for axis, extent in enumerate(candidates.shape[1:], start=1)
        )
        return candidates & rows[:, :, None] & columns[:, None]
