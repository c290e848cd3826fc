"""Reading a volume at points."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_shape
from renderpretrain.ops import _trilinear
from renderpretrain.ops._library import Shape, Triple, common_float, register, register_gradient
from renderpretrain.ops._native import has_native


def grid_sample(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Float[Tensor, "B P C"]:
    """Trilinear values of a volume at points.

    The continuous index of a point is ``point * scale + offset`` in the order (x, y, z), an integer at a
    voxel's centre; :class:`~renderpretrain.geometry.VoxelGrid` gives both. Outside the volume there are
    zeros: within one voxel of its outermost centres the value falls linearly to zero. A point with a NaN or
    infinite coordinate reads zero and has no gradient.

    Args:
        volume: Features; fastest where it already is in ``torch.channels_last_3d`` memory. Differentiable.
        points: World coordinates (x, y, z), metres. Differentiable; on a voxel's centre the derivative is the
            one towards the larger coordinate.
        scale: Voxels per metre.
        offset: Index of the world's origin.

    Returns:
        Values in float32 or float64. They can be differentiated twice (normals of a distance field that are
        trained); a third time only in :func:`grid_sample_reference`.
    """
    sizes = check_shape("volume", volume, "B C Z Y X")
    check_shape("points", points, "B P 3", B=sizes["B"])
    volume, points = common_float(volume=volume, points=points)
    if not has_native(volume.device.type):
        return _trilinear.gather_reference(volume, points, scale, offset)
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    return torch.ops.renderpretrain.grid_sample(volume, points, scale, offset)


def grid_sample_reference(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Float[Tensor, "B P C"]:
    """:func:`grid_sample` in plain PyTorch, by eight gathers: what the kernels are tested against."""
    return _trilinear.gather_reference(volume, points, scale, offset)


def _grid_sample_backward(
    grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by volume and points; one that is not needed is an empty tensor."""
    grad_volume, grad_points = grad.new_empty(0), grad.new_empty(0)
    if needed[0]:
        grad_volume = _trilinear.scatter(grad, points, _grid(volume), scale, offset)
    if needed[1]:
        grad_points = _trilinear.slope(grad, volume, points, scale, offset)
    return grad_volume, grad_points


def _grid_sample_backward_backward(
    directions: Tensor, grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``<directions, grad_points>`` by grad, volume and points."""
    return (
        _trilinear.gather(volume, points, scale, offset, directions),
        _trilinear.scatter(grad, points, _grid(volume), scale, offset, directions),
        _trilinear.slope(grad, volume, points, scale, offset, directions),
    )


def _grid(volume: Tensor) -> Shape:
    return volume.shape[2:]


def _fake_sample(volume: Tensor, points: Tensor, scale: Triple, offset: Triple) -> Tensor:
    return points.new_empty(*points.shape[:2], volume.shape[1])


def _fake_backward(
    grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    grad_volume, grad_points = grad.new_empty(0), grad.new_empty(0)
    if needed[0]:
        grad_volume = _trilinear.new_volume(grad, _grid(volume))
    if needed[1]:
        grad_points = torch.empty_like(points, memory_format=torch.contiguous_format)
    return grad_volume, grad_points


def _fake_backward_backward(
    directions: Tensor, grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple
) -> tuple[Tensor, Tensor, Tensor]:
    grad_points = torch.empty_like(points, memory_format=torch.contiguous_format)
    return (
        _fake_sample(volume, points, scale, offset),
        _trilinear.new_volume(grad, _grid(volume)),
        grad_points,
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    volume, points, ctx.scale, ctx.offset = inputs
    ctx.save_for_backward(volume, points)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    volume, points = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    backward = torch.ops.renderpretrain.grid_sample_backward
    grads = backward(grad, volume, points, ctx.scale, ctx.offset, needed)
    grad_volume, grad_points = (g if need else None for g, need in zip(grads, needed, strict=True))
    return grad_volume, grad_points, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, volume, points, ctx.scale, ctx.offset, ctx.needed = inputs
    ctx.save_for_backward(grad, volume, points)
    ctx.set_materialize_grads(False)


def _second_gradient(
    ctx: Any, along_volume: Tensor | None, along_points: Tensor | None
) -> tuple[Tensor | None, ...]:
    """From the cotangents of ``grad_volume`` and ``grad_points`` (``None`` where nobody used one of them)."""
    grad, volume, points = ctx.saved_tensors
    grad_grad = grad_volume = grad_points = None
    if along_points is not None and ctx.needed[1]:
        twice = torch.ops.renderpretrain.grid_sample_backward_backward
        grad_grad, grad_volume, grad_points = twice(along_points, grad, volume, points, ctx.scale, ctx.offset)
    if along_volume is not None and ctx.needed[0]:
        along_volume = along_volume.contiguous(memory_format=torch.channels_last_3d)
        read = torch.ops.renderpretrain.grid_sample(along_volume, points, ctx.scale, ctx.offset)
        once = torch.ops.renderpretrain.grid_sample_backward
        _, slopes = once(grad, along_volume, points, ctx.scale, ctx.offset, [False, True])
        grad_grad = read if grad_grad is None else grad_grad + read
        grad_points = slopes if grad_points is None else grad_points + slopes
    return grad_grad, grad_volume, grad_points, None, None, None


def _third_gradient(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "grid_sample: differentiable twice; for third derivatives use grid_sample_reference"
    )


register(
    "grid_sample(Tensor volume, Tensor points, float[3] scale, float[3] offset) -> Tensor",
    _trilinear.gather,
    _fake_sample,
)
register(
    "grid_sample_backward(Tensor grad, Tensor volume, Tensor points, float[3] scale, float[3] offset,"
    " bool[2] needed) -> (Tensor, Tensor)",
    _grid_sample_backward,
    _fake_backward,
)
register(
    "grid_sample_backward_backward(Tensor directions, Tensor grad, Tensor volume, Tensor points,"
    " float[3] scale, float[3] offset) -> (Tensor, Tensor, Tensor)",
    _grid_sample_backward_backward,
    _fake_backward_backward,
)
register_gradient("grid_sample", _gradient, _save)
register_gradient("grid_sample_backward", _second_gradient, _save_backward)
register_gradient("grid_sample_backward_backward", _third_gradient)
