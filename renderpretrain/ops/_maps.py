"""Image maps at places in them, in plain PyTorch: reading, and its adjoint.

Maps are ``(B, C, h, w)`` with places ``(u, v)``, or ``(B, C, D, h, w)`` with places ``(u, v, d)``: -1 at the
first edge and 1 at the last, zeros outside.
"""

import torch
from torch import Tensor

from renderpretrain.ops._trilinear import Numbers, gather_reference, scatter_reference


def read_maps(maps: Tensor, places: Tensor) -> Tensor:
    """Bi- or trilinear reading: ``(B, P, C)``. Places keep full precision under autocast."""
    if maps.shape[2:].numel() == 0:  # which torch refuses
        return places.new_zeros(*places.shape[:2], maps.shape[1]) + maps.sum()
    with torch.autocast(maps.device.type, enabled=False):
        grid = places[:, None] if places.shape[-1] == 2 else places[:, None, None]
        read = torch.nn.functional.grid_sample(
            maps.to(places.dtype), grid, padding_mode="zeros", align_corners=False
        )
    return read.flatten(2).mT


def read_by_gathers(maps: Tensor, places: Tensor) -> Tensor:
    """Read maps by gathers: slower, and differentiable to any order."""
    volume = maps if maps.dim() == 5 else maps[:, :, None]
    points, scale, offset = _in_volume(places, volume.shape[2:])
    return gather_reference(volume.to(places.dtype), points, scale, offset)


def _in_volume(places: Tensor, shape: Numbers) -> tuple[Tensor, Numbers, Numbers]:
    """Points, scale and offset in a volume ``(Z, Y, X)``; of flat maps it is the only slice."""
    points = torch.nn.functional.pad(places, (0, 3 - places.shape[-1]))
    return points, [extent / 2 for extent in shape[::-1]], [(extent - 1) / 2 for extent in shape[::-1]]


def add(values: Tensor, places: Tensor, shape: Numbers) -> Tensor:
    """The adjoint of reading, ``(B, C, Z, Y, X)``, in a fixed order."""
    points, scale, offset = _in_volume(places, shape)
    return scatter_reference(values, points, shape, scale, offset)
