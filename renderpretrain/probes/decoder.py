"""The small network that is trained on an encoder, place by place, where labels are what it learns from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

HIDDEN = 64
"""Width of the layer between features and answers."""


class PlaceDecoder(nn.Module):
    """Batch norm, a linear layer, ReLU, and a linear layer: what users put on an encoder to get answers.

    The norm makes one learning rate fit features of any scale, and encoders whose levels are of several.

    Args:
        channels: Of the features.
        outputs: Numbers per place.
        seed: Of the weights.
        hidden: Width of the layer between.
    """

    def __init__(self, channels: int, outputs: int, seed: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.BatchNorm1d(channels), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
            )

    def forward(self, features: Float[Tensor, "M C"]) -> Float[Tensor, "M K"]:
        """Answers for the features of places. Differentiable."""
        return self.layers(features)
