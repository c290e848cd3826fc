"""Masking policies: which of the candidate tokens the encoder must not see.

A policy is any callable ``(candidates, seeds) -> mask`` on boolean tensors ``(B, ...)``: True in
``candidates`` may be hidden, True in the mask is hidden. ``seeds`` is one number per sample. Tokens are
whatever the axes count: patches, pixels, voxels, blocks of them, points, frames. What a policy knows about
them beyond that (distances, azimuths, returns) it is given when it is made.

Policies of different classes draw independently from equal seeds. Two of one class on the same candidates
would draw the same mask. Joined before they draw, ``(RandomMask(0.3) | RandomMask(0.3))(candidates, seeds)``
or ``&``, or in :class:`Compose`, each has its own seeds; one that is called by itself takes
``ops.fold_in(seeds, 1)``, for it cannot know of the other. Images of several cameras in one row,
``(B * N, h, w)``, take ``ops.per_camera(seeds, N)``.

What a mask then does to its tokens: :func:`hide_patches`, :func:`hide_depth`, :func:`hidden_voxels`,
:func:`hide_features`; hidden points are no longer valid, ``point_valid & ~mask``.
"""

from renderpretrain.masking.combine import Compose, FrameMask, SharedMask, Sometimes
from renderpretrain.masking.hide import (
    hidden_voxels,
    hide_depth,
    hide_features,
    hide_patches,
    occupied_blocks,
    patch_candidates,
    returns_per_patch,
    voxel_candidates,
)
from renderpretrain.masking.joined import Both, Either, MaskPolicy
from renderpretrain.masking.random import RandomMask, WeightedMask, lidar_guided, no_mask
from renderpretrain.masking.ranges import RangeMask
from renderpretrain.masking.regions import BlockMask, ConeMask, GridMask, SectorMask

__all__ = [
    "BlockMask",
    "Both",
    "Compose",
    "ConeMask",
    "Either",
    "FrameMask",
    "GridMask",
    "MaskPolicy",
    "RandomMask",
    "RangeMask",
    "SectorMask",
    "SharedMask",
    "Sometimes",
    "WeightedMask",
    "hidden_voxels",
    "hide_depth",
    "hide_features",
    "hide_patches",
    "lidar_guided",
    "no_mask",
    "occupied_blocks",
    "patch_candidates",
    "returns_per_patch",
    "voxel_candidates",
]
