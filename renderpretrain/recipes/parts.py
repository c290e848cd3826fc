"""What several recipes share."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor, nn


@dataclass(frozen=True)
class Hidden:
    """What a training step hides of a batch.

    Attributes:
        patches: Image patches, ``None`` where no images are read.
        points: Points, ``None`` where no points are read.
    """

    patches: Bool[Tensor, "B N h w"] | None
    points: Bool[Tensor, "B P"] | None


def set_momentum(part: nn.Module | None, momentum: float) -> None:
    """Set the running statistics' momentum of a part's batch norms."""
    for module in part.modules() if part else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
