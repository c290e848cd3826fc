"""Small networks that decode an interpolated feature at a point."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.ops.injected_mlp import InjectedLayer, InjectedShape, InjectedWeights


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
        activation: Between the layers: ``"softplus"``, ``"relu"`` or ``"silu"``.
        beta: How close a softplus comes to a ReLU.
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
        activation: str = "relu",
        beta: int | float = 1.0,
        position_channels: int = 3,
    ) -> None:
        super().__init__()
        widths = feature_channels, hidden_channels, out_channels
        self.shape = InjectedShape(*widths, num_blocks, position_channels, activation, float(beta))
        inner = [hidden_channels] * (num_blocks + 1) + [out_channels]
        self.embed = nn.Linear(position_channels, hidden_channels) if position_channels else None
        self.inject = nn.ModuleList(nn.Linear(feature_channels, w) for w in inner[:-1])
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(inner))

    def weights(self) -> InjectedWeights:
        """The parameters by their places in the network."""
        pairs = cast(Iterable[tuple[nn.Linear, nn.Linear]], zip(self.inject, self.layers, strict=True))
        layers = (
            InjectedLayer(inject.weight, inject.bias, layer.weight, layer.bias) for inject, layer in pairs
        )
        if self.embed is None:
            return InjectedWeights(None, None, tuple(layers))
        return InjectedWeights(self.embed.weight, self.embed.bias, tuple(layers))

    def flat_parameters(self) -> Float[Tensor, " K"]:
        """All parameters one behind the other, as operators take them. Differentiable."""
        embed, bias, layers = self.weights()
        first = () if embed is None or bias is None else (embed, bias)
        return torch.cat([part.flatten() for part in (*first, *(part for layer in layers for part in layer))])

    def linear_map(self) -> tuple[Float[Tensor, "K I"], Float[Tensor, " K"]]:
        """Weight and bias of a network without hidden layers, as one map of position and feature.

        Returns:
            ``(out_channels, position_channels + feature_channels)`` and ``(out_channels,)``. Differentiable.

        Raises:
            ValueError: If there are hidden layers.
        """
        if self.shape.num_blocks:
            raise ValueError(f"num_blocks: expected 0 of a linear network, got {self.shape.num_blocks}")
        embed, embed_bias, (layer,) = self.weights()
        inputs, bias = layer.inject, layer.inject_bias
        if embed is not None and embed_bias is not None:
            inputs, bias = torch.cat([embed, inputs], 1), embed_bias + bias
        return layer.weight @ inputs, layer.weight @ bias + layer.bias

    def operand(self) -> tuple[InjectedShape, Float[Tensor, " K"]]:
        """Sizes and parameters as operators take them; a linear network is as narrow there as its output.

        The product of its two matrices is computed once, not at every point. Differentiable.
        """
        out, position = self.shape.out_channels, self.shape.position_channels
        if self.shape.num_blocks or self.shape.hidden_channels <= out:
            return self.shape, self.flat_parameters()
        weight, bias = self.linear_map()
        nothing = torch.zeros_like(bias)
        embed = [weight[:, :position], nothing] if position else []
        parts = [
            *embed,
            weight[:, position:],
            bias,
            torch.eye(out, dtype=weight.dtype, device=weight.device),
            nothing,
        ]
        return replace(self.shape, hidden_channels=out), torch.cat([part.flatten() for part in parts])

    def forward(
        self, points: Float[Tensor, "*batch D"], features: Float[Tensor, "*batch C"]
    ) -> Float[Tensor, "*batch K"]:
        """Decode features at points in units of about 1. Differentiable in both."""
        check_shape("features", features, "... C", C=self.shape.in_channels)
        batch = features.shape[:-1]
        places = None if self.embed is None else points.reshape(1, -1, self.shape.position_channels)
        rows = features.reshape(1, -1, self.shape.in_channels)
        shape, parameters = self.operand()
        return ops.fused_mlp([rows], parameters, shape, positions=places)[0].unflatten(0, batch)
