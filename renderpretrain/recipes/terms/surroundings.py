"""What the sweep looks like around places, told by what an encoder says of a masked scene."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import losses
from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.terms.places import chosen_levels, read_level, world_places
from renderpretrain.recipes.terms.step import Step
from renderpretrain.samplers import SURROUNDINGS, surroundings

LEAST_SHARE = 1e-3
"""Of a cell: a range that goes on by less ends with the last whole one."""


class Surroundings(nn.Module):
    """Levels of an encoder of points tell shape, height and brightness of what is around a place.

    A linear map of the levels, side by side, at returns of the key sweep, hidden and not, predicts numbers of
    the whole sweep (:func:`~renderpretrain.samplers.surroundings`), so that what is hidden has to be guessed.
    The map is linear, so that features say these numbers outright; what a head of two layers made of it is
    listed in :mod:`~renderpretrain.recipes.render_distill`. Every number counts alike: without its mean over
    the sample's places, over its deviation. Masked autoencoders learn more from descriptors than
    from the raw input (MaskFeat, https://arxiv.org/abs/2112.09133; of points GeoMAE,
    https://arxiv.org/abs/2305.08808).

    Args:
        widths: Channels of the encoder's levels by name, see :func:`level_widths` beside.
        box: The grid whose range is looked at.
        cell: Metres, of the cells that the cubes around a place are made of.
        levels: Names of the levels that are read, or of parts for all of theirs; by default all.
        weight: Of the term.
        places: Returns of every sample.

    Raises:
        ValueError: If no level is one of points.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        box: VoxelGrid,
        *,
        cell: int | float = 0.8,
        levels: Sequence[str] = (),
        weight: int | float = 1.0,
        places: int = 1024,
    ) -> None:
        super().__init__()
        points = {name: width for name, width in widths.items() if name.startswith("point_")}
        if not points:
            raise ValueError(f"widths: expected levels of an encoder of points, got {', '.join(widths)}")
        self.read = chosen_levels(points, levels)
        self.grid, self.weight, self.places = _cells(box, cell), weight, places
        self.head = nn.Linear(sum(self.read.values()), SURROUNDINGS)

    def forward(self, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The weighted term ``surroundings``: the mean smooth L1 distance, in deviations."""
        places = world_places(step, self.places, "surroundings")
        known = [read_level(level, places) for level in step.levels if level.name in self.read]
        said = self.head(torch.cat(known, -1))
        told = surroundings(step.batch.points, self.grid, places.where)
        told = losses.standardize(told, places.valid)
        error = nn.functional.smooth_l1_loss(said.float(), told, reduction="none").mean(-1)
        return {"surroundings": self.weight * losses.masked_mean(error, places.valid)}


def _cells(box: VoxelGrid, size: int | float) -> VoxelGrid:
    """Cells of a size over a range, and beyond it where they do not divide it."""
    x, y, z = (
        low + size * math.ceil((high - low) / size - LEAST_SHARE)
        for low, high in zip(box.lower, box.upper, strict=True)
    )
    return VoxelGrid((*box.lower, x, y, z), (size, size, size))
