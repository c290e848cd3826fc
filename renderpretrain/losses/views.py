"""Whole views of cameras, rendered, beside what the sensors saw."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.losses.rays import depth_l1, rgb_mse


@dataclass(frozen=True)
class CameraViews:
    """Every camera's view at the size of its feature map.

    Attributes:
        depth: Rendered, metres along the optical axis.
        rgb: Rendered colour.
        target_depth: Of a cell's nearest return, or 0.
        target_rgb: A cell's mean colour.
        measured: Where there was a return that can be rendered.
        visible: Where there is a camera.
    """

    depth: Float[Tensor, "B N h w"]
    rgb: Float[Tensor, "B N 3 h w"]
    target_depth: Float[Tensor, "B N h w"]
    target_rgb: Float[Tensor, "B N 3 h w"]
    measured: Bool[Tensor, "B N h w"]
    visible: Bool[Tensor, "B N h w"]

    def rgb_loss(self) -> Float[Tensor, ""]:
        """Squared error of all pixels, hidden or not."""
        return rgb_mse(self.rgb.movedim(2, -1), self.target_rgb.movedim(2, -1), self.visible)

    def depth_loss(self) -> Float[Tensor, ""]:
        """Absolute error where there was a return."""
        return depth_l1(self.depth, self.target_depth, self.measured)

    def error_sums(self) -> Float[Tensor, "2 2"]:
        """Relative error of depth and squared error of colour: sums, and of how many."""
        # Where nothing is measured the target is 0, and the quotient is left out.
        relative = self.depth / self.target_depth
        squared = (self.rgb - self.target_rgb).square()
        visible = self.visible[:, :, None].expand_as(squared)
        return torch.stack(
            [
                error_sums(relative, torch.ones_like(relative), self.measured),
                error_sums(squared, torch.zeros_like(squared), visible),
            ]
        )


def error_sums(
    value: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]
) -> Float[Tensor, "2"]:
    """Sum of absolute errors where valid, and how many there are, in float64."""
    error = torch.where(valid, value.double() - target.double(), 0.0).abs()
    return torch.stack([error.sum(), valid.sum().double()])
