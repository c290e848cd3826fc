"""Integers that name rows: looked at before a kernel follows them.

Only on the CPU, where a look costs a few percent of what the kernels do. On CUDA it would wait for the
device, and the kernels there leave out what is out of range.
"""

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor

from renderpretrain.ops._native import answer


def check_rows(name: str, rows: Tensor, limit: int, lowest: int = 0) -> None:
    """Raise ``ValueError`` unless all of the dense int32 or int64 ``rows`` lie in [lowest, limit)."""
    if rows.is_cpu and not answer("check_rows", rows, rows.numel(), lowest, limit):
        raise ValueError(
            f"{name}: expected numbers from {lowest} to {limit - 1}, got "
            f"{int(rows.min())} to {int(rows.max())}"
        )


def check_rising(name: str, offsets: Tensor, last: int, first: int = 0) -> None:
    """Raise ``ValueError`` unless the dense ``offsets`` never fall and stay in [first, last]."""
    if offsets.is_cpu and not answer("check_rising", offsets, offsets.numel(), first, last):
        raise ValueError(f"{name}: expected numbers that never fall, from {first} to {last}, got {offsets}")


def check_each_once(name: str, rows: Tensor) -> None:
    """Raise ``ValueError`` unless the dense int32 ``rows`` are 0, 1, 2, ... in any order.

    Looked at in every call, since memory can be written to uncounted (through NumPy); what a number leaves
    out would come back as whatever the memory held.
    """
    if not rows.is_cpu:
        return
    seen = torch.empty(len(rows), dtype=torch.bool)
    if not answer("check_each_once", rows, len(rows), seen):
        raise ValueError(f"{name}: expected each number from 0 to {len(rows) - 1} once, got {rows}")


EACH_ONCE = "0, 1, 2, ... in some order"
_MARK = "_renderpretrain_facts"


def remember(rows: Tensor, fact: Hashable) -> None:
    """Note a fact about a tensor's numbers at the tensor, good until it is written to.

    Nothing is noted in inference mode, where a tensor may be written to and nobody would know.
    """
    writes = count_writes(rows)
    if writes is not None:
        setattr(rows, _MARK, getattr(rows, _MARK, {}) | {fact: writes})


def is_known(rows: Tensor, fact: Hashable) -> bool:
    """Whether :func:`remember` was told, and the tensor has not been written to since."""
    facts = getattr(rows, _MARK, None)
    return facts is not None and fact in facts and facts[fact] == count_writes(rows)


def known_facts(rows: Tensor) -> Iterator[Hashable]:
    """All that :func:`remember` was told and that still holds."""
    writes = count_writes(rows)
    for fact, then in getattr(rows, _MARK, {}).items():
        if then == writes:
            yield fact


def count_writes(rows: Tensor) -> int | None:
    """How often a tensor was written to; ``None`` in inference mode, where nobody counts."""
    return None if rows.is_inference() else int(rows._version)
