"""Volume rendering: what a field says along a ray, summed to one value per ray."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_alike
from renderpretrain.fields import FieldSamples
from renderpretrain.geometry import RaySamples


@dataclass(frozen=True)
class Rendered:
    """One value per ray.

    Attributes:
        depth: Expected distance along the unit ray given a hit, metres: divided by the opacity, so that it
            says where a surface would be however faint it is, and by itself asks for none. 0 where the
            opacity is 0 exactly; where a ray hits something is ``opacity > 0.5``.
        opacity: Sum of the weights, in [0, 1].
        channels: The field's channels, composited over black.
        weights: Share of every sample.
        samples: Where the samples were.
        field: The field's answer, for losses on samples.
    """

    depth: Float[Tensor, "*batch"]
    opacity: Float[Tensor, "*batch"]
    weights: Float[Tensor, "*batch S"]
    samples: RaySamples
    field: FieldSamples
    channels: dict[str, Float[Tensor, "*batch C"]] = dataclasses.field(default_factory=dict)

    @property
    def normals(self) -> Float[Tensor, "*batch 3"] | None:
        """Composited unit normals, computed when asked for; ``None`` for a field without gradients."""
        if self.field.gradients is None:
            return None
        with torch.autocast(self.weights.device.type, enabled=False):
            return ops.accumulate(self.weights, torch.nn.functional.normalize(self.field.gradients, dim=-1))

    @property
    def rgb(self) -> Float[Tensor, "*batch 3"] | None:
        """Composited colour in [0, 1], or ``None`` for a field without colour."""
        return self.channels.get("rgb")


def render(answer: FieldSamples, samples: RaySamples) -> Rendered:
    """Composite a field's answer, in float32 whatever the autocast state.

    Weights, opacity and depth are those of :func:`renderpretrain.ops.composite_values`, with the intervals'
    middles for ``t``. Differentiable in everything the field gave.
    """
    alphas = answer.alphas
    check_alike(**{"samples.valid": samples.valid, "answer.alphas": alphas})
    for name, values in answer.channels.items():
        check_alike(**{"alphas": alphas, f"channels[{name!r}]": values[..., 0]})
    with torch.autocast(alphas.device.type, enabled=False):
        no_values = alphas.new_empty(*alphas.shape, 0)
        _, depth, opacity, weights = ops.composite_values(alphas, no_values, samples.t_mids)
        channels = {name: ops.accumulate(weights, values) for name, values in answer.channels.items()}
    return Rendered(depth, opacity, weights, samples, answer, channels)
