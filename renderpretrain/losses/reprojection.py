"""Whether pictures agree about a depth: patches of one camera beside what others show of their places."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape
from renderpretrain.losses.images import similarity
from renderpretrain.losses.rays import masked_mean

STRUCTURE = 0.85
"""Share of the structural similarity in a photometric error; the rest is the absolute difference."""

UNKNOWN = 1e6
"""Error of what nobody sees: more than any that is seen, and finite."""


def photometric_errors(
    seen: Float[Tensor, "M 3 h w"], target: Float[Tensor, "M 3 h w"]
) -> Float[Tensor, "M h w"]:
    r"""How little two patches look alike, pixel by pixel, in [0, 1].

    .. math:: 0.85 \cdot \frac{1 - \text{SSIM}(I, J)}{2} + 0.15 \, |I - J|

    Monodepth2 (https://arxiv.org/abs/1806.01260), equation 3, with SSIM over squares of 3 pixels, mirrored at
    the border, and both terms averaged over colors. Differentiable in both.

    Args:
        seen: Colors in [0, 1].
        target: The same.
    """
    check_shape("seen", seen, "M 3 h w")
    check_alike(seen=seen, target=target)
    check_floating(seen=seen, target=target)
    with torch.autocast(seen.device.type, enabled=False):
        x, y = seen.float(), target.float()
        u, v = (pad(image, (1, 1, 1, 1), mode="reflect") for image in (x, y))
        local = [avg_pool2d(image, 3, stride=1) for image in (u, v, u * u, v * v, u * v)]
        unlike = ((1 - similarity(*local)) / 2).clamp(0, 1)
        return (STRUCTURE * unlike + (1 - STRUCTURE) * (x - y).abs()).mean(1)


def reprojection(
    warped: Float[Tensor, "B K P 3 h w"],
    valid: Bool[Tensor, "B K P h w"],
    target: Float[Tensor, "B P 3 h w"],
    target_valid: Bool[Tensor, "B P h w"],
    *,
    still: Float[Tensor, "B P h w"] | None = None,
) -> Float[Tensor, ""]:
    """Mean of the smallest photometric error that a place has in any of ``K`` pictures.

    The minimum over neighbors and the mask of what stands still of Monodepth2
    (https://arxiv.org/abs/1806.01260), section 3.2: a place that one neighbor does not see, or sees something
    before, is judged by another; a pixel that looks more like the same pixel of the neighbor than like its
    reprojection is left out, for it moves along or has no texture. Differentiable in warped.

    Args:
        warped: What the neighbors show where the patches' places are in them.
        valid: Where they show anything.
        target: The patches.
        target_valid: Pixels of theirs that count.
        still: Errors of the unwarped neighbors, the smallest of each pixel; without them nothing is left out.
    """
    sizes = check_shape("warped", warped, "B K P 3 h w")
    check_alike(**{"warped of a neighbor": warped[:, 0], "target": target})
    check_alike(**{"warped of a color": warped[..., 0, :, :], "valid": valid})
    check_alike(**{"a color of target": target[:, :, 0], "target_valid": target_valid, "still": still})
    check_floating(warped=warped, target=target, still=still)
    check_bool(valid=valid, target_valid=target_valid)
    wanted = torch.where(target_valid[:, :, None], target, 0.0)
    both = (valid & target_valid[:, None])[..., None, :, :]
    # Where one of the two is not seen they are alike, and the squares around do not count.
    kept = torch.where(both, warped, wanted[:, None])
    errors = photometric_errors(kept.flatten(0, 2), wanted[:, None].expand_as(kept).flatten(0, 2))
    hidden = max_pool2d((~both[..., 0, :, :]).flatten(0, 2).float(), 3, stride=1, padding=1) > 0
    shape = (sizes["B"], sizes["K"], *target_valid.shape[1:])
    least = torch.where(hidden, UNKNOWN, errors).view(shape).amin(1)
    counted = (least < UNKNOWN) & target_valid
    if still is not None:
        counted = counted & (least.detach() < torch.where(target_valid, still, UNKNOWN))
    return masked_mean(least, counted)
