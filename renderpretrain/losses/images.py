"""Losses on rendered images or patches of them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.rays import masked_mean

LUMINANCE_FLOOR = 0.01**2
CONTRAST_FLOOR = 0.03**2
"""The constants C1 and C2 of SSIM for colours in [0, 1]."""


def rgb_ssim(
    rgb: Float[Tensor, "B C H W"],
    target: Float[Tensor, "B C H W"],
    valid: Bool[Tensor, "B H W"],
    *,
    window: int = 11,
    sigma: int | float = 1.5,
) -> Float[Tensor, ""]:
    """One minus the mean structural similarity of rendered images or patches, in [0, 2].

    Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861), section III: local means, variances and the
    covariance under a normalised Gaussian window, without padding. Only windows of valid pixels count.
    Differentiable in rgb; computed in float32.

    Args:
        rgb: Rendered, in [0, 1].
        target: Seen, in [0, 1].
        valid: Which pixels count.
        window: Edge length of the window, odd, pixels; the images are at least that large.
        sigma: Standard deviation of the window, pixels.
    """
    check_shape("rgb", rgb, "B C H W")
    check_alike(rgb=rgb, target=target)
    check_floating(rgb=rgb, target=target)
    check_alike(**{"rgb of a pixel": rgb[:, 0], "valid": valid})
    check_bool(valid=valid)
    if window < 1 or window % 2 == 0 or min(rgb.shape[2:]) < window:
        raise ValueError(
            f"window: expected an odd number of pixels that fits into {tuple(rgb.shape[2:])}, got {window}"
        )
    seen = valid[:, None]
    with torch.autocast(rgb.device.type, enabled=False):
        x, y = (torch.where(seen, image.float(), 0.0) for image in (rgb, target))
        places = torch.arange(window, device=x.device) - window // 2
        kernel = torch.softmax(-0.5 * (places / sigma).square(), 0)
        local = [_blur(image, kernel) for image in (x, y, x * x, y * y, x * y)]
    alike = similarity(*local)
    whole = max_pool2d((~seen).float(), window, stride=1) == 0
    return masked_mean(1 - alike, whole.expand_as(alike))


def _blur(image: Tensor, kernel: Tensor) -> Tensor:
    """The image under a separable window, without padding."""
    flat = image.flatten(0, 1)[:, None]
    rows = conv2d(flat, kernel.view(1, 1, -1, 1))
    return conv2d(rows, kernel.view(1, 1, 1, -1)).unflatten(0, image.shape[:2])[:, :, 0]


def similarity(x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, xy: Tensor) -> Tensor:
    """Structural similarity from the local means of two images, their squares and their product."""
    luminance = (2 * x * y + LUMINANCE_FLOOR) / (x * x + y * y + LUMINANCE_FLOOR)
    spread = xx - x * x + yy - y * y
    return luminance * (2 * (xy - x * y) + CONTRAST_FLOOR) / (spread + CONTRAST_FLOOR)
