"""From a volume of features to a logit per voxel."""

from jaxtyping import Float
from torch import Tensor, nn

from renderpretrain.ops.batch_norm import BatchNorm3d
from renderpretrain.ops.conv3d import Conv3d


class OccupancyDecoder(nn.Module):
    """UniScene's two 3D convolutions and small network per voxel, with its keys ``decoder``, ``predicter``.

    Args:
        in_channels: Of the volume.
        channels: Of the convolutions.
        hidden_channels: Of the network per voxel.
    """

    def __init__(self, in_channels: int, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.decoder = nn.Sequential(_conv(in_channels, channels), _conv(channels, channels))
        self.predicter = nn.Sequential(
            nn.Linear(channels, hidden_channels), nn.Softplus(), nn.Linear(hidden_channels, 1)
        )

    def forward(self, volume: Float[Tensor, "B C Z Y X"]) -> Float[Tensor, "B 1 Z Y X"]:
        """Logits of being occupied. Differentiable."""
        features = self.decoder(volume)
        return self.predicter(features.movedim(1, -1)).movedim(-1, 1)


def _conv(in_channels: int, channels: int) -> nn.Sequential:
    """A 3D convolution over all neighbours, normalised and rectified."""
    return nn.Sequential(
        Conv3d(in_channels, channels, 3, padding=1, bias=False), BatchNorm3d(channels), nn.ReLU()
    )
