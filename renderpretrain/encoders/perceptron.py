"""Small networks that treat every cell alone."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Two linear layers with a GELU between them, widening fourfold; keys ``fc1``, ``fc2`` as in timm.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "*cells C"]) -> Float[Tensor, "*cells C"]:
        """Two linear layers with a GELU between them, cell by cell. Differentiable."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class FeatureHeads(nn.Module):
    """A hidden layer, and on it a linear map to each of several targets: what predicts a teacher's features.

    Behind such a head a network's features need not be the target's, only tell them: it stays behind.

    Args:
        in_channels: Channels of what is known.
        hidden_channels: Width of the hidden layer.
        targets: Channels of every target, by its name.
    """

    def __init__(self, in_channels: int, hidden_channels: int, targets: Mapping[str, int]) -> None:
        super().__init__()
        if not targets:
            raise ValueError("targets: expected at least one to predict, got none")
        self.hidden = nn.Linear(in_channels, hidden_channels)
        self.out = nn.ModuleDict({name: nn.Linear(hidden_channels, width) for name, width in targets.items()})

    def forward(self, x: Float[Tensor, "*cells C"]) -> dict[str, Float[Tensor, "*cells _"]]:
        """What is predicted of every target, by its name. Differentiable."""
        hidden = nn.functional.gelu(self.hidden(x))
        return {name: out(hidden) for name, out in self.out.items()}
