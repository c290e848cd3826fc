"""A few numbers as a tensor, made once per device."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


def constant(numbers: Sequence[Any], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The numbers as a tensor beside ``like``; to read, not to write into.

    ``like.new_tensor(numbers)`` copies from ordinary memory, and an accelerator's queue runs empty while the
    host waits for that copy. Here it happens the first time only. While a graph is traced the numbers become
    part of it instead.

    Args:
        numbers: Of any nesting, as for ``torch.tensor``; for sizes and settings, of which a program has few.
        like: Says the device.
        dtype: That of ``like`` by default.

    Returns:
        Shared between all callers with the same numbers, and without a gradient.
    """
    dtype = like.dtype if dtype is None else dtype
    waits = type(like) is Tensor and like.device.type not in ("cpu", "meta")
    if not waits or torch.compiler.is_compiling():
        return like.new_tensor(numbers, dtype=dtype)
    return _made(_hashable(numbers), dtype, like.device)


@cache
def _made(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The tensor itself; not of inference mode, for a later caller may need it for a gradient."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def _hashable(numbers: Sequence[Any]) -> tuple[Any, ...]:
    """Nested sequences as nested tuples, which can be keys."""
    return tuple(_hashable(n) if isinstance(n, Sequence) else n for n in numbers)
