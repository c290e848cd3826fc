"""Held-out scenes as they are scored: rays, what was measured along them, and what of it was not given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.data import Batch, SceneDataset, collate
from renderpretrain.ops import fold_in
from renderpretrain.recipes.recipe import DrawsRays
from renderpretrain.runs.metrics import OVER_RANGE
from renderpretrain.samplers import RayTargets
from renderpretrain.training.distributed import Process
from renderpretrain.training.order import held_out_seeds
from renderpretrain.training.scores import (
    NUM_SUMS,
    RANGES,
    range_sums,
    score_sums,
    scores,
    scores_over_range,
)
from renderpretrain.training.withheld import BETWEEN_BEAMS, GIVEN, IN_BLOCKS, withhold

NOT_GIVEN = {"in_blocks": IN_BLOCKS, "between_beams": BETWEEN_BEAMS}
"""Kinds of rays whose returns were taken out of the input, by the names that their scores have."""

SLIGHTLY_LESS = 0.99
"""Share of a depth at which its own return surely lies behind."""

WITHHELD = "withheld returns"
"""Purpose of a scene's seed."""


@dataclass(frozen=True)
class HeldOutScene:
    """One scene that is scored.

    Attributes:
        batch: The scene as it was recorded, a batch of one.
        left: The same without what is withheld.
        targets: Rays, and what the sensors measured along them.
        kinds: Of every ray by where it ends, see :mod:`renderpretrain.training.withheld`.
    """

    batch: Batch
    left: Batch
    targets: RayTargets
    kinds: Int[Tensor, "1 R"]

    def of_kind(self, kind: int) -> RayTargets:
        """The rays, of which only those of a kind have a depth."""
        return replace(self.targets, hit=self.targets.hit & (self.kinds == kind))

    @property
    def only_not_given(self) -> RayTargets:
        """The rays, of which only those have a depth whose returns are not in what is left."""
        return replace(self.targets, hit=self.targets.hit & (self.kinds != GIVEN))

    @property
    def nearest_return(self) -> float:
        """Metres before which no ray has a return, a little less than to the nearest one; 0 without any."""
        depths = self.targets.depth[self.targets.hit]
        return SLIGHTLY_LESS * float(depths.min()) if len(depths) else 0.0

    @property
    def not_given(self) -> Int[Tensor, " K"]:
        """Numbers of the rays with a depth whose returns are not in what is left."""
        return torch.nonzero(self.only_not_given.hit[0])[:, 0]

    def score_sums(
        self, depth: Float[Tensor, "1 R"], left: Float[Tensor, "1 R"], rgb: Float[Tensor, "1 R 3"] | None
    ) -> Float[Tensor, "kinds sums"]:
        """Sums of all rays, and of those of each kind of :data:`NOT_GIVEN`; :func:`scores_of` names them.

        Args:
            depth: Predicted of the whole input, metres.
            left: Predicted of what is left of it; only rays that are not given count.
            rgb: Predicted colour, or ``None``.
        """
        asked = [(left, None, self.of_kind(kind)) for kind in NOT_GIVEN.values()]
        return torch.stack([_sums(*each) for each in ((depth, rgb, self.targets), *asked)])


def _sums(
    depth: Float[Tensor, "1 R"], rgb: Float[Tensor, "1 R 3"] | None, targets: RayTargets
) -> Float[Tensor, " sums"]:
    """What adds up of rays: over all of them, then over intervals of depth."""
    return torch.cat([score_sums(depth, rgb, targets), range_sums(depth, targets).flatten()])


def no_sums(process: Process) -> Float[Tensor, "kinds sums"]:
    """Where the sums of scenes add up."""
    shape = (1 + len(NOT_GIVEN), NUM_SUMS + 2 * (len(RANGES) + 1))
    return torch.zeros(shape, dtype=torch.float64, device=process.device)


def scores_of(sums: Float[Tensor, "kinds sums"]) -> dict[str, float]:
    """Scores by name: ``depth_in_blocks_abs_rel`` and so on, then those of all rays; then all over range.

    The error of rays in blocks whose true depth is 8 to 16 m is ``over_range/depth_in_blocks/8-16/abs_rel``.
    """
    found: dict[str, float] = {}
    over_range: dict[str, float] = {}
    names = [*(f"depth_{kind}" for kind in NOT_GIVEN), "depth"]
    for name, row in zip(names, sums.roll(-1, 0), strict=True):
        found |= {key.replace("depth", name): value for key, value in scores(row[:NUM_SUMS]).items()}
        intervals = scores_over_range(row[NUM_SUMS:].view(-1, 2))
        over_range |= {f"{OVER_RANGE}{name}/{key}": value for key, value in intervals.items()}
    return found | over_range


def held_out_scenes(
    recipe: DrawsRays, dataset: SceneDataset, indices: Sequence[int], *, process: Process, num_rays: int
) -> Iterator[HeldOutScene]:
    """Scenes one by one; what is withheld of one depends on its points and its index alone.

    Args:
        recipe: Chooses the rays.
        dataset: Where the scenes are.
        indices: Which ones.
        process: Whose device is used.
        num_rays: Rays per camera, or per sweep where there are no cameras.
    """
    for index in indices:
        scene, seeds = dataset[index].to("cpu"), held_out_seeds(index)
        withheld = withhold(scene, fold_in(seeds, WITHHELD))
        batch, left = (collate([one], seeds).to(process.device) for one in (scene, withheld.left))
        targets = recipe.targets(batch, num_rays)
        kinds = withheld.kinds(targets.ends[0].cpu()).to(process.device)[None]
        yield HeldOutScene(batch, left, targets, kinds)
