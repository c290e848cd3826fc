"""Volume rendering: what a field says along a ray, summed to one value per ray."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.fields import FieldSamples
from renderpretrain.geometry import RaySamples

OPACITY_EPSILON = 1e-10
"""Keeps the expected depth of an empty ray at 0 instead of 0/0."""


@dataclass(frozen=True)
class Rendered:
    """One value per ray.

    Attributes:
        depth: Expected distance along the unit ray given a hit, metres; 0 where nothing was hit.
        opacity: Sum of the weights, in [0, 1].
        channels: The field's channels, composited over black.
        normals: Composited unit normals; absent in fields without gradients.
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
    normals: Float[Tensor, "*batch 3"] | None = None

    @property
    def rgb(self) -> Float[Tensor, "*batch 3"] | None:
        """Composited colour in [0, 1], or ``None`` for a field without colour."""
        return self.channels.get("rgb")


def accumulate(
    weights: Float[Tensor, "*batch S"], values: Float[Tensor, "*batch S C"]
) -> Float[Tensor, "*batch C"]:
    """Weighted sum of the values along each ray."""
    return (weights[..., None] * values).sum(-2)


def render(answer: FieldSamples, samples: RaySamples) -> Rendered:
    """Composite a field's answer, in float32 whatever the autocast state.

    Weights are :func:`renderpretrain.ops.composite` of the alphas; depth is their mean ``t`` (the interval's
    middle), normalised by their sum. Differentiable in everything the field gave.
    """
    with torch.autocast(answer.alphas.device.type, enabled=False):
        weights = ops.composite(answer.alphas)
        opacity = weights.sum(-1)
        depth = (weights * samples.t_mids).sum(-1) / (opacity + OPACITY_EPSILON)
        normals = None
        if answer.gradients is not None:
            normals = accumulate(weights, torch.nn.functional.normalize(answer.gradients, dim=-1))
        channels = {name: accumulate(weights, values) for name, values in answer.channels.items()}
    return Rendered(depth, opacity, weights, samples, answer, channels, normals)
