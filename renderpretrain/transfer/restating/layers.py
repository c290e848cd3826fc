"""Layers by the names of their weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]


def batch_norm(state: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalisation with the running statistics."""
    mean, var, weight, bias = (
        state[f"{name}.{side}"] for side in ("running_mean", "running_var", "weight", "bias")
    )
    return nn.functional.batch_norm(x, mean, var, weight, bias, eps=eps)


def conv(state: Weights, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """A convolution, with its bias where there is one."""
    return nn.functional.conv2d(
        x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride=stride, padding=padding
    )


def linear(state: Weights, name: str, x: Tensor) -> Tensor:
    """A matrix product on the last axis."""
    return nn.functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def layer_norm(state: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalisation over the last axis."""
    return nn.functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def norm_cells(state: Weights, name: str, x: Tensor) -> Tensor:
    """Normalisation over the channels of every cell of ``(B, C, h, w)``."""
    return layer_norm(state, name, x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def random_pyramid(channels: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Feature maps, each half as large as the one before."""
    return [
        torch.randn(
            1, max(c, 1), 2 ** (len(channels) - i) * 3, 2 ** (len(channels) - i) * 4, generator=generator
        )
        for i, c in enumerate(channels)
    ]
