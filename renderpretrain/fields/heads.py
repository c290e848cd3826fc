"""What a field shows besides opacity: colour, which depends on the direction, and an embedding."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.encodings import encoded_channels, frequency_encoding
from renderpretrain.fields.samples import LinearChannel


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
        points: Float[Tensor, "*batch 3"],
        directions: Float[Tensor, "*batch 3"],
        known: Float[Tensor, "*batch K"],
    ) -> dict[str, Float[Tensor, "*batch C"]]:
        """Channels by name, at points in units of about 1. Differentiable."""
        channels = {}
        if self.colour is not None:
            inputs = torch.cat([frequency_encoding(directions, self.direction_frequencies), known], -1)
            channels["rgb"] = torch.sigmoid(self.colour(points, inputs))
        if self.semantic is not None:
            channels["semantic"] = self.semantic(points, known)
        return channels
