"""How many tokens a policy hides, and which: those with the smallest keys."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_bool, check_shape


def check_share(name: str, share: int | float) -> None:
    """Raise ``ValueError`` unless a share lies in [0, 1]."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a number in [0, 1], got {share}")


def policy_seeds(
    name: str, candidates: Bool[Tensor, "B ..."], seeds: Int[Tensor, " B"] | None
) -> Int[Tensor, " B"]:
    """What the policy of a name draws from: the given seeds, or some from torch's global generator.

    Raises:
        ValueError: If candidates are no truth values ``(B, ...)``, or seeds not one whole number for each.
    """
    check_shape("candidates", candidates, "B T ...")
    check_bool(candidates=candidates)
    if seeds is None:
        seeds = ops.draw_seeds(len(candidates), candidates.device)
    check_shape("seeds", seeds, "...")
    if seeds.shape != (len(candidates),):
        raise ValueError(
            f"seeds: expected one for each of the {len(candidates)} rows of candidates, got "
            f"{tuple(seeds.shape)}; cameras in the rows take ops.per_camera(seeds, num_cameras)"
        )
    return ops.own_seeds(seeds, len(candidates), name)


def per_candidate(
    name: str, values: Float[Tensor, "..."], candidates: Bool[Tensor, "B ..."]
) -> Float[Tensor, "B T"]:
    """Values of all tokens, given once for every sample or per sample, in reading order.

    Raises:
        ValueError: If their shape is neither that of the candidates nor that of one sample.
    """
    shape = tuple(candidates.shape)
    if tuple(values.shape) not in (shape, shape[1:]):
        raise ValueError(f"{name}: expected {shape} or {shape[1:]}, got {tuple(values.shape)}")
    return values.to(candidates.device).expand(shape).flatten(1)


def hide_smallest(
    keys: Float[Tensor, "B ..."], candidates: Bool[Tensor, "B ..."], ratio: int | float
) -> Bool[Tensor, "B ..."]:
    """Hide ``ratio`` of each sample's candidates, rounded to whole tokens: those with the smallest keys.

    Equal keys are taken in reading order.
    """
    flat = candidates.flatten(1)
    rank = _ranks(torch.where(flat, keys.flatten(1), torch.inf))
    count = (flat.sum(1, keepdim=True) * ratio + 0.5).floor()
    return ((rank < count) & flat).view_as(candidates)


def hide_in_groups(
    keys: Float[Tensor, "B ..."],
    candidates: Bool[Tensor, "B ..."],
    groups: Int[Tensor, "B T"],
    ratios: tuple[int | float, ...],
) -> Bool[Tensor, "B ..."]:
    """Hide ``ratios[g]`` of the candidates of every group ``g``: those with the smallest keys in [0, 1).

    What is rounded off in one group is passed on to the next, so that every group and all groups together
    are within one token of what was asked.
    """
    flat = candidates.flatten(1)
    last = len(ratios)
    groups = torch.where(flat, groups, last)
    rank = _ranks(groups + keys.flatten(1).double())
    sizes = torch.zeros(len(flat), last + 1, dtype=torch.float64, device=flat.device)
    sizes.scatter_add_(1, groups, torch.ones_like(groups, dtype=torch.float64))
    asked = (sizes * ops.constant([*ratios, 0.0], sizes)).cumsum(1)
    counts = (asked + 0.5).floor().diff(dim=1, prepend=asked.new_zeros(len(asked), 1))
    starts = sizes.cumsum(1) - sizes
    return ((rank < (starts + counts).gather(1, groups)) & flat).view_as(candidates)


def _ranks(keys: Tensor) -> Tensor:
    """Place of every key among its row's in ascending order."""
    order = keys.argsort(dim=1, stable=True)
    places = torch.arange(keys.shape[1], device=keys.device).expand_as(order)
    return torch.zeros_like(order).scatter_(1, order, places)
