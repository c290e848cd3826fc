"""Rays and the intervals along them. Directions are unit, so ``t`` is metres from the origin."""

import os
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_shape

VALUES_ARE_CHECKED = os.environ.get("RENDERPRETRAIN_CHECK", "0") not in ("", "0")
"""Whether checks may look at numbers, not only at shapes."""

UNIT_TO = 1e-3
"""How far from 1 the length of a direction may be: float16 is rounded by half of that."""


@dataclass(frozen=True)
class Rays:
    """Half-lines ``origins + t * directions`` in the world frame.

    Attributes:
        origins: Where the rays start, metres.
        directions: Unit vectors, or zero for no ray. Their length is looked at only with
            ``RENDERPRETRAIN_CHECK=1``: on a GPU the step would wait for the answer.
    """

    origins: Float[Tensor, "*batch 3"]
    directions: Float[Tensor, "*batch 3"]

    def __post_init__(self) -> None:
        if self.origins.shape != self.directions.shape or self.origins.shape[-1:] != (3,):
            raise ValueError(
                "Rays: expected origins and directions of one shape (..., 3), "
                f"got {tuple(self.origins.shape)} and {tuple(self.directions.shape)}"
            )
        if not (self.origins.is_floating_point() and self.directions.is_floating_point()):
            raise ValueError(
                f"Rays: expected floating-point numbers, got {self.origins.dtype} and {self.directions.dtype}"
            )
        if VALUES_ARE_CHECKED:
            lengths = self.directions.detach().norm(dim=-1)
            if not (((lengths - 1).abs() < UNIT_TO) | (lengths == 0)).all():
                raise ValueError(
                    "Rays: expected directions of length 1, got lengths from "
                    f"{lengths.min():.3g} to {lengths.max():.3g}; Rays.through(origins, points) makes them so"
                )

    @staticmethod
    def through(origins: Float[Tensor, "*batch 3"], points: Float[Tensor, "*batch 3"]) -> "Rays":
        """Rays from the origins to the points; a point on its origin gives the direction 0, no NaN."""
        return Rays(origins, torch.nn.functional.normalize(points - origins, dim=-1))

    @property
    def shape(self) -> torch.Size:
        """Sizes of the axes before the last, such as ``(B, R)``."""
        return self.origins.shape[:-1]

    def at(self, t: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S 3"]:
        """World points at ``t`` metres along each ray."""
        return self.origins[..., None, :] + t[..., None] * self.directions[..., None, :]

    def __getitem__(self, index: object) -> "Rays":
        """The rays that an index into the leading axes chooses."""
        return Rays(self.origins[index], self.directions[index])  # type: ignore[index]

    def to(self, device: torch.device | str) -> "Rays":
        """The same rays on another device."""
        return Rays(self.origins.to(device), self.directions.to(device))


@dataclass(frozen=True)
class RaySamples:
    """Intervals ``[t_starts, t_ends)`` along rays, metres, near to far; fields are asked at ``t_mids``.

    Attributes:
        t_starts: Where each interval begins.
        t_ends: Where it ends.
        valid: False where a slot holds no sample: such a slot has no opacity and gives no gradient.
    """

    t_starts: Float[Tensor, "*batch S"]
    t_ends: Float[Tensor, "*batch S"]
    valid: Bool[Tensor, "*batch S"]

    def __post_init__(self) -> None:
        shape = self.t_starts.shape
        if self.t_ends.shape != shape or self.valid.shape != shape:
            raise ValueError(
                "RaySamples: expected t_starts, t_ends and valid of one shape, "
                f"got {tuple(shape)}, {tuple(self.t_ends.shape)} and {tuple(self.valid.shape)}"
            )

    @property
    def t_mids(self) -> Float[Tensor, "*batch S"]:
        """Distances to the middles of the intervals, in metres."""
        return 0.5 * (self.t_starts + self.t_ends)

    @property
    def deltas(self) -> Float[Tensor, "*batch S"]:
        """Lengths of the intervals along the ray, in metres."""
        return self.t_ends - self.t_starts

    @staticmethod
    def even(
        near: int | float, far: int | float, count: int, *, device: torch.device | str = "cpu"
    ) -> "RaySamples":
        """``(S,)`` equal intervals from edge to edge: the bins of a depth distribution, slices of a grid.

        Raises:
            ValueError: Unless ``near < far`` and ``count`` is positive.
        """
        if isinstance(near, Tensor) or isinstance(far, Tensor):
            raise ValueError("near, far: expected numbers, the same for all rays, got a tensor")
        if not (near < far and count > 0):
            raise ValueError(
                f"near, far, count: expected near < far and at least 1, got {near}, {far}, {count}"
            )
        edges = torch.linspace(near, far, count + 1, device=device)
        return RaySamples(edges[:-1], edges[1:], torch.ones(count, dtype=torch.bool, device=device))

    @staticmethod
    def around(
        t: Float[Tensor, "*batch S"],
        near: Float[Tensor, "*batch"],
        far: Float[Tensor, "*batch"],
        valid: Bool[Tensor, "*batch S"],
    ) -> "RaySamples":
        """Tile ``[near, far]`` with one interval around each position, borders half-way between them.

        Args:
            t: Sorted positions within ``[near, far]``.
            near: Start of the first interval.
            far: End of the last interval.
            valid: Which slots hold a sample.
        """
        check_shape("t", t, "... S")
        middles = 0.5 * (t[..., 1:] + t[..., :-1])
        starts = torch.cat([near[..., None], middles], -1)
        ends = torch.cat([middles, far[..., None]], -1)
        return RaySamples(starts, ends, valid)
