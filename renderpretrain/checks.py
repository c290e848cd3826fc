"""The validators: an error names the argument, what was expected and what came."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_INF = math.inf


def check_shape(name: str, tensor: Tensor, axes: str, **sizes: int) -> dict[str, int]:
    """Raise ``ValueError`` unless ``tensor`` has the axes that the string names.

    Args:
        name: What the user calls the argument; it starts the message.
        tensor: The argument.
        axes: Axis names separated by blanks, e.g. ``"B R 3"``. A number is an exact size, a name is bound to
            the size it meets (twice the same name means twice the same size), a leading ``...`` takes any
            axes.
        **sizes: Sizes already known, by axis name.

    Returns:
        The size of every named axis.
    """
    names = axes.split()
    leading = bool(names) and names[0] == "..."
    tail = names[1:] if leading else names
    shape = tuple(tensor.shape)
    bound = dict(sizes)
    fits = len(shape) >= len(tail) if leading else len(shape) == len(tail)
    for axis, size in zip(tail, shape[len(shape) - len(tail) :], strict=False):
        expected = int(axis) if axis.isdigit() else bound.setdefault(axis, size)
        fits = fits and size == expected
    if not fits:
        known = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise ValueError(f"{name}: expected ({axes}){' with ' + known if known else ''}, got {shape}")
    return bound


def check_mask(name: str, mask: Tensor, shape: Sequence[int], device: torch.device) -> None:
    """Raise ``ValueError`` unless ``mask`` is bool, of this shape and on this device."""
    if mask.dtype != torch.bool or mask.shape != shape or mask.device != device:
        raise ValueError(
            f"{name}: expected torch.bool of shape {tuple(shape)} on {device}, "
            f"got {mask.dtype} of shape {tuple(mask.shape)} on {mask.device}"
        )


def check_type(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``ValueError`` unless ``tensor`` has this type and lies on this device."""
    if tensor.dtype != dtype or tensor.device != device:
        raise ValueError(f"{name}: expected {dtype} on {device}, got {tensor.dtype} on {tensor.device}")


def check_integer(name: str, tensor: Tensor) -> None:
    """Raise ``ValueError`` unless ``tensor`` holds integers; truth values are none."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{name}: expected integers, got {tensor.dtype}")


def check_frame(scale: Sequence[float], offset: Sequence[float]) -> None:
    """Raise ``ValueError`` unless both have three finite numbers (x, y, z)."""
    for name, numbers in (("scale", scale), ("offset", offset)):
        x, y, z = numbers if len(numbers) == 3 else (_INF, _INF, _INF)
        # In a graph they may be symbols, which can be compared but not given to functions of math.
        if not (abs(x) < _INF and abs(y) < _INF and abs(z) < _INF):
            raise ValueError(f"{name}: expected three finite numbers (x, y, z), got {numbers}")


def check_box(lower: Sequence[float], upper: Sequence[float]) -> None:
    """Raise ``ValueError`` unless these are opposite corners (x, y, z), the lower one first."""
    for name, corner in (("lower", lower), ("upper", upper)):
        if len(corner) != 3:
            raise ValueError(f"{name}: expected three numbers (x, y, z), got {corner}")
    if not (lower[0] <= upper[0] and lower[1] <= upper[1] and lower[2] <= upper[2]):
        raise ValueError(f"lower: expected no coordinate above upper {upper}, got {lower}")


def check_volume(shape: Sequence[int]) -> None:
    """Raise ``ValueError`` unless ``shape`` has the three sizes (Z, Y, X) of a volume, which may be empty."""
    if len(shape) != 3 or min(shape) < 0:
        raise ValueError(f"shape: expected three sizes (Z, Y, X), got {shape}")
