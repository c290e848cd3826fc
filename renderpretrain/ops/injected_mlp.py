"""The small networks of fields, whose input is added before every layer: sizes, parameters, plain PyTorch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from renderpretrain.checks import check_length

ACTIVATIONS = ("softplus", "relu", "silu")
"""Names of activations in the order of their codes in ``csrc/renderpretrain.h``."""


class InjectedLayer(NamedTuple):
    """Weights and biases of one layer: those of the input that is added, and those of the layer itself."""

    inject: Tensor
    inject_bias: Tensor
    weight: Tensor
    bias: Tensor


class InjectedWeights(NamedTuple):
    """Parameters of one network; ``embed`` is ``None`` where it does not see the position."""

    embed: Tensor | None
    embed_bias: Tensor | None
    layers: tuple[InjectedLayer, ...]


@dataclass(frozen=True)
class InjectedShape:
    """Sizes of a network: with ``h = embed(p)``, each layer computes ``act(layer(h + inject(x)))``.

    The last layer has no activation.

    Attributes:
        in_channels: Width of ``x``.
        hidden_channels: Width of the layers.
        out_channels: Width of the output.
        num_blocks: Hidden layers; there are ``num_blocks + 1`` layers.
        position_channels: Width of the position ``p`` or of its encoding; with 0 there is none and ``h = 0``.
        activation: ``"softplus"``, ``"relu"`` or ``"silu"``.
        beta: Of the softplus ``log(1 + exp(beta x)) / beta``.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    num_blocks: int
    position_channels: int = 3
    activation: str = "softplus"
    beta: int | float = 1.0

    def __post_init__(self) -> None:
        least = {"in_channels": 1, "hidden_channels": 1, "out_channels": 1, "num_blocks": 0}
        for name, number in (least | {"position_channels": 0}).items():
            if getattr(self, name) < number:
                raise ValueError(f"{name}: expected at least {number}, got {getattr(self, name)}")
        check_length("beta", self.beta)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {ACTIVATIONS}, got {self.activation!r}")

    def sizes(self) -> Iterator[tuple[int, ...]]:
        """Shapes of the parameters in the order in which they lie one behind the other."""
        hidden = self.hidden_channels
        if self.position_channels:
            yield from ((hidden, self.position_channels), (hidden,))
        for layer in range(self.num_blocks + 1):
            width = hidden if layer < self.num_blocks else self.out_channels
            yield from ((hidden, self.in_channels), (hidden,), (width, hidden), (width,))

    @property
    def num_parameters(self) -> int:
        """How many numbers these are."""
        hidden = self.hidden_channels
        embed = hidden * (self.position_channels + 1) if self.position_channels else 0
        inject = (self.num_blocks + 1) * hidden * (self.in_channels + 1)
        return embed + inject + (self.num_blocks * hidden + self.out_channels) * (hidden + 1)

    def unpack(self, parameters: Float[Tensor, " K"]) -> InjectedWeights:
        """The parameters as weights and biases."""
        sizes = list(self.sizes())
        parts = parameters.split([torch.Size(size).numel() for size in sizes])
        weights = [part.view(size) for part, size in zip(parts, sizes, strict=True)]
        embed, bias = (weights.pop(0), weights.pop(0)) if self.position_channels else (None, None)
        layers = (InjectedLayer(*weights[first : first + 4]) for first in range(0, len(weights), 4))
        return InjectedWeights(embed, bias, tuple(layers))

    def code(self) -> list[int]:
        """The sizes as ``rp_mlp`` has them."""
        kind = ACTIVATIONS.index(self.activation)
        width = self.in_channels, self.hidden_channels, self.out_channels
        return [self.position_channels, *width, self.num_blocks, kind]

    @classmethod
    def from_code(cls, code: Sequence[int], beta: float) -> "InjectedShape":
        """The sizes that :meth:`code` gave."""
        position, in_channels, hidden, out, num_blocks, kind = code
        if not 0 <= kind < len(ACTIVATIONS):
            raise ValueError(f"activation: expected a code below {len(ACTIVATIONS)}, got {kind}")
        return cls(in_channels, hidden, out, num_blocks, position, ACTIVATIONS[kind], beta)

    def activate(self, x: Tensor) -> Tensor:
        """The activation in plain PyTorch."""
        if self.activation == "softplus":
            return functional.softplus(x, self.beta)
        return functional.relu(x) if self.activation == "relu" else functional.silu(x)

    def slope(self, x: Tensor) -> Tensor:
        """The derivative of the activation in plain PyTorch."""
        if self.activation == "softplus":
            return torch.sigmoid(self.beta * x)
        if self.activation == "relu":
            return (x > 0).to(x.dtype)
        share = torch.sigmoid(x)
        return share * (1 + x * (1 - share))


def injected_layers(
    shape: InjectedShape, weights: InjectedWeights, points: Tensor | None, inputs: Tensor
) -> list[Tensor]:
    """What every layer gives, before its activation."""
    outputs: list[Tensor] = []
    for layer in weights.layers:
        hidden = functional.linear(inputs, layer.inject, layer.inject_bias)
        if outputs:
            hidden = shape.activate(outputs[-1]) + hidden
        elif weights.embed is not None and points is not None:
            hidden = functional.linear(points, weights.embed, weights.embed_bias) + hidden
        outputs.append(functional.linear(hidden, layer.weight, layer.bias))
    return outputs


def first_output_gradient(
    shape: InjectedShape, weights: InjectedWeights, outputs: list[Tensor]
) -> tuple[Tensor | None, Tensor]:
    """Gradient of the first output by position and input, from what every layer gave."""
    layers = weights.layers
    hidden = layers[-1].weight[0].expand(*outputs[-1].shape[:-1], -1)
    to_inputs = hidden @ layers[-1].inject
    for index in range(len(layers) - 2, -1, -1):
        hidden = (hidden * shape.slope(outputs[index])) @ layers[index].weight
        to_inputs = to_inputs + hidden @ layers[index].inject
    return None if weights.embed is None else hidden @ weights.embed, to_inputs
