"""Small networks that decode an interpolated feature at a point."""

from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class InjectedMLP(nn.Module):
    """A multilayer perceptron of the position into which the feature is added before every layer.

    With ``h = embed(p)``, each layer computes ``h = activation(linear(h + inject(feature)))``; the last one
    has no activation. This is the decoder of UniPAD and PonderV2 (after Convolutional Occupancy Networks,
    https://arxiv.org/abs/2003.04618).

    Args:
        feature_channels: Width of the feature.
        hidden_channels: Width of the layers.
        out_channels: Width of the output.
        num_blocks: Hidden layers; there are ``num_blocks + 1`` linear layers.
        activation: Between the layers.
    """

    def __init__(
        self,
        feature_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        widths = [hidden_channels] * (num_blocks + 1) + [out_channels]
        self.embed = nn.Linear(3, hidden_channels)
        self.inject = nn.ModuleList(nn.Linear(feature_channels, w) for w in widths[:-1])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation

    def forward(
        self, points: Float[Tensor, "*batch 3"], features: Float[Tensor, "*batch C"]
    ) -> Float[Tensor, "*batch K"]:
        """Decode features at points in units of about 1. Differentiable in both."""
        hidden = self.embed(points)
        for index, (inject, layer) in enumerate(zip(self.inject, self.layers, strict=True)):
            if index:
                hidden = self.activation(hidden)
            hidden = layer(hidden + inject(features))
        return hidden
