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
            the size it meets (twice the same name means twice the same size), a leading or trailing ``...``
            takes any axes.
        **sizes: Sizes already known, by axis name.

    Returns:
        The size of every named axis.
    """
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: expected a tensor ({axes}), got {type(tensor).__name__}")
    names, shape = axes.split(), tuple(tensor.shape)
    seen = shape
    if "..." in names:
        names = [axis for axis in names if axis != "..."]
        seen = shape[max(len(shape) - len(names), 0) :] if axes.startswith("...") else shape[: len(names)]
    bound = dict(sizes)
    fits = len(seen) == len(names)
    for axis, size in zip(names, seen, strict=False):
        expected = int(axis) if axis.isdigit() else bound.setdefault(axis, size)
        fits = fits and size == expected
    if not fits:
        known = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise ValueError(f"{name}: expected ({axes}){' with ' + known if known else ''}, got {shape}")
    return bound


def check_images(images: Tensor, axes: str) -> None:
    """Raise ``ValueError`` unless images have four axes, such as ``"B 3 H W"``, of floating-point numbers."""
    if isinstance(images, Tensor) and images.dim() == 5:
        raise ValueError(
            f"images: expected ({', '.join(axes.split())}), got {tuple(images.shape)}; cameras go in one "
            "row: images.flatten(0, 1)"
        )
    check_shape("images", images, axes)
    check_floating(images=images)


def check_alike(**tensors: Tensor | None) -> None:
    """Raise ``ValueError`` unless all have the shape of the first one; broadcasting is a mistake among rays.

    Args:
        **tensors: By the names that the user knows them by; ``None`` is left out.
    """
    (first, model), *others = tensors.items()
    if not isinstance(model, Tensor):
        raise ValueError(f"{first}: expected a tensor, got {type(model).__name__}")
    for name, tensor in others:
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor) or tensor.shape != model.shape:
            got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{name}: expected {tuple(model.shape)}, the shape of {first}, got {got}")


def check_floating(**tensors: Tensor | None) -> None:
    """Raise ``ValueError`` unless these hold floating-point numbers, by name; ``None`` is left out."""
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name}: expected floating-point numbers, got {tensor.dtype}")


def check_count(name: str, count: int) -> None:
    """Raise ``ValueError`` unless ``count`` is a whole number of at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {count!r}")


def check_length(name: str, meters: int | float) -> None:
    """Raise ``ValueError`` unless ``meters`` is a positive and finite length."""
    if not 0 < meters < _INF:
        raise ValueError(f"{name}: expected a positive number of metres, got {meters}")


def check_depth_range(depth_range: tuple[int | float, int | float]) -> None:
    """Raise ``ValueError`` unless ``depth_range`` has two finite distances, the nearer one first."""
    if len(depth_range) != 2 or not 0 <= depth_range[0] < depth_range[1] < _INF:
        raise ValueError(f"depth_range: expected the nearest and the farthest depth, got {depth_range}")


def check_bool(**masks: Tensor | None) -> None:
    """Raise ``ValueError`` unless these hold truth values, by name; ``None`` is left out."""
    for name, mask in masks.items():
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(f"{name}: expected torch.bool, got {mask.dtype}")


def check_on_grid(name: str, volume: Tensor, shape: Sequence[int]) -> None:
    """Raise ``ValueError`` unless ``volume`` is ``(B, C, Z, Y, X)`` with the shape ``(Z, Y, X)`` of its grid.

    An encoder that strides, or an axis order of its own, gives another one, which would be read at wrong
    places without a word.
    """
    check_shape(name, volume, "B C Z Y X")
    if tuple(volume.shape[2:]) != tuple(shape):
        raise ValueError(
            f"{name}: expected (B, C, Z, Y, X) on a grid of {tuple(shape)}, got {tuple(volume.shape)}; the "
            "grid of a strided encoder's output is encoder.output_grid(grid)"
        )


def check_mask(name: str, mask: Tensor, shape: Sequence[int], device: torch.device) -> None:
    """Raise ``ValueError`` unless ``mask`` is bool, of this shape and on this device."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"{name}: expected a tensor of torch.bool, got {type(mask).__name__}")
    if mask.dtype != torch.bool or mask.shape != shape or mask.device != device:
        raise ValueError(
            f"{name}: expected torch.bool of shape {tuple(shape)} on {device}, "
            f"got {mask.dtype} of shape {tuple(mask.shape)} on {mask.device}"
        )


def check_type(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``ValueError`` unless ``tensor`` has this type and lies on this device."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name}: expected a tensor of {dtype}, got {type(tensor).__name__}")
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


def check_volume(shape: Sequence[int | torch.SymInt]) -> None:
    """Raise ``ValueError`` unless ``shape`` has the three sizes (Z, Y, X) of a volume, which may be empty.

    Its voxels are numbered in 63 bits.
    """
    if len(shape) != 3 or min(shape) < 0:
        raise ValueError(f"shape: expected three sizes (Z, Y, X), got {shape}")
    if not shape[0] * shape[1] * shape[2] < 2**62:
        raise ValueError(f"shape: expected fewer than 2^62 voxels, got {shape}")
