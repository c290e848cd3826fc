"""Hide more where the sensor sees more: a share that depends on the distance."""

from bisect import bisect
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.masking.choose import check_share, hide_in_groups, per_candidate, policy_seeds
from renderpretrain.masking.joined import Joinable


@dataclass(frozen=True)
class RangeMask(Joinable):
    """Hide a share of the candidates that depends on their distance, uniformly within each ring.

    A LiDAR has hundreds of returns on a car nearby and a handful on one far away; one ratio for both leaves
    nothing of the far one. The number of hidden tokens is within one of what was asked in every ring, and
    over all rings. With a voxel grid: ``RangeMask(blocks.centers(device)[..., :2].norm(dim=-1), ...)``.

    Attributes:
        distances: Of every token, metres, not NaN; in the shape of one sample's candidates, or per sample
            ``(B, ...)``.
        edges: Distances at which one ring ends and the next begins, metres, ascending; the first ring starts
            at zero, the last one never ends.
        ratios: Share to hide in every ring, in [0, 1]; one more than edges.
    """

    distances: Float[Tensor, "..."]
    edges: tuple[int | float, ...]
    ratios: tuple[int | float, ...]

    def __post_init__(self) -> None:
        if len(self.ratios) != len(self.edges) + 1:
            raise ValueError(
                f"RangeMask: ratios: expected {len(self.edges) + 1}, one more than edges, "
                f"got {len(self.ratios)}"
            )
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"RangeMask: edges: expected ascending numbers, got {self.edges}")
        for ratio in self.ratios:
            check_share("RangeMask: ratios", ratio)

    @staticmethod
    def linear(
        distances: Float[Tensor, "..."],
        near: tuple[int | float, int | float],
        far: tuple[int | float, int | float],
        *,
        rings: int = 16,
    ) -> "RangeMask":
        """A share that changes linearly from one distance to another, and is constant outside.

        Args:
            distances: As in the class.
            near: Distance in metres, and the share to hide up to there.
            far: The same, from there on.
            rings: Steps between the two; each hides the share of its middle.
        """
        (start, first), (end, last) = near, far
        if end <= start or rings < 1:
            raise ValueError(
                f"RangeMask.linear: expected near < far and at least one ring, got {start}, {end}, {rings}"
            )
        edges = [start + (end - start) * i / rings for i in range(rings + 1)]
        middles = [first + (last - first) * (i + 0.5) / rings for i in range(rings)]
        return RangeMask(distances, tuple(edges), (first, *middles, last))

    def ratio_at(self, distance: int | float) -> float:
        """The share to hide at a distance in metres."""
        return self.ratios[bisect(self.edges, distance)]

    def __call__(
        self, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None = None
    ) -> Bool[Tensor, "B ..."]:
        """Draw the mask; without seeds they come from torch's global generator.

        Raises:
            ValueError: If the distances are not of the candidates' shape.
        """
        distances = per_candidate("RangeMask: distances", self.distances, candidates)
        seeds = policy_seeds("RangeMask", candidates, seeds)
        edges = ops.constant(self.edges, distances)
        rings = torch.bucketize(distances.contiguous(), edges, right=True)
        keys = ops.uniform(seeds, tuple(candidates.shape[1:]))
        return hide_in_groups(keys, candidates, rings, self.ratios)
