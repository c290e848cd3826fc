"""Uniform random numbers that depend on a seed and a position, and on nothing else.

A training step must treat a sample alike whatever batch, rank or device it lands on, so its random numbers
come from its own seed by hashing a counter (the finaliser of splitmix64) instead of from a generator's
hidden state.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

GOLDEN_GAMMA = -7046029254386353131
"""0x9E3779B97F4A7C15 as a signed integer: the step of splitmix64."""


def draw_seeds(count: int, device: torch.device | str = "cpu") -> Int[Tensor, " B"]:
    """Seeds from torch's global generator: ``torch.manual_seed`` rules where nobody gives seeds."""
    return torch.randint(2**62, (count,)).to(device)


def fork(seeds: Int[Tensor, " B"], purpose: int) -> Int[Tensor, " B"]:
    """Independent seeds for another purpose of the same samples."""
    return _mix(seeds ^ _mix(torch.full_like(seeds, purpose) * GOLDEN_GAMMA))


def uniform(seeds: Int[Tensor, " B"], shape: tuple[int, ...]) -> Float[Tensor, "B ..."]:
    """Uniform numbers in [0, 1), float32, the same on every device.

    A number depends on its own indices, not on the shape: padding an axis leaves the others' numbers as they
    are.

    Args:
        seeds: One per sample.
        shape: Shape of each sample's numbers.

    Returns:
        ``(B, *shape)``.
    """
    bits = _mix(seeds)
    for size in shape:
        bits = _mix(bits[..., None] + torch.arange(1, size + 1, device=seeds.device) * GOLDEN_GAMMA)
    return _shift(bits, 40).float() / 2**24


def _shift(bits: Tensor, places: int) -> Tensor:
    """Logical right shift: torch shifts signed integers arithmetically."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of splitmix64; integer products wrap."""
    bits = (bits ^ _shift(bits, 30)) * -4658895280553007687
    bits = (bits ^ _shift(bits, 27)) * -7723592293110705685
    return bits ^ _shift(bits, 31)
