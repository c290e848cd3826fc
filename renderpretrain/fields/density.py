"""Fields without a surface: density decoded from a feature volume, and occupancy stored in one."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.checks import check_length, check_shape
from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.encodings import encoded_channels, frequency_encoding
from renderpretrain.fields.heads import ChannelHeads
from renderpretrain.fields.opacity import density_alphas, occupancy_densities
from renderpretrain.fields.samples import (
    FieldSamples,
    answer_samples,
    check_query,
    check_volume,
    query_points,
)
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid


class DensityField(nn.Module):
    """Density and channels at points of a feature volume, zero outside its grid.

    NeRF (https://arxiv.org/abs/2003.08934), equations 3 and 4, conditioned on a feature that is read
    trilinearly, by the networks of :class:`~renderpretrain.fields.SDFField`.

    Args:
        grid: Where the volume is. It is not part of the weights.
        channels: Width of the volume.
        hidden_channels: Width of the networks and of the geometry feature.
        density_blocks: Hidden layers of the density network.
        rgb_blocks: Hidden layers of the colour and the embedding network.
        extent: Length unit of the networks, metres: positions are divided by it, and the density is
            ``activation(output) / extent`` in 1/m.
        activation: Makes the density positive: softplus, which always learns, or ReLU, which can be zero.
        color: Whether there is a colour network.
        semantic_channels: Width of the embedding; 0 for none.
        position_frequencies: Octaves of the position's encoding; 0 for the bare position.
        direction_frequencies: The same for the direction, which only the colour sees.
    """

    def __init__(  # noqa: PLR0913  the networks' sizes and inputs are the configuration
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        hidden_channels: int = 16,
        density_blocks: int = 3,
        rgb_blocks: int = 1,
        extent: int | float,
        activation: Callable[[Tensor], Tensor] = nn.functional.softplus,
        color: bool = True,
        semantic_channels: int = 0,
        position_frequencies: int = 0,
        direction_frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.channels = channels
        check_length("extent", extent)
        self.extent = extent
        self.activation = activation
        self.position_frequencies = position_frequencies
        self.density = InjectedMLP(
            channels,
            hidden_channels,
            1 + hidden_channels,
            num_blocks=density_blocks,
            position_channels=encoded_channels(3, position_frequencies),
        )
        self.heads = ChannelHeads(
            channels + hidden_channels,
            hidden_channels,
            num_blocks=rgb_blocks,
            color=color,
            semantic_channels=semantic_channels,
            direction_frequencies=direction_frequencies,
        )

    def forward(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples) -> FieldSamples:
        """The field at the middles of the samples, in float32 whatever the autocast state."""
        check_volume(volume, self.grid, self.channels)
        check_query(volume, rays, samples)
        with torch.autocast(volume.device.type, enabled=False):
            return self._forward(volume.float(), rays, samples)

    def _forward(self, volume: Tensor, rays: Rays, samples: RaySamples) -> FieldSamples:
        points, _ = query_points(rays, samples)
        features, places = self.grid.read(volume, points), points / self.extent
        out = self.density(frequency_encoding(places, self.position_frequencies), features)
        densities = torch.where(self.grid.contains(points), self.activation(out[..., 0]) / self.extent, 0.0)
        alphas = density_alphas(densities, samples.deltas.flatten(1)).reshape(samples.valid.shape)
        channels = self.heads(places, rays.directions, (features, out[..., 1:]), samples)
        return FieldSamples(torch.where(samples.valid, alphas, 0.0), channels)


class OccupancyField(nn.Module):
    """The field of a volume of occupancy logits, without anything learned.

    The first channel holds the logits. They become densities voxel by voxel
    (:func:`~renderpretrain.fields.occupancy_densities`), which are read trilinearly and are zero outside the
    grid; reading logits would leave a probability of 1/2 there. Further channels are composited as they are.

    Args:
        grid: Where the volume is.
        length: Metres of path at which an interval is opaque with the voxel's probability; its smallest
            edge, if not given.
        channel: What the further channels are called.
    """

    def __init__(
        self, grid: VoxelGrid, *, length: int | float | None = None, channel: str = "semantic"
    ) -> None:
        super().__init__()
        self.grid = grid
        self.length = min(grid.voxel_size) if length is None else length
        self.channel = channel

    def surface(
        self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]
    ) -> Float[Tensor, "B P"]:
        """Minus the logits: positive in free space, zero where the probability is a half."""
        check_volume(volume, self.grid)
        check_shape("points", points, "B P 3", B=len(volume))
        return -self.grid.read(volume[:, :1], points)[..., 0]

    def forward(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples) -> FieldSamples:
        """The field at the middles of the samples, in float32 whatever the autocast state."""
        check_volume(volume, self.grid)
        check_query(volume, rays, samples)
        with torch.autocast(volume.device.type, enabled=False):
            volume = volume if volume.dtype == torch.float64 else volume.float()
            points, _ = query_points(rays, samples)
            densities = occupancy_densities(volume[:, :1], self.length)
            stored = torch.cat([densities, volume[:, 1:]], 1)
            read = self.grid.read(stored, points)
            alphas = density_alphas(read[..., 0], samples.deltas.flatten(1))
            channels = {self.channel: read[..., 1:]} if read.shape[-1] > 1 else {}
            return answer_samples(alphas, channels, samples)
