"""Fourier features: what lets a small network follow fast changes of position or direction."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape


def frequency_encoding(
    x: Float[Tensor, "*batch D"], num_frequencies: int, *, include_input: bool = True
) -> Float[Tensor, "*batch E"]:
    r"""Sines and cosines of every coordinate at octaves.

    .. math:: \gamma(x) = (x,\; \sin 2^0 \pi x,\, \cos 2^0 \pi x,\; \ldots,\;
        \sin 2^{L-1} \pi x,\, \cos 2^{L-1} \pi x)

    NeRF (https://arxiv.org/abs/2003.08934), equation 4, which leaves ``x`` itself out; its released code
    keeps it and drops the factor pi.

    Args:
        x: Coordinates of about [-1, 1]: positions divided by the scene's extent, or unit directions.
            Differentiable.
        num_frequencies: ``L``; the finest period is ``2^(2 - L)``. The paper takes 10 for positions and 4
            for directions.
        include_input: Whether ``x`` comes first.

    Returns:
        ``encoded_channels(D, num_frequencies)`` numbers: ``x``, then per octave all sines and all cosines.
    """
    check_shape("x", x, "... D")
    check_frequencies(num_frequencies, include_input)
    octaves = 2.0 ** torch.arange(num_frequencies, device=x.device, dtype=x.dtype) * math.pi
    angles = x[..., None, :] * octaves[:, None]
    waves = torch.stack([angles.sin(), angles.cos()], -2).flatten(-3)
    return torch.cat([x, waves], -1) if include_input else waves


def encoded_channels(channels: int, num_frequencies: int, *, include_input: bool = True) -> int:
    """Width of :func:`frequency_encoding`: ``channels * (2 * num_frequencies + include_input)``."""
    check_frequencies(num_frequencies, include_input)
    return channels * (2 * num_frequencies + include_input)


def check_frequencies(num_frequencies: int, include_input: bool) -> None:
    """Raise ``ValueError`` for an encoding of no width."""
    if num_frequencies < 0 or not (num_frequencies or include_input):
        least = 0 if include_input else 1
        raise ValueError(f"num_frequencies: expected at least {least}, got {num_frequencies}")
