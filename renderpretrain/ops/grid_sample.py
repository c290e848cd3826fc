"""Reading a volume at points."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from renderpretrain.checks import check_frame, check_shape
from renderpretrain.ops import _trilinear
from renderpretrain.ops._library import (
    Triple,
    chosen,
    common_float,
    double_backward,
    register,
    register_gradient,
)
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
        volume: Features; fastest where it already is in ``torch.channels_last_3d`` memory. In float16 or
            bfloat16 it is read as it is, which halves the traffic, and computed with in float32.
            Differentiable.
        points: World coordinates (x, y, z), metres. Differentiable; on a voxel's centre the derivative is the
            one towards the larger coordinate.
        scale: Voxels per metre.
        offset: Index of the world's origin.

    Returns:
        Values in float32 or float64; differentiable to any order. Kernels compute the first and the second
        (normals of a distance field that are trained), plain PyTorch those beyond. The order of additions to
        the volume's gradient is fixed on the CPU; on CUDA under ``torch.use_deterministic_algorithms`` only.
    """
    _check(volume, points, scale, offset)
    volume, points = common_float(("volume",), volume=volume, points=points)
    if not has_native(volume.device.type):
        return grid_sample_reference(volume, points, scale, offset)
    return torch.ops.renderpretrain.grid_sample(volume, points, scale, offset)


def grid_sample_vjp(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    cotangents: Float[Tensor, "B P C"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Float[Tensor, "B P 3"]:
    r"""Gradient by the points of ``(grid_sample(volume, points) * cotangents).sum()``, as an output.

    .. math:: \sum_c g_c \nabla v_c(p)

    The normal of a field decoded from a volume is this with ``g`` the decoder's own gradient by the feature:
    no ``create_graph``, no gradient of the volume that nobody asked for, and ``torch.compile`` can train
    through it.

    Args:
        volume: As for :func:`grid_sample`. Differentiable.
        points: As for :func:`grid_sample`. Differentiable.
        cotangents: What the values are multiplied by. Differentiable.
        scale: Voxels per metre.
        offset: Index of the world's origin.

    Returns:
        Per metre, in float32 or float64; differentiable to any order, from the second on without a kernel.
        The volume's gradient is summed as in :func:`grid_sample`.
    """
    check_shape("cotangents", cotangents, "B P C", **_check(volume, points, scale, offset))
    volume, points, cotangents = common_float(
        ("volume",), volume=volume, points=points, cotangents=cotangents
    )
    if not has_native(volume.device.type):
        return grid_sample_vjp_reference(volume, points, cotangents, scale, offset)
    return torch.ops.renderpretrain.grid_sample_vjp(volume, points, cotangents, scale, offset)


def grid_sample_reference(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Float[Tensor, "B P C"]:
    """:func:`grid_sample` in plain PyTorch, by eight gathers: what the kernels are tested against."""
    return _trilinear.gather_reference(volume.to(points.dtype), points, scale, offset)


def grid_sample_vjp_reference(
    volume: Float[Tensor, "B C Z Y X"],
    points: Float[Tensor, "B P 3"],
    cotangents: Float[Tensor, "B P C"],
    scale: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> Float[Tensor, "B P 3"]:
    """:func:`grid_sample_vjp` in plain PyTorch, by automatic differentiation, to any order."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        points = points if points.requires_grad else points.detach().requires_grad_()
        read = grid_sample_reference(volume, points, scale, offset)
        (slopes,) = torch.autograd.grad(read, points, cotangents, create_graph=graph)
    return slopes


def _check(volume: Tensor, points: Tensor, scale: Triple, offset: Triple) -> dict[str, int]:
    """The sizes of what is read there."""
    check_frame(scale, offset)
    check_shape("volume", volume, "B C Z Y X")
    batch, channels = volume.shape[:2]
    return {**check_shape("points", points, "B P 3", B=batch), "C": channels}


def _grid_sample_backward(
    grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by volume and points; one that is not needed is an empty tensor."""
    wanted = _trilinear.Wanted(volume=needed[0], slopes=needed[1])
    source = volume if needed[1] else None
    _, grad_volume, slopes = _trilinear.adjoint(grad, source, points, volume.shape[2:], scale, offset, wanted)
    return grad_volume.to(volume.dtype), slopes


def _grid_sample_vjp(
    volume: Tensor, points: Tensor, cotangents: Tensor, scale: Triple, offset: Triple
) -> Tensor:
    wanted = _trilinear.Wanted(slopes=True)
    return _trilinear.adjoint(cotangents, volume, points, volume.shape[2:], scale, offset, wanted)[2]


def _grid_sample_vjp_backward(  # noqa: PLR0913 - the op's arguments and what is asked for
    directions: Tensor,
    volume: Tensor,
    points: Tensor,
    cotangents: Tensor,
    scale: Triple,
    offset: Triple,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``<directions, slopes>`` by volume, points and cotangents; an empty one is not needed."""
    wanted = _trilinear.Wanted(volume=needed[0], slopes=needed[1], values=needed[2])
    values, grad_volume, slopes = _trilinear.adjoint(
        cotangents, volume, points, volume.shape[2:], scale, offset, wanted, directions
    )
    return grad_volume.to(volume.dtype), slopes, values


def _fake_sample(volume: Tensor, points: Tensor, scale: Triple, offset: Triple) -> Tensor:
    return points.new_empty(*points.shape[:2], volume.shape[1])


def _fake_volume(volume: Tensor, needed: bool) -> Tensor:
    if not needed:
        return volume.new_empty(0)
    batch, channels, *shape = volume.shape
    return volume.new_empty(batch, *shape, channels).permute(0, 4, 1, 2, 3)


def _fake_backward(
    grad: Tensor, volume: Tensor, points: Tensor, scale: Triple, offset: Triple, needed: list[bool]
) -> tuple[Tensor, Tensor]:
    return _fake_volume(volume, needed[0]), points.new_empty(points.shape if needed[1] else 0)


def _fake_vjp(volume: Tensor, points: Tensor, cotangents: Tensor, scale: Triple, offset: Triple) -> Tensor:
    return points.new_empty(points.shape)


def _fake_vjp_backward(  # noqa: PLR0913 - the op's arguments and what is asked for
    directions: Tensor,
    volume: Tensor,
    points: Tensor,
    cotangents: Tensor,
    scale: Triple,
    offset: Triple,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    grad_points = points.new_empty(points.shape if needed[1] else 0)
    return (
        _fake_volume(volume, needed[0]),
        grad_points,
        points.new_empty(cotangents.shape if needed[2] else 0),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    volume, points, ctx.scale, ctx.offset = inputs
    ctx.save_for_backward(volume, points)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    volume, points = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:2])
    backward = torch.ops.renderpretrain.grid_sample_backward
    grads = backward(grad, volume, points, ctx.scale, ctx.offset, needed)
    return *chosen(grads, needed), None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, volume, points, ctx.scale, ctx.offset, ctx.needed = inputs
    ctx.save_for_backward(grad, volume, points)
    ctx.set_materialize_grads(False)


def _second_gradient(
    ctx: Any, along_volume: Tensor | None, along_points: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of the backward pass, given cotangents of ``grad_volume`` and ``grad_points`` (or none)."""
    grad, volume, points = ctx.saved_tensors
    frame = ctx.scale, ctx.offset
    needed = ctx.needs_input_grad
    grad_grad = grad_volume = grad_points = None
    if along_points is not None and ctx.needed[1]:
        asked = [needed[1], needed[2], needed[0]]
        twice = torch.ops.renderpretrain.grid_sample_vjp_backward
        grads = twice(along_points.contiguous(), volume, points, grad, *frame, asked)
        grad_volume, grad_points, grad_grad = chosen(grads, asked)
    if along_volume is not None and ctx.needed[0]:
        read = torch.ops.renderpretrain.grid_sample(along_volume, points, *frame)
        slopes = torch.ops.renderpretrain.grid_sample_vjp(along_volume, points, grad, *frame)
        grad_grad = read if grad_grad is None else grad_grad + read
        grad_points = slopes if grad_points is None else grad_points + slopes
    return grad_grad, grad_volume, grad_points, None, None, None


def _save_vjp(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    volume, points, cotangents, ctx.scale, ctx.offset = inputs
    ctx.save_for_backward(volume, points, cotangents)


def _vjp_gradient(ctx: Any, directions: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    twice = torch.ops.renderpretrain.grid_sample_vjp_backward
    grads = twice(directions, *ctx.saved_tensors, ctx.scale, ctx.offset, needed)
    return *chosen(grads, needed), None, None


def _save_vjp_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.scale, ctx.offset, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _vjp_second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    directions, *inputs = ctx.saved_tensors
    reference = partial(grid_sample_vjp_reference, scale=tuple(ctx.scale), offset=tuple(ctx.offset))
    by_inputs, by_directions = double_backward(reference, inputs, [directions], chosen(along, ctx.needed))
    return *by_directions, *by_inputs, None, None, None


_FRAME = "float[3] scale, float[3] offset"
_TENSORS = {"volume": "stored~ B C Z Y X", "points": "float B P 3"}
register(
    f"grid_sample(Tensor volume, Tensor points, {_FRAME}) -> Tensor",
    _trilinear.read,
    _fake_sample,
    _TENSORS,
    lambda *arguments: check_frame(*arguments[-2:]),
)
register(
    f"grid_sample_backward(Tensor grad, Tensor volume, Tensor points, {_FRAME}, bool[2] needed)"
    " -> (Tensor, Tensor)",
    _grid_sample_backward,
    _fake_backward,
    {"grad": "float B P C", **_TENSORS},
    lambda *arguments: check_frame(*arguments[-3:-1]),
)
register(
    f"grid_sample_vjp(Tensor volume, Tensor points, Tensor cotangents, {_FRAME}) -> Tensor",
    _grid_sample_vjp,
    _fake_vjp,
    {**_TENSORS, "cotangents": "float B P C"},
    lambda *arguments: check_frame(*arguments[-2:]),
)
register(
    "grid_sample_vjp_backward(Tensor directions, Tensor volume, Tensor points, Tensor cotangents,"
    f" {_FRAME}, bool[3] needed) -> (Tensor, Tensor, Tensor)",
    _grid_sample_vjp_backward,
    _fake_vjp_backward,
    {"directions": "float B P 3", **_TENSORS, "cotangents": "float B P C"},
    lambda *arguments: check_frame(*arguments[-3:-1]),
)
register_gradient("grid_sample", _gradient, _save)
register_gradient("grid_sample_backward", _second_gradient, _save_backward)
register_gradient("grid_sample_vjp", _vjp_gradient, _save_vjp)
register_gradient("grid_sample_vjp_backward", _vjp_second_gradient, _save_vjp_backward)
