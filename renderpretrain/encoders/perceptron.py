"""The part of a block that treats every cell alone."""

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
