"""A term against collapse on the levels of encoders."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import losses, ops
from renderpretrain.encoders import GridLevel, Level
from renderpretrain.recipes.terms.places import chosen_levels, image_places, read_level, world_places
from renderpretrain.recipes.terms.step import Step

Kind = Literal["variance", "covariance", "sigreg"]
KINDS: tuple[str, ...] = get_args(Kind)


class Collapse(nn.Module):
    """Features of encoder levels vary in every channel, and no channel repeats another.

    The levels are those before what is rendered, which is as narrow as rendering needs. They are read where
    the key sweep has returns that are not hidden, images at places of which nothing is hidden.

    Args:
        weight: Of the sum of all kinds; every one is the mean over the levels.
        kinds: ``variance`` (:func:`~renderpretrain.losses.variance_hinge`), ``covariance``
            (:func:`~renderpretrain.losses.covariance_penalty`) or ``sigreg``
            (:func:`~renderpretrain.losses.sigreg`, which is not bounded: multiply its weight by some 0.05).
        levels: Names of levels, or of parts for all of theirs; by default all levels.
        places: Of the world, in every sample, and in every image.
        slices: Directions of ``sigreg``.

    Raises:
        ValueError: If a kind is none.
    """

    def __init__(
        self,
        weight: int | float | Mapping[str, float] = 1.0,
        kinds: Sequence[str] = ("variance", "covariance"),
        levels: Sequence[str] = (),
        *,
        places: int = 512,
        slices: int = 64,
    ) -> None:
        super().__init__()
        if not kinds or not set(kinds) <= set(KINDS):
            raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, got {tuple(kinds)}")
        self.weights = {
            kind: float(weight[kind]) if isinstance(weight, Mapping) else float(weight) for kind in kinds
        }
        self.levels, self.places, self.slices = tuple(levels), places, slices

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms ``collapse_variance`` and so on; raises a ``ValueError`` without such levels."""
        names = chosen_levels({level.name: level.channels for level in step.levels}, self.levels)
        rows = [read_visible(level, step, self.places) for level in step.levels if level.name in names]
        if not rows:
            raise ValueError("terms: Collapse looks at levels of encoders; expected some, got none")
        seeds = ops.fold_in(step.batch.seeds, "collapse")
        return {
            f"collapse_{kind}": weight * torch.stack([self._of(kind, *row, seeds) for row in rows]).mean()
            for kind, weight in self.weights.items()
        }

    def _of(self, kind: str, features: Tensor, valid: Tensor, seeds: Int[Tensor, " B"]) -> Tensor:
        """One kind's term of one level."""
        terms: dict[str, Callable[[], Tensor]] = {
            "variance": lambda: losses.variance_hinge(features, valid),
            "covariance": lambda: losses.covariance_penalty(features, valid),
            "sigreg": lambda: losses.sigreg(features, valid, seeds, slices=self.slices),
        }
        return terms[kind]()


def read_visible(level: Level, step: Step, count: int) -> tuple[Float[Tensor, "B P C"], Bool[Tensor, "B P"]]:
    """A level's features at places that the step does not hide, and which places these are."""
    draw = world_places if isinstance(level, GridLevel) else image_places
    places = draw(step, count, "visible features")
    return read_level(level, places), places.valid & ~places.hidden
