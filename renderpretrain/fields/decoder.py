"""Small networks that decode an interpolated feature at a point."""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_shape


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
        activation_slope: Its derivative, for :meth:`with_gradient`.
        position_channels: Width of the position, or of its encoding; 0 for a network of the feature alone
            (``h = 0``; the published ``points_factor`` 0).
    """

    def __init__(  # noqa: PLR0913  the network's sizes and inputs are its configuration
        self,
        feature_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        num_blocks: int,
        activation: Callable[[Tensor], Tensor],
        activation_slope: Callable[[Tensor], Tensor] | None = None,
        position_channels: int = 3,
    ) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        widths = [hidden_channels] * (num_blocks + 1) + [out_channels]
        self.embed = nn.Linear(position_channels, hidden_channels) if position_channels else None
        self.inject = nn.ModuleList(nn.Linear(feature_channels, w) for w in widths[:-1])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation
        self.activation_slope = activation_slope

    def forward(
        self, points: Float[Tensor, "*batch D"], features: Float[Tensor, "*batch C"]
    ) -> Float[Tensor, "*batch K"]:
        """Decode features at points in units of about 1. Differentiable in both."""
        check_shape("features", features, "... C", C=self.feature_channels)
        return self._layers(points, features)[-1]

    def _layers(self, points: Tensor, features: Tensor) -> list[Tensor]:
        """What every layer gives, before its activation."""
        outputs: list[Tensor] = []
        for inject, layer in zip(self.inject, self.layers, strict=True):
            hidden = inject(features)
            if outputs:
                hidden = self.activation(outputs[-1]) + hidden
            elif self.embed is not None:
                hidden = self.embed(points) + hidden
            outputs.append(layer(hidden))
        return outputs

    def with_gradient(
        self, points: Float[Tensor, "*batch D"], features: Float[Tensor, "*batch C"]
    ) -> tuple[Float[Tensor, "*batch K"], Float[Tensor, "*batch D"], Float[Tensor, "*batch C"]]:
        """The output, and the gradient of its first column by the points and by the features.

        The gradients are outputs like any other: a loss on them trains with one backward pass, without
        ``create_graph``, and ``torch.compile`` can follow.
        """
        if self.activation_slope is None:
            raise ValueError("activation_slope: expected the derivative of the activation, got None")
        outputs = self._layers(points, features)
        layers = [layer.get_parameter("weight") for layer in self.layers]
        inject = [layer.get_parameter("weight") for layer in self.inject]
        hidden = layers[-1][0].expand(*features.shape[:-1], -1)
        to_features = hidden @ inject[-1]
        for index in range(len(layers) - 2, -1, -1):
            hidden = (hidden * self.activation_slope(outputs[index])) @ layers[index]
            to_features = to_features + hidden @ inject[index]
        to_points = torch.zeros_like(points) if self.embed is None else hidden @ self.embed.weight
        return outputs[-1], to_points, to_features
