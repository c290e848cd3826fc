"""A signed-distance field with colour and embedding, decoded from a feature volume."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.checks import check_length, check_shape
from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.encodings import frequency_encoding
from renderpretrain.fields.heads import ChannelHeads
from renderpretrain.fields.opacity import NeuSOpacity
from renderpretrain.fields.samples import (
    Channel,
    FieldAnswer,
    FieldSamples,
    NeuSSamples,
    check_query,
    check_volume,
    query_points,
)
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid

SOFTPLUS_BETA = 100
"""How close the distance network's activation comes to a ReLU; the value of NeuS."""


def _distance_network(channels: int, hidden: int, out: int, blocks: int, positions: bool) -> InjectedMLP:
    """The network whose first output is the distance."""
    return InjectedMLP(
        channels,
        hidden,
        out,
        num_blocks=blocks,
        activation="softplus",
        beta=SOFTPLUS_BETA,
        position_channels=3 if positions else 0,
    )


class SDFField(nn.Module):
    """Signed distance, its gradient, opacity and channels at points of a feature volume.

    The feature is read trilinearly (zero outside the grid). One small network gives the distance and a
    geometry feature, another the colour from direction, volume feature, gradient and geometry feature, a
    third an embedding from all that but the direction. Opacity follows
    :func:`~renderpretrain.ops.neus_alphas` with one learned sharpness, or another law.

    As it is by default, the field of UniPAD (https://arxiv.org/abs/2310.08370, section 3.2), which PonderV2
    (https://arxiv.org/abs/2310.08586) uses outdoors. Its indoor field has ``channels=128, split=True,
    positions=False, hidden_channels=128, geometry_channels=64, sdf_blocks=1, rgb_blocks=0,
    semantic_channels=512``.

    The networks work in units of ``extent``, in which positions and distances are about 1; everything
    outside them is in metres.

    Args:
        grid: Where the volume is. It is not part of the weights.
        channels: Width of the volume.
        hidden_channels: Width of the networks.
        geometry_channels: Width of the geometry feature; that of the networks, if not given.
        sdf_blocks: Hidden layers of the distance network.
        rgb_blocks: Hidden layers of the colour and the embedding network; with 0 they are linear.
        extent: Length unit of the networks, metres: the largest coordinate of the range.
        sharpness: Initial ``inv_s`` in 1/extent.
        opacity: The law, if not NeuS's: ``(sdf, cosines, deltas) -> alphas``, such as
            :class:`~renderpretrain.fields.VolSDFOpacity`.
        color: Whether there is a colour network at all.
        semantic_channels: Width of the embedding; 0 for none.
        split: The volume's first half of the channels is for the distance, the second for the others; else
            all read all.
        positions: Whether the networks see the position beside the feature.
        direction_frequencies: Octaves of the direction's encoding for the colour; 0 for the bare direction.

    Differs from PonderV2 in: the gradient and the distance are in the same unit. (The published indoor code
    takes the gradient in the coordinates of the volume, in which lengths are 1 / 1.101 of those along rays.)
    """

    def __init__(  # noqa: PLR0913  the networks' sizes and inputs are the configuration
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        hidden_channels: int = 16,
        geometry_channels: int | None = None,
        sdf_blocks: int = 5,
        rgb_blocks: int = 3,
        extent: int | float,
        sharpness: int | float = math.exp(3.0),
        opacity: nn.Module | None = None,
        color: bool = True,
        semantic_channels: int = 0,
        split: bool = False,
        positions: bool = True,
        direction_frequencies: int = 0,
    ) -> None:
        super().__init__()
        if split and channels % 2:
            raise ValueError(f"channels: expected an even number to split, got {channels}")
        self.grid = grid
        self.channels = channels
        check_length("extent", extent)
        self.extent = extent
        self.split = split
        self.opacity = NeuSOpacity(extent, sharpness) if opacity is None else opacity
        geometry = hidden_channels if geometry_channels is None else geometry_channels
        read = channels // 2 if split else channels
        self.distance = _distance_network(read, hidden_channels, 1 + geometry, sdf_blocks, positions)
        self.heads = ChannelHeads(
            read + 3 + geometry,
            hidden_channels,
            num_blocks=rgb_blocks,
            color=color,
            semantic_channels=semantic_channels,
            positions=positions,
            direction_frequencies=direction_frequencies,
        )

    def sdf(self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P"]:
        """The signed distance alone, in metres, without the other channels."""
        check_volume(volume, self.grid, self.channels)
        check_shape("points", points, "B P 3", B=len(volume))
        distance, parameters = self.distance.operand()
        shape = ops.FieldShape(distance, self.extent)
        frame = self.grid.scale, self.grid.offset
        return ops.sdf_field_infer(volume, points, parameters, *frame, shape)

    surface = sdf
    """Positive in free space, zero on the surface."""

    def _networks(self) -> tuple[ops.FieldShape, Float[Tensor, " K"]]:
        """Sizes and parameters of all networks that are asked at every sample."""
        distance, flat = self.distance.operand()
        heads, parameters = [], [flat]
        if self.heads.colour is not None:
            network, flat = self.heads.colour.operand()
            heads.append(ops.FieldHead(network, directions=True, sigmoid=True))
            parameters.append(flat)
        if self.heads.semantic is not None and not self.heads.semantic_is_linear:
            network, flat = self.heads.semantic.operand()
            heads.append(ops.FieldHead(network))
            parameters.append(flat)
        first = self.channels // 2 if self.split else 0
        return ops.FieldShape(distance, self.extent, first, tuple(heads)), torch.cat(parameters)

    def forward(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples) -> FieldAnswer:
        """The field at the middles of the samples, in float32 whatever the autocast state."""
        check_volume(volume, self.grid, self.channels)
        check_query(volume, rays, samples)
        with torch.autocast(volume.device.type, enabled=False):
            return self._forward(volume.float(), rays, samples)

    def _values(self, volume: Tensor, points: Tensor, rays: Rays, valid: Tensor) -> ops.FieldValues:
        """Distances, gradients and what the heads say at the points of rays."""
        shape, parameters = self._networks()
        directions = frequency_encoding(rays.directions, self.heads.direction_frequencies)
        frame, linear = (self.grid.scale, self.grid.offset), self.heads.semantic_is_linear
        wanted = ops.FieldOutputs(gradients=True, geometry=linear, features=linear)
        inputs = volume, points, parameters, *frame, shape
        return ops.sdf_field(*inputs, directions=directions, valid=valid, wanted=wanted)

    def _channels(self, found: ops.FieldValues, points: Tensor, size: Sequence[int]) -> dict[str, Channel]:
        """What the heads said, by name, and the embedding where it is linear and made after compositing."""
        heads = (said.reshape(*size, -1) for said in found.heads)
        channels: dict[str, Channel] = dict(zip(self.heads.names, heads, strict=False))
        if len(channels) < len(self.heads.names):
            known = points / self.extent, found.features, found.gradients, found.geometry
            places, *parts = (part.reshape(*size, -1) for part in known if part is not None)
            channels["semantic"] = self.heads.mixed_semantic(places, parts)
        return channels

    def _forward(self, volume: Tensor, rays: Rays, samples: RaySamples) -> FieldAnswer:
        points, directions = query_points(rays, samples)
        found = self._values(volume, points, rays, samples.valid.flatten(1))
        size = samples.valid.shape
        channels = self._channels(found, points, size)
        gradients = found.gradients
        if gradients is None:
            raise ValueError("gradients: expected those of the distance at every sample, got None")
        cosines = (directions * gradients).sum(-1)
        sdf, gradients = found.sdf.reshape(size), gradients.reshape(*size, 3)
        if isinstance(self.opacity, NeuSOpacity):
            return NeuSSamples(sdf, gradients, cosines.reshape(size), self.opacity.inv_s, samples, channels)
        alphas = self.opacity(found.sdf, cosines, samples.deltas.flatten(1)).reshape(size)
        return FieldSamples(torch.where(samples.valid, alphas, 0.0), channels, sdf, gradients)
