"""Samples of rays in one tensor: rows of one length, or packed back to back between offsets.

Packed, the samples of ray ``r`` are ``x[offsets[r]:offsets[r + 1]]``, and ``offsets`` (R + 1) is int64,
sorted, and runs from 0 to the number of samples.
"""

import torch
from torch import Tensor

from renderpretrain.checks import check_shape


def check_layout(name: str, x: Tensor, offsets: Tensor | None) -> None:
    """Raise ``ValueError`` unless ``x`` has rows or, with offsets, one axis on their device."""
    if offsets is None:
        check_shape(name, x, "... S")
        return
    check_shape(name, x, "N")
    size = check_shape("offsets", offsets, "E")["E"]
    if offsets.dtype != torch.int64 or size == 0:
        raise ValueError(f"offsets: expected int64 and one more than rays, got {offsets.dtype} and {size}")
    if offsets.device != x.device:
        raise ValueError(f"offsets: expected a tensor on {x.device} like {name}, got {offsets.device}")


def sizes(x: Tensor, offsets: Tensor | None) -> tuple[int, int]:
    """``num_rays`` and ``num_samples`` of the native functions; offsets are looked at on the CPU.

    Elsewhere the look would wait for the device. The kernels stay within ``x`` whatever the offsets say.

    Raises:
        ValueError: If the offsets are not sorted from 0 to the number of samples.
    """
    if offsets is None:
        return x.shape[:-1].numel(), x.shape[-1]
    if offsets.device.type == "cpu":
        values = offsets.numpy()
        if values[0] != 0 or values[-1] != len(x) or (values[1:] < values[:-1]).any():
            raise ValueError(f"offsets: expected to rise from 0 to {len(x)}, got {offsets}")
    return len(offsets) - 1, len(x)


def to_rows(x: Tensor, offsets: Tensor, fill: float) -> tuple[Tensor, Tensor]:
    """Packed samples as rows (R, S) of the longest ray's length, and where they hold a sample."""
    sizes(x, offsets)
    counts = offsets.diff()
    longest = int(counts.max()) if len(counts) else 0
    inside = torch.arange(longest, device=x.device) < counts[:, None]
    return x.new_full(inside.shape, fill).masked_scatter(inside, x), inside
