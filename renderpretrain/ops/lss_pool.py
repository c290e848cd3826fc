"""Lift-splat pooling: pixels spread over their rays by depth, and summed in the cells these cross."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops._library import HALF, common_float, register, register_gradient
from renderpretrain.ops._native import TYPE_CODES, Frustum, has_native, launch, new_memory

INDEX_LIMIT = 2**31
"""Points and cells are counted in int32."""


@dataclass(frozen=True)
class LssPlan:
    """Which points of the camera frustums lie in which cell, in both orders; made by :func:`lss_plan`.

    Attributes:
        cells: The cell of every point, -1 where it is dropped.
        order: The cells as they are computed: one after another where they share pixels.
        starts: Where their points begin in ``pixels`` and ``bins``, and last where those of the last cell end.
        pixels: The pixel of every point, counted over all images, cell after cell; the dropped ones are last.
        bins: The depth bin of the same points.
    """

    cells: Int32[Tensor, "N H W D"]
    order: Int32[Tensor, " cells"]
    starts: Int32[Tensor, " cells_and_one"]
    pixels: Int32[Tensor, " P"]
    bins: Int32[Tensor, " P"]

    @property
    def num_cells(self) -> int:
        """Rows of the pooled result."""
        return len(self.order)

    def to(self, device: torch.device | str) -> "LssPlan":
        """The same plan on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def frustum_cells(
    points: Float[Tensor, "B N D H W 3"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Int[Tensor, "B N D H W"]:
    """The cell every point of the frustums lies in, for :func:`lss_plan` after ``flatten(0, 1)``.

    A point's index is ``floor(point * scale + offset + 0.5)`` per axis: rounded down, so that nothing below
    the grid falls into its first cell. Cells count ``(b, z, y, x)``, x fastest: every batch element has
    ``Z * Y * X`` of its own, ``B * Z * Y * X`` in all.

    Args:
        points: World coordinates (x, y, z), metres.
        shape: ``(Z, Y, X)`` of the grid.
        scale: Cells per metre, (x, y, z).
        offset: Index of the world's origin, an integer at a cell's centre, (x, y, z).

    Returns:
        Cells; -1 outside the grid and where a coordinate is NaN or infinite.
    """
    check_shape("points", points, "B N D H W 3")
    cells = torch.arange(len(points), device=points.device)[:, None, None, None, None]
    inside = torch.ones_like(cells, dtype=torch.bool)
    for axis, size in zip((2, 1, 0), shape, strict=True):
        index = torch.floor(points[..., axis] * scale[axis] + (offset[axis] + 0.5))
        inside = inside & (index >= 0) & (index < size)
        cells = cells * size + torch.where(inside, index, 0.0).long()
    return torch.where(inside, cells, -1)


def lss_plan(cells: Int[Tensor, "N D H W"], num_cells: int) -> LssPlan:
    """Sort the points of camera frustums by cell.

    The plan depends on nothing but the cells, so it may be used again for as long as cameras (intrinsics,
    poses, the resizing and cropping of their images), depth bins, grid and batch size stay: for the life of a
    rig whose images and scenes are not augmented, else for one step.

    Args:
        cells: The cell of every point in [0, num_cells), or -1 to drop it; see :func:`frustum_cells`. Images
            of several batch elements follow each other, their cells too.
        num_cells: Cells in all.

    Raises:
        ValueError: If a cell is out of range (on CUDA this waits for the device), or there are 2^31 points or
            cells.
    """
    check_shape("cells", cells, "N D H W")
    if cells.is_floating_point() or not 0 <= num_cells < INDEX_LIMIT or not cells.numel() < INDEX_LIMIT:
        raise ValueError(
            "cells: expected an integer type and fewer than 2^31 points and cells, "
            f"got {cells.dtype}, {cells.numel()} points, num_cells={num_cells}"
        )
    lowest, highest = torch.stack(cells.aminmax()).tolist() if cells.numel() else (-1, -1)
    if lowest < -1 or highest >= num_cells:
        raise ValueError(f"cells: expected -1 <= cells < {num_cells}, got {lowest} to {highest}")
    # Points image column by image column: what is above each other often shares cells. Cells in the order they
    # are met, so that their pixels stay in cache; the dropped points are one more cell, the last.
    cells = cells.permute(0, 2, 3, 1).int().contiguous()
    columns = torch.where(cells < 0, num_cells, cells).permute(0, 2, 3, 1).flatten().long()
    count = torch.arange(max(cells.numel(), num_cells + 1), device=cells.device)
    first = torch.full((num_cells + 1,), cells.numel(), device=cells.device)
    first.scatter_reduce_(0, columns, count[: cells.numel()], "amin")
    order = first[:-1].argsort(stable=True)
    turns = torch.full_like(first, num_cells).scatter_(0, order, count[:num_cells]).int()
    sorted_turns, sorting = turns.index_select(0, columns).sort(stable=True)
    points = count[: cells.numel()].int().view(cells.shape).permute(0, 2, 3, 1).flatten()
    points = points.index_select(0, sorting)
    pixels = torch.div(points, max(cells.shape[3], 1), rounding_mode="floor")
    return LssPlan(
        cells=cells,
        order=order.int(),
        starts=torch.searchsorted(sorted_turns, count[: num_cells + 1].int(), out_int32=True),
        pixels=pixels,
        bins=points - pixels * cells.shape[3],
    )


def lss_pool(
    depth_probabilities: Float[Tensor, "N D H W"], features: Float[Tensor, "N C H W"], plan: LssPlan
) -> Float[Tensor, "cells C"]:
    r"""Features of pixels, weighted by the probability of each depth, summed in the cell the point lies in.

    .. math:: F_c = \sum_{(n, d, h, w) \in c} p_{n d h w}\, f_{n h w}

    The product of depth and features is never stored. The order of every sum is fixed on all devices, without
    atomics.

    Args:
        depth_probabilities: Distribution over the ``D`` depth bins of every pixel. Differentiable; zero
            gradient where the point is dropped.
        features: Feature maps of the same images; fastest in ``torch.channels_last`` memory. Float16 and
            bfloat16 are read as they are. Differentiable.
        plan: From :func:`lss_plan`, on the same device.

    Returns:
        Sums in float32 or float64, zero in cells without points. They can be differentiated once; twice only
        in :func:`lss_pool_reference`.

    Lift, Splat, Shoot (https://arxiv.org/abs/2008.05711), section 3, as one sum like BEVPoolv2
    (https://arxiv.org/abs/2211.17111).
    """
    depth_probabilities, features = _prepare(depth_probabilities, features, plan)
    if not has_native(features.device.type):
        return lss_pool_reference(depth_probabilities, features, plan)
    pool = torch.ops.renderpretrain.lss_pool
    return pool(depth_probabilities, features, plan.cells, plan.order, plan.starts, plan.pixels, plan.bins)


def lss_pool_reference(
    depth_probabilities: Float[Tensor, "N D H W"], features: Float[Tensor, "N C H W"], plan: LssPlan
) -> Float[Tensor, "cells C"]:
    """:func:`lss_pool` in plain PyTorch, with the product in full: what the kernels are tested against."""
    depth, features = common_float(depth_probabilities=depth_probabilities, features=features)
    lifted = depth.permute(0, 2, 3, 1)[..., None] * features.permute(0, 2, 3, 1)[..., None, :]
    kept = plan.cells.flatten() >= 0
    total = features.new_zeros(plan.num_cells, features.shape[1])
    return total.index_add(0, plan.cells.flatten()[kept], lifted.flatten(0, 3)[kept])


def _prepare(depth: Tensor, features: Tensor, plan: LssPlan) -> tuple[Tensor, Tensor]:
    """Depth in float32 or float64, and features in the same type unless they are in half precision."""
    images, height, width, bins = plan.cells.shape
    check_shape("depth_probabilities", depth, "N D H W", N=images, D=bins, H=height, W=width)
    check_shape("features", features, "N C H W", N=images, H=height, W=width)
    if plan.cells.device != features.device:
        raise ValueError(f"plan: expected one on {features.device} like features, got {plan.cells.device}")
    depth, none = common_float(depth_probabilities=depth, features=features[:0])
    stays = features.dtype in HALF and none.dtype == torch.float32
    return depth, features if stays else features.to(none.dtype)


def _dense(depth: Tensor) -> Tensor:
    """Depth in one of the two orders the kernels read: bins before rows, or last."""
    last = depth.is_contiguous(memory_format=torch.channels_last)
    return depth if last else depth.contiguous()


def _frustum(depth: Tensor, features: Tensor, num_cells: int) -> Frustum:
    images, bins, height, width = depth.shape
    return Frustum(images, bins, height, width, features.shape[1], num_cells, not depth.is_contiguous())


def _lss_pool(
    depth: Tensor,
    features: Tensor,
    cells: Tensor,
    order: Tensor,
    starts: Tensor,
    pixels: Tensor,
    bins: Tensor,
) -> Tensor:
    depth, features = _dense(depth), features.contiguous(memory_format=torch.channels_last)
    out = new_memory(depth, len(order), features.shape[1])
    frustum = _frustum(depth, features, len(order))
    launch("lss_pool", depth, TYPE_CODES[features.dtype], features, order, starts, pixels, bins, frustum, out)
    return out


def _lss_pool_backward(
    grad: Tensor, depth: Tensor, features: Tensor, cells: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by depth and features; one that is not needed is an empty tensor."""
    depth, features = _dense(depth), features.contiguous(memory_format=torch.channels_last)
    grad_depth, grad_features = _new_gradients(depth, features, needed, new_memory)
    if features.shape[1] == 0:
        return grad_depth.zero_(), grad_features
    launch(
        "lss_pool_backward",
        grad.contiguous(),
        depth,
        TYPE_CODES[features.dtype],
        features,
        cells,
        _frustum(depth, features, len(grad)),
        grad_depth if needed[0] else None,
        grad_features if needed[1] else None,
    )
    return grad_depth, grad_features


def _new_gradients(
    depth: Tensor, features: Tensor, needed: list[bool], new: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Memory for the gradients: of depth in its own order, of features with channels last."""
    grad_depth, grad_features = new(depth, 0), new(depth, 0)
    images, bins, height, width = depth.shape
    if needed[0] and depth.is_contiguous():
        grad_depth = new(depth, images, bins, height, width)
    elif needed[0]:
        grad_depth = new(depth, images, height, width, bins).permute(0, 3, 1, 2)
    if needed[1]:
        grad_features = new(depth, images, height, width, features.shape[1]).permute(0, 3, 1, 2)
    return grad_depth, grad_features


def _fake(
    depth: Tensor,
    features: Tensor,
    cells: Tensor,
    order: Tensor,
    starts: Tensor,
    pixels: Tensor,
    bins: Tensor,
) -> Tensor:
    return depth.new_empty(order.shape[0], features.shape[1])


def _fake_backward(
    grad: Tensor, depth: Tensor, features: Tensor, cells: Tensor, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    return _new_gradients(_dense(depth), features, needed, lambda like, *shape: like.new_empty(shape))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    depth, features, cells = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    backward = torch.ops.renderpretrain.lss_pool_backward
    grad_depth, grad_features = backward(grad, depth, features, cells, needed)
    return (
        grad_depth if needed[0] else None,
        grad_features.to(features.dtype) if needed[1] else None,
        *(None,) * 5,
    )


def _second_gradient(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError("lss_pool: differentiable once; for second derivatives use lss_pool_reference")


register(
    "lss_pool(Tensor depth_probabilities, Tensor features, Tensor cells, Tensor order, Tensor starts,"
    " Tensor pixels, Tensor bins) -> Tensor",
    _lss_pool,
    _fake,
    stored=(1,),
)
register(
    "lss_pool_backward(Tensor grad, Tensor depth_probabilities, Tensor features, Tensor cells,"
    " bool[2] needed) -> (Tensor, Tensor)",
    _lss_pool_backward,
    _fake_backward,
    stored=(2,),
)
register_gradient("lss_pool", _gradient, _save)
register_gradient("lss_pool_backward", _second_gradient)
