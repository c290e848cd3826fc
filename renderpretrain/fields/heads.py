"""What a field shows besides opacity: colour, which depends on the direction, and an embedding."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.encodings import encoded_channels, frequency_encoding
from renderpretrain.fields.samples import Channel, LinearChannel
from renderpretrain.geometry import RaySamples


class ChannelHeads(nn.Module):
    """Small networks from what is known at a point to ``"rgb"`` in [0, 1] and to ``"semantic"``.

    Colour sees the direction, the embedding does not: what a thing is does not depend on where one stands.
    PonderV2 (https://arxiv.org/abs/2310.08586). The embedding is unbounded; what counts is its direction, as
    of the vectors of :class:`~renderpretrain.fields.Embeddings`.

    Args:
        known_channels: Width of what is known at a point.
        hidden_channels: Width of both networks.
        num_blocks: Hidden layers of both; with 0 they are linear.
        color: Whether there is a colour.
        semantic_channels: Width of the embedding; 0 for none.
        positions: Whether the networks see the position.
        direction_frequencies: Octaves of the direction's encoding; 0 for the bare direction.
    """

    def __init__(  # noqa: PLR0913  the network's sizes and inputs are its configuration
        self,
        known_channels: int,
        hidden_channels: int,
        *,
        num_blocks: int,
        color: bool = True,
        semantic_channels: int = 0,
        positions: bool = True,
        direction_frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.direction_frequencies = direction_frequencies

        def network(in_channels: int, out_channels: int) -> InjectedMLP:
            return InjectedMLP(
                in_channels,
                hidden_channels,
                out_channels,
                num_blocks=num_blocks,
                position_channels=3 if positions else 0,
            )

        self.colour: InjectedMLP | None = None  # what checkpoints call it
        self.semantic: InjectedMLP | None = None
        if color:
            self.colour = network(encoded_channels(3, direction_frequencies) + known_channels, 3)
        if semantic_channels:
            self.semantic = network(known_channels, semantic_channels)

    @property
    def names(self) -> tuple[str, ...]:
        """What there is: ``"rgb"``, ``"semantic"``, in this order."""
        there = {"rgb": self.colour, "semantic": self.semantic}
        return tuple(name for name, network in there.items() if network is not None)

    @property
    def semantic_is_linear(self) -> bool:
        """Whether there is an embedding without hidden layers, which can be composited before it is made."""
        return self.semantic is not None and self.semantic.shape.num_blocks == 0

    def mixed_semantic(
        self, points: Float[Tensor, "*batch S 3"], known: Sequence[Float[Tensor, "*batch S _"]]
    ) -> LinearChannel:
        """The linear embedding of what is known at samples in parts, and of points in units of about 1.

        Raises:
            ValueError: If the embedding is not linear.
        """
        if self.semantic is None:
            raise ValueError("semantic: expected an embedding without hidden layers, there is none")
        weight, bias = self.semantic.linear_map()
        places = () if self.semantic.embed is None else (points,)
        return LinearChannel((*places, *known), weight, bias)

    def forward(
        self,
        points: Float[Tensor, "B P 3"],
        directions: Float[Tensor, "B N 3"],
        known: Sequence[Float[Tensor, "B P _"]],
        samples: RaySamples,
    ) -> dict[str, Channel]:
        """Channels by name, in the shape of the samples. Differentiable.

        Args:
            points: Of all samples, ray by ray, in units of about 1.
            directions: Of the rays.
            known: What is known at the points, in parts, without the direction.
            samples: Where the points are; nothing is computed where they are not valid.
        """
        size, valid = samples.valid.shape, samples.valid.flatten(1)
        channels: dict[str, Channel] = {}

        def said(network: InjectedMLP, *inputs: Tensor, sigmoid: bool = False) -> Tensor:
            shape, parameters = network.operand()
            places = None if network.embed is None else points
            out = ops.fused_mlp(inputs, parameters, shape, positions=places, valid=valid, sigmoid=sigmoid)
            return out.reshape(*size, -1)

        if self.colour is not None:
            encoded = frequency_encoding(directions, self.direction_frequencies)
            channels["rgb"] = said(self.colour, encoded, *known, sigmoid=True)
        if self.semantic_is_linear:
            places, *parts = (part.reshape(*size, -1) for part in (points, *known))
            channels["semantic"] = self.mixed_semantic(places, parts)
        elif self.semantic is not None:
            channels["semantic"] = said(self.semantic, *known)
        return channels
