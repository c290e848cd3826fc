"""What terms on rendered rays read of a step."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderpretrain.geometry import VoxelGrid
from renderpretrain.recipes.terms.step import Step
from renderpretrain.renderers import Rendered, VolumeRenderer
from renderpretrain.samplers import RayTargets


@dataclass(frozen=True)
class Rendering:
    """The rays of a step that renders: what :class:`Step` may lack is there.

    Attributes:
        volume: What is rendered.
        renderer: What renders it.
        targets: The rays and what was measured along them.
        rendered: What they show.
    """

    volume: Float[Tensor, "B C Z Y X"]
    renderer: VolumeRenderer[Any]
    targets: RayTargets
    rendered: Rendered

    @property
    def grid(self) -> VoxelGrid:
        """Where the volume of the step is."""
        return self.renderer.field.grid

    @property
    def returns(self) -> Int[Tensor, "B R"]:
        """Row of the point that each ray goes to, -1 for none; of rays to pixels there is none."""
        known = self.targets.returns
        return torch.full_like(self.targets.camera, -1) if known is None else known


def rendering_of(step: Step, term: object) -> Rendering:
    """What a step rendered.

    Args:
        step: The step.
        term: What asks, for the error message.

    Raises:
        ValueError: If it rendered nothing.
    """
    if step.volume is None or step.renderer is None or step.targets is None or step.rendered is None:
        raise ValueError(
            f"terms: {type(term).__name__} compares what rays show; expected a step that renders some, as "
            "with losses.ray_depth above 0 (NS-MAE) or losses.depth (UniScene)"
        )
    return Rendering(step.volume, step.renderer, step.targets, step.rendered)
