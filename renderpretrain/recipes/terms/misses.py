"""Beams that met nothing, rendered as nothing."""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.recipes.terms.rendering import rendering_of
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import OpenSky

DIRECTIONS, JITTER = "missed directions", "missed samples"
"""Purposes of seeds."""


class MissesTerm(nn.Module):
    """Directions of the LiDAR without a return are empty as far as the grid goes.

    Args:
        sampler: Which directions; see :class:`~renderpretrain.samplers.OpenSky`.
        weight: Of the term; small, for a return that is lost looks like one that was never there.
    """

    def __init__(self, sampler: OpenSky | None = None, *, weight: int | float = 0.1) -> None:
        super().__init__()
        self.sampler = OpenSky() if sampler is None else sampler
        self.weight = weight

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``misses``; 0 where no direction is known to be empty."""
        seen, seeds = rendering_of(step, self), step.batch.seeds
        rays, valid = self.sampler(step.batch.points, ops.fold_in(seeds, DIRECTIONS))
        rendered = seen.renderer(seen.volume, rays, ops.fold_in(seeds, JITTER))
        return {"misses": self.weight * losses.empty_rays(rendered.opacity, valid)}
