"""Adding values into a volume at points: the adjoint of reading it."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.checks import check_frame, check_mask, check_shape, check_volume
from renderpretrain.ops import _trilinear
from renderpretrain.ops._library import Shape, Triple, common_float, register, register_gradient
from renderpretrain.ops._native import has_native


def splat(
    values: Float[Tensor, "B P C"],
    points: Float[Tensor, "B P 3"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    *,
    valid: Bool[Tensor, "B P"] | None = None,
) -> Float[Tensor, "B C Z Y X"]:
    """Share values among the eight voxels around their points, and sum.

    The weights are those of :func:`~renderpretrain.ops.grid_sample`, whose adjoint this is. What falls
    outside is dropped, and so is a point with a NaN or infinite coordinate. To give a value to the one voxel
    its point lies in, see :func:`~renderpretrain.ops.voxel_scatter`.

    Args:
        values: What to add. Differentiable.
        points: World coordinates (x, y, z), metres. Differentiable.
        shape: ``(Z, Y, X)`` of the volume.
        scale: Voxels per metre, (x, y, z).
        offset: Index of the world's origin, (x, y, z).
        valid: False drops a point.

    Returns:
        The volume, float32 or float64, in ``torch.channels_last_3d`` memory; twice differentiable. On the CPU
        the sum of a voxel runs in the order of the points; on CUDA its order is fixed under
        ``torch.use_deterministic_algorithms`` only.
    """
    check_volume(shape)
    check_frame(scale, offset)
    values, points = _prepare(values, points, valid)
    if not has_native(values.device.type):
        return _trilinear.scatter_reference(values, points, shape, scale, offset)
    return torch.ops.renderpretrain.splat(values, points, shape, scale, offset)


def splat_reference(
    values: Float[Tensor, "B P C"],
    points: Float[Tensor, "B P 3"],
    shape: tuple[int, int, int],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
    *,
    valid: Bool[Tensor, "B P"] | None = None,
) -> Float[Tensor, "B C Z Y X"]:
    """:func:`splat` in plain PyTorch, by eight additions: what the kernels are tested against."""
    check_volume(shape)
    check_frame(scale, offset)
    values, points = _prepare(values, points, valid)
    return _trilinear.scatter_reference(values, points, shape, scale, offset)


def _prepare(values: Tensor, points: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Values and points in one type; points to drop are moved nowhere (NaN)."""
    sizes = check_shape("values", values, "B P C")
    check_shape("points", points, "B P 3", B=sizes["B"], P=sizes["P"])
    values, points = common_float(values=values, points=points)
    if valid is not None:
        check_mask("valid", valid, points.shape[:2], points.device)
        points = torch.where(valid[..., None], points, torch.nan)
    return values, points


def _check(values: Tensor, points: Tensor, shape: Shape, scale: Triple, offset: Triple) -> None:
    check_volume(shape)
    check_frame(scale, offset)


def _splat(values: Tensor, points: Tensor, shape: Shape, scale: Triple, offset: Triple) -> Tensor:
    wanted = _trilinear.Wanted(volume=True)
    return _trilinear.adjoint(values, None, points, shape, scale, offset, wanted)[1]


def _fake(values: Tensor, points: Tensor, shape: Shape, scale: Triple, offset: Triple) -> Tensor:
    return _trilinear.new_volume(values, shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, points, _, ctx.scale, ctx.offset = inputs
    ctx.save_for_backward(values, points)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    values, points = ctx.saved_tensors
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    grad_values = grad_points = None
    if ctx.needs_input_grad[0]:
        grad_values = torch.ops.renderpretrain.grid_sample(grad, points, ctx.scale, ctx.offset)
    if ctx.needs_input_grad[1]:
        once = torch.ops.renderpretrain.grid_sample_backward
        _, grad_points = once(values, grad, points, ctx.scale, ctx.offset, [False, True])
    return grad_values, grad_points, None, None, None


register(
    "splat(Tensor values, Tensor points, SymInt[3] shape, float[3] scale, float[3] offset) -> Tensor",
    _splat,
    _fake,
    {"values": "float B P C", "points": "float B P 3"},
    _check,
)
register_gradient("splat", _gradient, _save)
