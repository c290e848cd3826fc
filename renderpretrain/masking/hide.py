"""What a mask does: set image patches to the mean colour, find the voxels of hidden blocks."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain.checks import check_shape


def patch_candidates(images: Float[Tensor, "M C H W"], patch_size: int) -> Bool[Tensor, "M h w"]:
    """All patches of the images; the patch size divides their height and width."""
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"images: expected height and width divisible by patch_size={patch_size}, got ({height}, {width})"
        )
    shape = (len(images), height // patch_size, width // patch_size)
    return torch.ones(shape, dtype=torch.bool, device=images.device)


def hide_patches(images: Float[Tensor, "M C H W"], mask: Bool[Tensor, "M h w"]) -> Float[Tensor, "M C H W"]:
    """Set the hidden patches to zero, the mean colour of normalised images."""
    check_shape("mask", mask, "M h w", M=len(images))
    hidden = torch.nn.functional.interpolate(mask[:, None].float(), images.shape[-2:], mode="nearest")
    return images.masked_fill(hidden.bool(), 0.0)


def occupied_blocks(
    coords: Int[Tensor, "M 4"], block: tuple[int, int, int], shape: tuple[int, int, int, int]
) -> Bool[Tensor, "B Z Y X"]:
    """Which blocks hold a voxel.

    Args:
        coords: Voxels ``(b, z, y, x)``.
        block: Voxels per block ``(z, y, x)``.
        shape: ``(B, Z, Y, X)`` in blocks.
    """
    occupied = torch.zeros(shape, dtype=torch.bool, device=coords.device)
    b, z, y, x = _blocks(coords, block)
    occupied[b, z, y, x] = True
    return occupied


def hidden_voxels(
    coords: Int[Tensor, "M 4"], block: tuple[int, int, int], mask: Bool[Tensor, "B Z Y X"]
) -> Bool[Tensor, " M"]:
    """Which voxels lie in a hidden block."""
    b, z, y, x = _blocks(coords, block)
    return mask[b, z, y, x]


def _blocks(coords: Tensor, block: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Batch and block index of each voxel."""
    cells = coords[:, 1:] // coords.new_tensor(block)
    return coords[:, 0].long(), *cells.long().unbind(1)
