"""What a rendered ray is compared with.

Every loss is averaged per sample over its valid entries and then over the batch, so that two half batches
give the gradient of the whole one; with nothing valid it is 0 with gradient 0.
"""

from renderpretrain.losses.rays import depth_l1, distortion, masked_mean, rgb_l1
from renderpretrain.losses.surface import eikonal, free_space, near_surface_sdf

__all__ = ["depth_l1", "distortion", "eikonal", "free_space", "masked_mean", "near_surface_sdf", "rgb_l1"]
