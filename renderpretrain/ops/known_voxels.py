"""What is known of voxels without looking at them, for on an accelerator a look waits for the device.

Position in a volume is compared axis by axis, so the order of voxels is the same in every volume around them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.ops._rows import known_facts, remember

_INSIDE = "voxels inside"


def remember_voxels(coords: Int[Tensor, "M 4"], shape: Sequence[int], *, ordered: bool) -> None:
    """Note where voxels are, good until somebody writes to them.

    Args:
        coords: Voxels ``(b, z, y, x)``, none twice.
        shape: ``(B, Z, Y, X)`` of a volume that they lie in.
        ordered: Whether they are sorted by position.
    """
    if not torch.compiler.is_compiling():
        remember(coords, (_INSIDE, tuple(shape), ordered))


def known_order(coords: Int[Tensor, "M 4"], shape: Sequence[int]) -> bool | None:
    """Whether voxels are sorted by position; ``None`` where nobody has noted that the volume holds them."""
    for fact in known_facts(coords):
        if isinstance(fact, tuple) and fact[0] == _INSIDE:
            _, sizes, ordered = fact
            if all(own <= size for own, size in zip(sizes, shape, strict=True)):
                return bool(ordered)
    return None
