"""Which labels a probe may look at."""

import torch
from jaxtyping import Int
from torch import Tensor


def choose_scenes(
    counts: list[int], fraction: int | float, seed: int
) -> tuple[list[Int[Tensor, " K"] | None], int]:
    """All places of a fraction of the scenes, at least one; a larger fraction holds a smaller one.

    Args:
        counts: Places of every scene.
        fraction: Of the scenes, in (0, 1].
        seed: Which scenes.

    Returns:
        Rows of every scene's places, ``None`` for a scene without labels; and how many scenes have some.
    """
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    chosen = set(order[: max(1, round(fraction * len(counts)))].tolist())
    return [torch.arange(n) if i in chosen else None for i, n in enumerate(counts)], len(chosen)


def choose_places(
    counts: list[int], fraction: int | float, seed: int
) -> tuple[list[Int[Tensor, " K"] | None], int]:
    """A fraction of all scenes' places, at least one; a larger fraction holds a smaller one.

    Args:
        counts: Places of every scene.
        fraction: Of all places, in (0, 1].
        seed: Which places.

    Returns:
        Rows of every scene's places, ``None`` for a scene without labels; and how many places have some.
    """
    total = sum(counts)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(1, round(fraction * total))].sort().values
    rows: list[Tensor | None] = []
    first = 0
    for count in counts:
        own = chosen[(chosen >= first) & (chosen < first + count)] - first
        rows.append(own if len(own) else None)
        first += count
    return rows, len(chosen)
