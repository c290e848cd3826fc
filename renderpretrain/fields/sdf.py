"""A signed-distance field with colour, decoded from a feature volume."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain import ops
from renderpretrain.fields.decoder import InjectedMLP
from renderpretrain.fields.samples import FieldSamples
from renderpretrain.geometry import Rays, RaySamples, VoxelGrid
from renderpretrain.ops.neus import neus_alphas

SOFTPLUS_BETA = 100
"""How close the distance network's activation comes to a ReLU; the value of NeuS."""


def _softplus_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(SOFTPLUS_BETA * x)


class SDFField(nn.Module):
    """Signed distance, its gradient, opacity and colour at points of a feature volume.

    The feature is read trilinearly (zero outside the grid). One small network gives the distance and a
    geometry feature, another the colour from direction, volume feature, gradient and geometry feature.
    Opacity follows :func:`~renderpretrain.ops.neus_alphas` with one learned sharpness. UniPAD
    (https://arxiv.org/abs/2310.08370), section 3.2.

    The networks work in units of ``extent``, in which positions and distances are about 1; everything
    outside them is in metres.

    Args:
        grid: Where the volume is. It is not part of the weights.
        channels: Width of the volume.
        hidden_channels: Width of both networks and of the geometry feature.
        sdf_blocks: Hidden layers of the distance network.
        rgb_blocks: Hidden layers of the colour network.
        extent: Length unit of the networks, metres: the largest coordinate of the range.
        sharpness: Initial ``inv_s`` in 1/extent.
        colour: Whether there is a colour network at all.
    """

    def __init__(  # noqa: PLR0913  the networks' four sizes are the configuration
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        hidden_channels: int = 16,
        sdf_blocks: int = 5,
        rgb_blocks: int = 3,
        extent: float,
        sharpness: float = math.exp(3.0),
        colour: bool = True,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.extent = extent
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness) / 10))
        self.distance = InjectedMLP(
            channels,
            hidden_channels,
            1 + hidden_channels,
            num_blocks=sdf_blocks,
            activation=nn.Softplus(beta=SOFTPLUS_BETA),
            activation_slope=_softplus_slope,
        )
        self.colour: InjectedMLP | None = None
        if colour:
            width = 3 + channels + 3 + hidden_channels
            self.colour = InjectedMLP(width, hidden_channels, 3, num_blocks=rgb_blocks, activation=nn.ReLU())

    @property
    def inv_s(self) -> Float[Tensor, ""]:
        """Sharpness of the opacity law, 1/m: ``exp(10 v)`` of the learned ``v``, which moves it fast."""
        return torch.exp(10 * self.log_sharpness) / self.extent

    def sdf(self, volume: Float[Tensor, "B C Z Y X"], points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P"]:
        """Signed distance alone, metres."""
        features = ops.grid_sample(volume, points, self.grid.scale, self.grid.offset)
        return self.distance(points / self.extent, features)[..., 0] * self.extent

    def _decode(self, volume: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At points ``(B, P, 3)``: distance in metres, its gradient, geometry feature and volume feature."""
        features = ops.grid_sample(volume, points, self.grid.scale, self.grid.offset)
        out, by_points, by_features = self.distance.with_gradient(points / self.extent, features)
        through_volume = ops.grid_sample_vjp(volume, points, by_features, self.grid.scale, self.grid.offset)
        gradients = by_points + through_volume * self.extent
        return out[..., 0] * self.extent, gradients, out[..., 1:], features

    def forward(self, volume: Float[Tensor, "B C Z Y X"], rays: Rays, samples: RaySamples) -> FieldSamples:
        """The field at the middles of the samples, in float32 whatever the autocast state."""
        with torch.autocast(volume.device.type, enabled=False):
            return self._forward(volume.float(), rays, samples)

    def _forward(self, volume: Tensor, rays: Rays, samples: RaySamples) -> FieldSamples:
        batch, num_rays, num_samples = samples.t_starts.shape
        points = torch.where(samples.valid[..., None], rays.at(samples.t_mids), 0.0).flatten(1, 2)
        sdf, gradients, geometry, features = self._decode(volume, points)
        directions = rays.directions[:, :, None].expand(-1, -1, num_samples, -1).reshape(points.shape)
        cosines = (directions * gradients).sum(-1)
        deltas = samples.deltas.reshape(batch, -1)
        alphas = neus_alphas(sdf, cosines, deltas, self.inv_s)
        alphas = torch.where(samples.valid.reshape(batch, -1), alphas, 0.0)
        channels = {}
        if self.colour is not None:
            inputs = torch.cat([directions, features, gradients, geometry], -1)
            rgb = torch.sigmoid(self.colour(points / self.extent, inputs))
            channels["rgb"] = rgb.reshape(batch, num_rays, num_samples, 3)
        shape = (batch, num_rays, num_samples)
        return FieldSamples(alphas.reshape(shape), channels, sdf.reshape(shape), gradients.reshape(*shape, 3))
