"""Which labels a probe may look at."""

import torch
from jaxtyping import Int
from torch import Tensor

Rows = Int[Tensor, " _"] | slice | None
"""Which of a scene's places have labels; ``None`` for a scene without any."""


def choose_scenes(counts: list[int], fraction: int | float, seed: int) -> tuple[list[Rows], int]:
    """Chooses a fraction of the scenes, at least one; a larger fraction holds a smaller one.

    Args:
        counts: One number per scene; only how many there are matters.
        fraction: Of the scenes, in (0, 1].
        seed: Which scenes.

    Returns:
        The rows of every scene, and how many scenes have some.
    """
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    chosen = set(order[: max(1, round(fraction * len(counts)))].tolist())
    return [slice(None) if i in chosen else None for i in range(len(counts))], len(chosen)


def choose_places(counts: list[int], fraction: int | float, seed: int) -> tuple[list[Rows], int]:
    """A fraction of all scenes' places, at least one; a larger fraction holds a smaller one.

    Args:
        counts: Places of every scene.
        fraction: Of all places, in (0, 1].
        seed: Which places.

    Returns:
        The rows of every scene, and how many places have labels.
    """
    total = sum(counts)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, round(fraction * total))].sort().values
    rows: list[Rows] = []
    first = 0
    for count in counts:
        own = chosen[(chosen >= first) & (chosen < first + count)] - first
        rows.append(own if len(own) else None)
        first += count
    return rows, len(chosen)
