"""Rendering along an axis of a grid: every column of cells is a ray, and its cells are the samples.

There is no sampling and no interpolation; one value comes out per column. Two grids have such columns: a
camera's frustum, whose axis is the depth of its bins (:func:`render_frustum`), and a volume seen from above,
whose axis is the height of its slices (:func:`render_bev`). NS-MAE (https://arxiv.org/abs/2405.17942).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain import ops
from renderpretrain.checks import check_shape
from renderpretrain.fields import FieldSamples, density_alphas
from renderpretrain.geometry import RaySamples, VoxelGrid


@dataclass(frozen=True)
class RenderedMap:
    """One value per column, in the layout of images.

    Attributes:
        depth: Expected distance along the axis given a hit, metres; 0 where the opacity is 0 exactly.
        opacity: Sum of the weights, in [0, 1].
        weights: Share of every cell.
        channels: What was composited, over black, by name.
    """

    depth: Float[Tensor, "B h w"]
    opacity: Float[Tensor, "B h w"]
    weights: Float[Tensor, "B S h w"]
    channels: dict[str, Float[Tensor, "B C h w"]]


def render_axis(
    densities: Float[Tensor, "B S h w"],
    channels: dict[str, Float[Tensor, "B C S h w"]],
    bins: RaySamples,
) -> RenderedMap:
    r"""Composite the cells of every column, first to last.

    .. math:: \alpha_i = 1 - \exp(-\sigma_i \delta_i), \quad w_i = \alpha_i \prod_{j<i} (1 - \alpha_j), \quad
        v = \sum_i w_i v_i, \quad d = \sum_i w_i t_i / \sum_i w_i

    with ``t`` the middles of the bins and ``delta`` their lengths. NS-MAE's ``RenderToRGBD`` and
    ``RenderToD``, in float32 whatever the autocast state. Differentiable once in densities and channels.

    Args:
        densities: 1/m along the axis, not negative.
        channels: Any number of maps by name; the axis is the third one, as in a volume.
        bins: ``(S,)`` intervals along the axis, metres, near to far; a bin that is not valid is empty.

    Differs from the released code in: it takes its samples at ``linspace(near, far, S)`` and gives the last
    one a length of 1e10 m, so that its distances are not those of the lifter's bins, and whatever passes all
    others is stopped there; here the bins are the lifter's own and end where they end. It does not divide
    the depth by the opacity. It takes densities and colours from one tensor whose channels it splits as
    (component, bin) though they are stored as (bin, component), so that a colour mixes bins; here every
    axis has its place, and none is guessed.
    """
    sizes = check_shape("densities", densities, "B S h w")
    check_shape("bins.t_starts", bins.t_starts, "S", S=sizes["S"])
    for name, values in channels.items():
        check_shape(f"channels[{name!r}]", values, "B C S h w", **sizes)
    with torch.autocast(densities.device.type, enabled=False):
        columns = densities.permute(0, 2, 3, 1)
        columns = columns if columns.dtype == torch.float64 else columns.float()
        samples = RaySamples(*(x.expand(columns.shape) for x in (bins.t_starts, bins.t_ends, bins.valid)))
        alphas = torch.where(samples.valid, density_alphas(columns, samples.deltas), 0.0)
        _, depth, opacity, weights = FieldSamples(alphas).composite(samples)
        along = {name: values.permute(0, 3, 4, 2, 1) for name, values in channels.items()}
        maps = {name: ops.accumulate(weights, v).permute(0, 3, 1, 2) for name, v in along.items()}
    return RenderedMap(depth, opacity, weights.permute(0, 3, 1, 2), maps)


def render_frustum(
    densities: Float[Tensor, "B D h w"],
    channels: dict[str, Float[Tensor, "B C D h w"]],
    depth_range: tuple[int | float, int | float],
) -> RenderedMap:
    """Depth and channels of every cell of a feature map, from values on the depth bins of its frustum.

    Args:
        densities: 1/m along the optical axis, not negative. Differentiable.
        channels: Values by name, such as ``"rgb"``. Differentiable.
        depth_range: Nearest and farthest edge of the equal bins, metres: the ones that lifted the frustum, as
            of :class:`~renderpretrain.lifters.LiftSplat`.

    Returns:
        Maps whose ``depth`` is along the optical axis (``z_depth``), for it is the axis that was cut.
    """
    check_shape("densities", densities, "B D h w")
    bins = RaySamples.even(*depth_range, densities.shape[1], device=densities.device)
    return render_axis(densities, channels, bins)


def render_bev(
    densities: Float[Tensor, "B Z Y X"], channels: dict[str, Float[Tensor, "B C Z Y X"]], grid: VoxelGrid
) -> RenderedMap:
    """The view from straight above: what a volume's slices show from the top face down.

    Args:
        densities: 1/m, not negative. Differentiable.
        channels: Values by name, such as a feature volume: the map is then a BEV feature map that hides what
            is covered. Differentiable.
        grid: The volume's grid.

    Returns:
        Maps ``(B, Y, X)`` whose ``depth`` is metres below the top face; ``grid.upper[2] - depth`` is the
        height of the topmost surface. ``weights`` are from the top down.
    """
    z, y, x = grid.shape
    check_shape("densities", densities, "B Z Y X", Z=z, Y=y, X=x)
    thickness = grid.upper[2] - grid.lower[2]
    bins = RaySamples.even(0.0, thickness, z, device=densities.device)
    return render_axis(densities.flip(1), {name: v.flip(2) for name, v in channels.items()}, bins)
