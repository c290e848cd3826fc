"""What a mask does: to image patches, voxels, points and depth pixels; and what of them can be hidden."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import (
    check_alike,
    check_bool,
    check_floating,
    check_images,
    check_integer,
    check_shape,
)
from renderpretrain.ops.uncompiled import uncompiled

LONG_LISTS = 2**22
"""Entries of padded lists from which on it pays to wait for their length."""


def patch_candidates(images: Float[Tensor, "M C H W"], patch_size: int) -> Bool[Tensor, "M h w"]:
    """All patches of the images; the patch size divides their height and width.

    Of a batch's cameras, ``images.flatten(0, 1)``, each gets a mask of its own from
    ``ops.per_camera(seeds, num_cameras)``.
    """
    check_images(images, "M C H W")
    height, width = images.shape[-2:]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"images: expected height and width divisible by patch_size={patch_size}, got ({height}, {width})"
        )
    shape = (len(images), height // patch_size, width // patch_size)
    return torch.ones(shape, dtype=torch.bool, device=images.device)


def hide_patches(
    images: Float[Tensor, "M C H W"],
    mask: Bool[Tensor, "M h w"],
    token: Float[Tensor, "C p q"] | None = None,
) -> Float[Tensor, "M C H W"]:
    """Set the hidden patches to zero, the mean colour of normalised images, or to a token.

    Works on feature maps as well, with patches of one cell. Differentiable in images and token.

    Args:
        images: Normalised images.
        mask: Patches that tile the images.
        token: A whole patch, the same in every hidden place (SimMIM, https://arxiv.org/abs/2111.09886, as
            NS-MAE uses it), or with one pixel a colour for the whole patch.

    Raises:
        ValueError: If patches do not tile the images, or the token is neither a patch nor a pixel.
    """
    check_images(images, "M C H W")
    check_shape("mask", mask, "M h w", M=len(images))
    check_bool(mask=mask)
    rows, columns = mask.shape[1:]
    if not rows or not columns or images.shape[2] % rows or images.shape[3] % columns:
        raise ValueError(
            f"mask: expected patches that tile images of {tuple(images.shape[2:])}, got {rows} x {columns}"
        )
    hidden = torch.nn.functional.interpolate(mask[:, None].float(), images.shape[-2:], mode="nearest").bool()
    if token is None:
        return images.masked_fill(hidden, 0.0)
    patch = (images.shape[2] // rows, images.shape[3] // columns)
    if token.shape[0] != images.shape[1] or tuple(token.shape[1:]) not in ((1, 1), patch):
        raise ValueError(
            f"token: expected ({images.shape[1]}, 1, 1) or ({images.shape[1]}, {patch[0]}, {patch[1]}), "
            f"one pixel or one patch, got {tuple(token.shape)}"
        )
    if token.shape[1:] != (1, 1):
        token = token.repeat(1, rows, columns)
    return torch.where(hidden, token.to(images.dtype), images)


def returns_per_patch(
    pixels: Float[Tensor, "M P 2"], visible: Bool[Tensor, "M P"], patch_size: int, shape: tuple[int, int]
) -> Int[Tensor, "M h w"]:
    """How many LiDAR returns lie in each image patch.

    Args:
        pixels: Where the returns project to, ``(u, v)``; anything where not visible.
        visible: Which returns the image sees, all of them inside it.
        patch_size: Pixels per patch along each axis.
        shape: ``(h, w)`` in patches.
    """
    sizes = check_shape("pixels", pixels, "M P 2")
    check_shape("visible", visible, "M P", **sizes)
    check_bool(visible=visible)
    cells = torch.where(visible[..., None], pixels, 0.0).div(patch_size).floor().long()
    index = cells[..., 1] * shape[1] + cells[..., 0]
    counts = torch.zeros(len(pixels), shape[0] * shape[1], dtype=torch.int64, device=pixels.device)
    return counts.scatter_add_(1, index, visible.long()).view(-1, *shape)


def hide_depth(
    depth: Float[Tensor, "*batch H W"], mask: Bool[Tensor, "*batch H W"]
) -> Float[Tensor, "*batch H W"]:
    """A copy of a depth image in which the hidden pixels hold 0, no measurement.

    The candidates are the pixels with a measurement, ``depth > 0``. Targets are the given image, which stays
    as it is.
    """
    check_alike(depth=depth, mask=mask)
    check_floating(depth=depth)
    check_bool(mask=mask)
    return depth.masked_fill(mask, 0.0)


def hide_features(
    features: Float[Tensor, "M C"], hidden: Bool[Tensor, " M"], token: Float[Tensor, " C"]
) -> Float[Tensor, "M C"]:
    """Replace the features of hidden voxels by a token; the voxels stay where they are.

    PonderV2's outdoor mask (https://arxiv.org/abs/2310.08586), which gives the geometry away and asks for
    what it looks like. To drop voxels instead: ``voxels.to_sparse(hidden)``. Differentiable in features and
    token.
    """
    sizes = check_shape("features", features, "M C")
    check_shape("hidden", hidden, "M", M=sizes["M"])
    check_bool(hidden=hidden)
    check_shape("token", token, "C", C=sizes["C"])
    return torch.where(hidden[:, None], token.to(features.dtype), features)


@uncompiled
def voxel_candidates(
    coords: Int[Tensor, "M 4"], batch_size: int
) -> tuple[Bool[Tensor, "B L"], Int[Tensor, " M"]]:
    """The voxels as candidates one by one, in a padded list per sample.

    Lists are as long as the longest one needs; on CUDA, where to know this the host would wait, as long as
    all voxels together, unless that is much.

    For masks without blocks on fine grids, whose dense volume would be mostly empty. The mask of the voxels
    is ``mask[coords[:, 0], places]``; what a policy must know of them is filled in likewise,
    ``distances[coords[:, 0], places] = ...``.

    Args:
        coords: Voxels ``(b, z, y, x)``, in any order.
        batch_size: Number of samples.

    Returns:
        Which entries of the list hold a voxel, and the place of each voxel in its sample's list: their order
        in ``coords``.
    """
    _check_coords(coords)
    batch = coords[:, 0].long()
    # A count of each sample's would ask an accelerator for the largest.
    counts = batch.new_zeros(batch_size).index_add(0, batch, torch.ones_like(batch))
    order = batch.argsort(stable=True)
    starts = (counts.cumsum(0) - counts)[batch[order]]
    places = torch.empty_like(batch)
    places[order] = torch.arange(len(batch), device=batch.device) - starts
    length = len(batch)
    if batch_size > 1 and length and not (batch.is_cuda and length * batch_size < LONG_LISTS):
        length = int(counts.max())
    return torch.arange(length, device=batch.device) < counts[:, None], places


def occupied_blocks(
    coords: Int[Tensor, "M 4"], block: tuple[int, int, int], shape: tuple[int, int, int, int]
) -> Bool[Tensor, "B Z Y X"]:
    """Which blocks hold a voxel.

    Args:
        coords: Voxels ``(b, z, y, x)``.
        block: Voxels per block ``(z, y, x)``.
        shape: ``(B, Z, Y, X)`` in blocks.
    """
    _check_coords(coords)
    if len(shape) != 4 or len(block) != 3:
        raise ValueError(
            f"shape, block: expected (B, Z, Y, X) and three sizes (z, y, x), got {shape} and {block}"
        )
    occupied = torch.zeros(shape, dtype=torch.bool, device=coords.device)
    b, z, y, x = _blocks(coords, block)
    occupied[b, z, y, x] = True
    return occupied


def hidden_voxels(
    coords: Int[Tensor, "M 4"], block: tuple[int, int, int], mask: Bool[Tensor, "B Z Y X"]
) -> Bool[Tensor, " M"]:
    """Which voxels lie in a hidden block."""
    _check_coords(coords)
    check_shape("mask", mask, "B Z Y X")
    check_bool(mask=mask)
    b, z, y, x = _blocks(coords, block)
    return mask[b, z, y, x]


def _check_coords(coords: Tensor) -> None:
    """Raise ``ValueError`` unless these are voxels ``(b, z, y, x)``."""
    check_shape("coords", coords, "M 4")
    check_integer("coords", coords)


def _blocks(coords: Tensor, block: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Batch and block index of each voxel."""
    cells = coords[:, 1:] // ops.constant(block, coords)
    return coords[:, 0].long(), *cells.long().unbind(1)
