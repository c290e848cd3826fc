"""Losses on rendered rays: their depth, colour, opacity and weights.

Losses against a measurement take ``inliers``, a weight for every ray
(:func:`~renderpretrain.losses.inlier_weights`): a sample's mean is then a weighted one.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_alike, check_bool, check_floating, check_shape

SMALLEST_WEIGHT = 1e-6
"""Keeps the logarithm of a weight or an opacity finite."""

SMALLEST_MASS = 1e-12
"""A measurement with less of its distribution within a ray's intervals does not count."""


def masked_mean(
    values: Float[Tensor, "B ..."],
    valid: Bool[Tensor, "B ..."],
    weights: Float[Tensor, "B ..."] | None = None,
) -> Float[Tensor, ""]:
    """Mean over the valid entries of each sample, then over the batch; 0 for a sample with none.

    Invalid entries may hold anything, NaN included: neither value nor gradient sees them.

    Args:
        values: What is averaged. Differentiable.
        valid: Which entries count.
        weights: How much they do, not negative, in the shape of the values: a sample's mean is
            ``sum(w x) / sum(w)``, 0 where all weigh nothing. Not differentiable.
    """
    _check_entries(values=values, valid=valid, weights=weights)
    check_bool(valid=valid)
    return _sample_means(values, valid, weights).mean()


def _sample_means(values: Tensor, valid: Tensor, weights: Tensor | None) -> Tensor:
    """One mean per sample; see :func:`masked_mean`."""
    counted, kept = valid, torch.where(valid, values, 0.0)
    if weights is not None:
        counted = torch.where(valid, weights.detach(), 0.0)
        kept = kept * counted
    total = counted.flatten(1).sum(1)
    return kept.flatten(1).sum(1) / torch.where(total > 0, total, 1)


def check_depths(depth: Tensor, target: Tensor, hit: Tensor, inliers: Tensor | None) -> None:
    """Raise ``ValueError`` unless a rendered depth has a measured one, a mark and, if any, a weight."""
    _check_entries(depth=depth, target=target, hit=hit, inliers=inliers)
    check_floating(depth=depth, target=target, inliers=inliers)
    check_bool(hit=hit)


def check_colors(rgb: Tensor, target: Tensor, valid: Tensor, inliers: Tensor | None) -> None:
    """Raise ``ValueError`` unless rendered colours have seen ones in [0, 1], a mark and, if any, a weight."""
    check_shape("rgb", rgb, "... R 3")
    check_alike(rgb=rgb, target=target)
    check_floating(rgb=rgb, target=target, inliers=inliers)
    _check_entries(**{"rgb of a ray": rgb[..., 0], "valid": valid, "inliers": inliers})
    check_bool(valid=valid)


def check_intervals(weights: Tensor, t_starts: Tensor, t_ends: Tensor) -> dict[str, int]:
    """Raise ``ValueError`` unless every weight has its interval; the sizes ``B`` and ``R`` otherwise."""
    sizes = check_shape("weights", weights, "B R S")
    check_alike(weights=weights, t_starts=t_starts, t_ends=t_ends)
    check_floating(weights=weights, t_starts=t_starts, t_ends=t_ends)
    return {"B": sizes["B"], "R": sizes["R"]}


def _check_entries(**tensors: Tensor | None) -> None:
    """Raise ``ValueError`` unless all have one shape, with something behind the batch."""
    name, tensor = next(iter(tensors.items()))
    if isinstance(tensor, Tensor) and tensor.dim() < 2:
        raise ValueError(f"{name}: expected a batch (B, ...) of rays or cells, got {tuple(tensor.shape)}")
    check_alike(**tensors)


def depth_l1(
    depth: Float[Tensor, " B *rays"],
    target: Float[Tensor, " B *rays"],
    hit: Bool[Tensor, " B *rays"],
    *,
    inliers: Float[Tensor, " B *rays"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute error of the depth, metres, over the rays a sensor measured. Differentiable.

    Also of depth maps, such as NS-MAE's bird's-eye depth, whose target is :func:`top_surface`.

    By itself it makes nothing opaque: the rendered depth is divided by the opacity. Surfaces come from
    :func:`free_space` and :func:`near_surface_sdf`, or from colour.
    """
    check_depths(depth, target, hit, inliers)
    return masked_mean((depth - torch.where(hit, target, 0.0)).abs(), hit, inliers)


def depth_l2(
    depth: Float[Tensor, " B *rays"],
    target: Float[Tensor, " B *rays"],
    hit: Bool[Tensor, " B *rays"],
    *,
    inliers: Float[Tensor, " B *rays"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of the depth, square metres, over the rays a sensor measured. Differentiable."""
    check_depths(depth, target, hit, inliers)
    return masked_mean(torch.where(hit, depth - target, 0.0).square(), hit, inliers)


def depth_silog(
    depth: Float[Tensor, " B *rays"],
    target: Float[Tensor, " B *rays"],
    hit: Bool[Tensor, " B *rays"],
    *,
    balance: int | float = 0.5,
    closest: int | float = 0.01,
    inliers: Float[Tensor, " B *rays"] | None = None,
) -> Float[Tensor, ""]:
    r"""Error of the logarithm of the depth, of which a common factor counts less.

    .. math:: \frac1n \sum_i d_i^2 - \frac{\lambda}{n^2} \Big(\sum_i d_i\Big)^2, \quad
        d_i = \log \text{depth}_i - \log \text{target}_i

    Eigen et al. 2014 (https://arxiv.org/abs/1406.2283), equation 4; the sums run over the measured rays of
    one sample. Differentiable in depth.

    Args:
        depth: Rendered, metres.
        target: Measured, metres.
        hit: Which rays were measured.
        balance: The paper's lambda: 0 counts a common factor in full, 1 ignores it.
        closest: Metres that smaller depths count as; they have no gradient.
        inliers: Weights of the rays, in both sums and in n.
    """
    check_depths(depth, target, hit, inliers)
    rendered, truth = (torch.where(hit, x, 1.0).clamp(min=closest).log() for x in (depth, target))
    d = rendered - truth
    squares, means = (_sample_means(x, hit, inliers) for x in (d.square(), d))
    return (squares - balance * means.square()).mean()


def depth_kl(  # noqa: PLR0913  intervals and measurement
    weights: Float[Tensor, "B R S"],
    t_starts: Float[Tensor, "B R S"],
    t_ends: Float[Tensor, "B R S"],
    depth: Float[Tensor, "B R"],
    hit: Bool[Tensor, "B R"],
    *,
    sigma: int | float,
    inliers: Float[Tensor, "B R"] | None = None,
) -> Float[Tensor, ""]:
    r"""How far a ray's weights are from a normal distribution around the measured depth.

    .. math:: \sum_i q_i (\log q_i - \log (w_i + 10^{-6})), \quad
        q_i \propto \Phi((t_{i+1} - D) / \sigma) - \Phi((t_i - D) / \sigma)

    Unlike an error of the expected depth it has no reward for weights on both sides of the surface. The loss
    on ray terminations of DS-NeRF (https://arxiv.org/abs/2107.02791), with the mass of each interval instead
    of the density at its start. The weights may also be a pixel's distribution over depth bins.
    Differentiable in weights alone.

    Args:
        weights: Of the samples, or probabilities of the bins.
        t_starts: Where each interval begins, metres.
        t_ends: Where it ends.
        depth: Measured distance, in the unit of t; outside all intervals it does not count.
        hit: Which rays were measured.
        sigma: Standard deviation of the measurement, metres.
        inliers: Weights of the rays.
    """
    if sigma <= 0:
        raise ValueError(f"sigma: expected a positive number of metres, got {sigma}")
    sizes = check_intervals(weights, t_starts, t_ends)
    check_shape("depth", depth, "B R", **sizes)
    check_depths(depth, depth, hit, inliers)
    kept, starts, ends = (torch.where(hit[..., None], x, 0.0) for x in (weights, t_starts, t_ends))
    with torch.no_grad():
        middle = torch.where(hit, depth, 0.0)[..., None]
        below, above = (torch.special.ndtr((t - middle).double() / sigma) for t in (starts, ends))
        total = (above - below).sum(-1, keepdim=True)
        within = hit & (total[..., 0] > SMALLEST_MASS)
        q = torch.where(within[..., None], (above - below) / total.clamp(min=SMALLEST_MASS), 0.0)
        q = q.to(kept.dtype)
    return masked_mean((torch.xlogy(q, q) - q * (kept + SMALLEST_WEIGHT).log()).sum(-1), within, inliers)


def rgb_l1(
    rgb: Float[Tensor, "B *rays 3"],
    target: Float[Tensor, "B *rays 3"],
    valid: Bool[Tensor, " B *rays"],
    *,
    inliers: Float[Tensor, " B *rays"] | None = None,
) -> Float[Tensor, ""]:
    """Mean absolute error of the rendered colour over rays and channels. Differentiable in rgb."""
    check_colors(rgb, target, valid, inliers)
    return masked_mean((rgb - target).abs(), valid[..., None].expand_as(rgb), _per_channel(inliers, rgb))


def rgb_mse(
    rgb: Float[Tensor, "B *rays 3"],
    target: Float[Tensor, "B *rays 3"],
    valid: Bool[Tensor, " B *rays"],
    *,
    inliers: Float[Tensor, " B *rays"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of the rendered colour over rays and channels. Differentiable in rgb."""
    check_colors(rgb, target, valid, inliers)
    seen = valid[..., None].expand_as(rgb)
    return masked_mean(torch.where(seen, rgb - target, 0.0).square(), seen, _per_channel(inliers, rgb))


def _per_channel(inliers: Tensor | None, rgb: Tensor) -> Tensor | None:
    """A ray's weight for each of its channels."""
    return None if inliers is None else inliers[..., None].expand_as(rgb)


def opacity_entropy(opacity: Float[Tensor, "B R"], valid: Bool[Tensor, "B R"]) -> Float[Tensor, ""]:
    """Mean binary entropy of the rays' opacity, nats: a ray hits something or nothing, not half a wall.

    ``-o log o - (1 - o) log(1 - o)``; within 1e-6 of 0 or 1 there is no gradient. It does what the Beta prior
    of Neural Volumes does (https://arxiv.org/abs/1906.07751), bounded. Differentiable in opacity.
    """
    _check_entries(opacity=opacity, valid=valid)
    check_floating(opacity=opacity)
    check_bool(valid=valid)
    o = torch.where(valid, opacity, 0.5).clamp(SMALLEST_WEIGHT, 1 - SMALLEST_WEIGHT)
    return masked_mean(-torch.xlogy(o, o) - torch.xlogy(1 - o, 1 - o), valid)


def distortion(
    weights: Float[Tensor, "B R S"],
    t_starts: Float[Tensor, "B R S"],
    t_ends: Float[Tensor, "B R S"],
    valid: Bool[Tensor, "B R"],
) -> Float[Tensor, ""]:
    """Mean over rays of how far their weights are spread, in the unit of t: against floaters and fog.

    See :func:`renderpretrain.ops.distortion_loss`; intervals are near to far. Differentiable in all but
    valid; a ray that is not valid may hold anything, NaN included.
    """
    check_shape("valid", valid, "B R", **check_intervals(weights, t_starts, t_ends))
    check_bool(valid=valid)
    kept = (torch.where(valid[..., None], x, 0.0) for x in (weights, t_starts, t_ends))
    return masked_mean(ops.distortion_loss(*kept), valid)
