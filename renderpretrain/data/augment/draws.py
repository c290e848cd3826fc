"""Random numbers of one sample."""

import torch


def uniform(draw: torch.Generator, low: int | float, high: int | float) -> float:
    """A number between two; one is drawn even where they are the same, so that no other changes with them."""
    return low + (high - low) * float(torch.rand((), generator=draw))


def chance(draw: torch.Generator, probability: int | float) -> bool:
    """Whether something of this probability happens."""
    return float(torch.rand((), generator=draw)) < probability
