"""Masking policies: which of the candidate tokens the encoder must not see.

A policy is any callable ``(candidates, seeds) -> mask`` on boolean tensors ``(B, ...)``: True in
``candidates`` may be hidden, True in the mask is hidden. ``seeds`` is one number per sample. What a mask
then does to images and voxels is in :func:`hide_patches` and :func:`hidden_voxels`.
"""

from renderpretrain.masking.hide import hidden_voxels, hide_patches, occupied_blocks, patch_candidates
from renderpretrain.masking.random import MaskPolicy, RandomMask, no_mask

__all__ = [
    "MaskPolicy",
    "RandomMask",
    "hidden_voxels",
    "hide_patches",
    "no_mask",
    "occupied_blocks",
    "patch_candidates",
]
