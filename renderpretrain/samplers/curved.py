"""Which of a sweep's returns are worth a ray: where surfaces bend there is more to learn than on a road."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.geometry import Points
from renderpretrain.samplers.planes import local_planes

Preference: TypeAlias = Callable[[Points, Int[Tensor, "B M"]], Float[Tensor, "B M"]]
"""How likely returns are drawn, relative to each other: points and rows of them to positive weights."""

CANDIDATES = 2
"""Returns drawn uniformly for each that is chosen by its weight: more cost more than they choose better."""

FLOOR = 0.003
"""What the variation of a plane counts, beside at most 1 / 3: flat ground is still looked at."""

CHOICE = "choice by weight"
"""Purpose of seeds."""


class CurvedReturns(nn.Module):
    """Returns are the likelier the more their neighborhood in the sweep bends, after so many steps.

    Curvature sampling of CLAP (https://arxiv.org/abs/2412.03059), there by the gradient of the rendered
    normals after 4 epochs of uniform sampling. Here by the sweep's own surface variation
    (:func:`~renderpretrain.samplers.local_planes`), which is known before anything is learned.

    Steps are updates of the weights, which are counted by who makes them: ``fit`` and ``Stepper`` do, a loop
    of your own calls ``training.count_step(recipe)`` after its optimizer's step. The count is in the
    ``state_dict``: a resumed run goes on with it.

    Args:
        after: Steps in which all returns are alike.

    Attributes:
        steps: Steps done.
    """

    steps: Int[Tensor, ""]

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        if after < 0:
            raise ValueError(f"after: expected at least 0 steps, got {after}")
        self.after = after
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, points: Points, returns: Int[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """The weight of every return; not differentiable."""
        weights = FLOOR + local_planes(points, returns).variation
        return torch.where(self.steps >= self.after, weights, 1.0)

    def count_step(self) -> None:
        """Remember that the weights of the recipe have been updated once more."""
        self.steps += 1


def choose(
    points: Points,
    candidates: Int[Tensor, "B *lead M"],
    found: Bool[Tensor, "B *lead M"],
    count: int,
    preference: Preference,
    seeds: Int[Tensor, " B"],
) -> tuple[Int[Tensor, "B *lead K"], Bool[Tensor, "B *lead K"]]:
    """Choose ``count`` of candidates along the last axis without replacement, the likelier the heavier.

    The largest of ``u^(1 / w)`` of uniform numbers ``u``: weighted sampling with a reservoir, Efraimidis and
    Spirakis 2006 (https://doi.org/10.1016/j.ipl.2005.11.003).

    Args:
        points: What the candidates are rows of.
        candidates: Rows, drawn uniformly.
        found: Which slots hold one; the others are chosen last.
        count: How many of them are kept, at most as many as there are.
        preference: Gives their weights.
        seeds: One per sample.
    """
    asked = torch.where(found, candidates, -1)
    weights = preference(points, asked.flatten(1)).view(asked.shape)
    chance = ops.uniform(ops.fold_in(seeds, CHOICE), tuple(asked.shape[1:])).clamp(min=1e-9)
    keys = torch.where(found, -chance.log() / weights, torch.inf)
    index = keys.sort(dim=-1, stable=True).indices[..., :count]
    return candidates.gather(-1, index), found.gather(-1, index)
