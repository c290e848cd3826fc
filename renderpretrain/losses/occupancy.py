"""Losses on voxels: occupied or free, and which class; and the surface seen from above."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from renderpretrain.checks import check_alike, check_bool, check_floating, check_integer, check_shape
from renderpretrain.losses.rays import masked_mean


def occupancy_bce(
    logits: Float[Tensor, " B *cells"], occupied: Bool[Tensor, " B *cells"], valid: Bool[Tensor, " B *cells"]
) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of voxels being occupied, nats; unknown voxels are not valid.

    Differentiable in logits.
    """
    return masked_mean(-logsigmoid(_towards(logits, occupied, valid)), valid)


def occupancy_focal(
    logits: Float[Tensor, " B *cells"],
    occupied: Bool[Tensor, " B *cells"],
    valid: Bool[Tensor, " B *cells"],
    *,
    gamma: int | float = 2,
    alpha: int | float = 0.25,
) -> Float[Tensor, ""]:
    r"""Binary cross-entropy in which voxels that are already right count little.

    .. math:: -\alpha_t (1 - p_t)^\gamma \log p_t

    Lin et al. 2017 (https://arxiv.org/abs/1708.02002), equation 5, averaged over the valid voxels as UniScene
    does. Differentiable in logits.

    Args:
        logits: Of being occupied.
        occupied: The labels.
        valid: Which voxels were observed.
        gamma: How little; 0 is plain cross-entropy.
        alpha: Weight of occupied voxels, in [0, 1]; free ones have ``1 - alpha``.
    """
    towards = _towards(logits, occupied, valid)
    weight = torch.where(occupied, float(alpha), 1 - float(alpha))
    return masked_mean(-weight * (gamma * logsigmoid(-towards)).exp() * logsigmoid(towards), valid)


def lovasz_softmax(
    probabilities: Float[Tensor, "B K *cells"],
    labels: Int[Tensor, " B *cells"],
    valid: Bool[Tensor, " B *cells"],
) -> Float[Tensor, ""]:
    """A convex surrogate of one minus the mean intersection over union, over the classes of each sample.

    Lovasz-softmax (https://arxiv.org/abs/1705.08790), section 3 and algorithm 1, per sample and over
    the classes present there. For probabilities of 0 and 1 it is exactly one minus the mean IoU.
    Differentiable in probabilities.

    Args:
        probabilities: Of every class, from a softmax.
        labels: In ``[0, K)``; anything where not valid.
        valid: Which cells count.
    """
    check_shape("probabilities", probabilities, "B K X ...")
    check_floating(probabilities=probabilities)
    check_alike(**{"probabilities of a class": probabilities[:, 0], "labels": labels, "valid": valid})
    check_integer("labels", labels)
    check_bool(valid=valid)
    seen = valid.flatten(1)[:, None]
    classes = torch.arange(probabilities.shape[1], device=labels.device)[:, None]
    truth = (labels.flatten(1)[:, None] == classes) & seen
    likely = torch.where(seen, probabilities.flatten(2), 0.0)
    # Cells that do not count come last, where the Jaccard loss has no steps left.
    errors, order = torch.where(seen, (truth.to(likely.dtype) - likely).abs(), -1.0).sort(-1, descending=True)
    right = truth.gather(-1, order).to(likely.dtype)
    size = right.sum(-1, keepdim=True)
    union = size + (1 - right).cumsum(-1)
    jaccard = 1 - (size - right.cumsum(-1)) / union.clamp(min=1)
    steps = jaccard.diff(dim=-1, prepend=torch.zeros_like(size))
    return masked_mean((errors * steps).sum(-1), truth.any(-1))


def top_surface(
    occupied: Bool[Tensor, "B Z Y X"], voxel_height: int | float
) -> tuple[Float[Tensor, "B Y X"], Bool[Tensor, "B Y X"]]:
    """Depth of the highest occupied voxel under the top of a grid, seen from above.

    NS-MAE's bird's-eye target (https://arxiv.org/abs/2405.17942), in metres where the released code counts
    slices, and with the top slice, which that leaves out.

    Args:
        occupied: Voxels; z points up.
        voxel_height: Edge length of a voxel along z, metres.

    Returns:
        Metres from the upper face of the grid down to the voxel's centre, and which columns hold a voxel.
    """
    check_shape("occupied", occupied, "B Z Y X")
    check_bool(occupied=occupied)
    from_top = occupied.flip(1).to(torch.uint8).argmax(1)
    seen = occupied.any(1)
    return torch.where(seen, (from_top + 0.5) * voxel_height, 0.0), seen


def _towards(logits: Tensor, occupied: Tensor, valid: Tensor) -> Tensor:
    """Logits of the right answer; zero where not valid."""
    check_shape("logits", logits, "B X ...")
    check_alike(logits=logits, occupied=occupied, valid=valid)
    check_floating(logits=logits)
    check_bool(occupied=occupied, valid=valid)
    kept = torch.where(valid, logits, 0.0)
    return torch.where(occupied, kept, -kept)
