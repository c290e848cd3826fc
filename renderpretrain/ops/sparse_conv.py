"""Convolution of the occupied voxels of a volume, over a table of neighbours."""

from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from renderpretrain.checks import check_shape, check_type
from renderpretrain.ops._library import (
    bilinear_double_backward,
    chosen,
    common_float,
    common_type,
    register,
    register_gradient,
)
from renderpretrain.ops._native import INT32_LIMIT, has_native, launch, new_memory
from renderpretrain.ops._tensor_cores import convolve, has_tensor_cores, kernel_gradient, stored_alike

PANEL = 32
"""The kernel's scratch has its columns rounded up to this."""

SLAB, MOST_SLABS, SLAB_MEMORY = 512, 64, 1 << 20
"""The gradient by the kernel is summed over slabs of at least so many outputs, at most so many of them, with
so many numbers in all. They depend on nothing but sizes, so results do not depend on threads."""


def sparse_conv3d(
    features: Float[Tensor, "M C"],
    kernel: Float[Tensor, "K C D"],
    inputs: Int32[Tensor, "K N"],
    outputs: Int32[Tensor, "K M"] | None = None,
) -> Float[Tensor, "N D"]:
    """Sum over kernel cells ``k`` of ``features[inputs[k, n]] @ kernel[k]``.

    The tables are those of :func:`~renderpretrain.ops.submanifold_neighbors` and
    :func:`~renderpretrain.ops.strided_neighbors`. Exchanged, the two of a strided convolution give the way
    back (an inverse convolution).

    Args:
        features: A row per occupied voxel. Differentiable; half precision is widened, unless the kernel is of
            the same kind and the card's tensor cores take both as they are, and the gradient rounded to it.
        kernel: A matrix per kernel cell. Differentiable.
        inputs: The row each output reads under each cell; what is no row is none and adds nothing.
        outputs: The converse, needed for the gradient by features: the output that reads a row under each
            cell. ``None`` where it is ``inputs.flip(0)``, as in a submanifold convolution.

    Returns:
        A row per output voxel, in float32 or float64; differentiable to any order. Results do not depend on
        the number of threads, and are the same in every run. On a card that has them, float32 is multiplied
        on tensor cores: exactly, or with 10 bits of mantissa (TF32) where PyTorch allows that for
        convolutions, as it does unless told otherwise (``torch.backends.cudnn``).

    Sparse convolution after Graham et al. (2018), "3D semantic segmentation with submanifold sparse
    convolutional networks".
    """
    _check(features, kernel, inputs, outputs)
    if not has_native(features.device.type):
        return _GatherGemm.apply(*common_float(features=features, kernel=kernel), inputs)
    return torch.ops.renderpretrain.sparse_conv3d(features, kernel, inputs, outputs)


def sparse_conv3d_reference(
    features: Float[Tensor, "M C"],
    kernel: Float[Tensor, "K C D"],
    inputs: Int32[Tensor, "K N"],
    outputs: Int32[Tensor, "K M"] | None = None,
) -> Float[Tensor, "N D"]:
    """:func:`sparse_conv3d` in plain PyTorch: per kernel cell gather rows, multiply, add to the outputs."""
    _check(features, kernel, inputs, outputs)
    return _GatherGemm.apply(*common_float(features=features, kernel=kernel), inputs)


def _check(features: Tensor, kernel: Tensor, inputs: Tensor, outputs: Tensor | None) -> None:
    sizes = check_shape("features", features, "M C")
    _check_count(features)
    sizes = check_shape("kernel", kernel, "K C D", **sizes)
    sizes = check_shape("inputs", inputs, "K N", K=sizes["K"])
    if outputs is None and sizes["N"] != len(features):
        raise ValueError(f"outputs: expected a table, for {sizes['N']} outputs of {len(features)} inputs")
    if outputs is not None:
        check_shape("outputs", outputs, "K M", K=sizes["K"], M=len(features))
    for name, table in (("inputs", inputs), ("outputs", outputs)):
        if table is not None:
            check_type(name, table, torch.int32, features.device)
    common_type(features=features, kernel=kernel)


class _GatherGemm(torch.autograd.Function):
    """Within a kernel cell no output occurs twice, so no two additions race.

    What the gradient needs beyond its inputs is gathered again instead of being kept.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(features, kernel, inputs)
        out = features.new_zeros(inputs.shape[1], kernel.shape[2])
        for weight, (rows, to) in zip(kernel, _pairs(inputs, len(features)), strict=True):
            out.index_add_(0, to, features[rows] @ weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, kernel, inputs = ctx.saved_tensors
        to_features, to_kernel = ctx.needs_input_grad[:2]
        grad_features, by_cell = torch.zeros_like(features), [kernel.new_zeros(0, *kernel.shape[1:])]
        for weight, (rows, to) in zip(kernel, _pairs(inputs, len(features)), strict=True):
            g = grad[to]
            if to_kernel:
                by_cell.append((features[rows].t() @ g)[None])
            if to_features:
                grad_features.index_add_(0, rows, g @ weight.t())
        return grad_features if to_features else None, torch.cat(by_cell) if to_kernel else None, None


def _pairs(inputs: Tensor, num_in: int) -> list[tuple[Tensor, Tensor]]:
    """Input and output rows of every kernel cell, with one question to the device for all of them."""
    exists = (inputs >= 0) & (inputs < num_in)
    cell, outputs = exists.nonzero(as_tuple=True)
    counts = exists.sum(1).tolist()
    return list(zip(inputs[cell, outputs].long().split(counts), outputs.split(counts), strict=True))


def _check_count(*tensors: Tensor) -> None:
    for rows in tensors:
        if len(rows) >= INT32_LIMIT:
            raise ValueError(f"features: expected fewer than 2^31 rows, got {len(rows)}")


def _operands(features: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the type that they are multiplied in."""
    if not stored_alike(features, kernel):
        features, kernel = common_float(features=features, kernel=kernel)
    return features, kernel


def _convolve(features: Tensor, kernel: Tensor, inputs: Tensor, mirrored: bool = False) -> Tensor:
    """The native sum of one table, with the matrices of the cells in reverse if ``mirrored``."""
    if has_tensor_cores(features):
        return convolve(features, kernel, inputs, mirrored)
    kernel = (kernel.flip(0) if mirrored else kernel).contiguous()
    num_cells, channels, width = kernel.shape
    num_out, panels = inputs.shape[1], None
    if features.device.type == "cpu":
        panels = new_memory(features, num_cells, channels, -(-width // PANEL) * PANEL)
    out = new_memory(features, num_out, width)
    sizes = len(features), num_out, num_cells, channels, width
    launch("sparse_conv3d", features, kernel, inputs, *sizes, panels, out)
    return out


def _sparse_conv3d(features: Tensor, kernel: Tensor, inputs: Tensor, outputs: Tensor | None) -> Tensor:
    return _convolve(*_operands(features, kernel), inputs)


def _kernel_gradient(grad: Tensor, features: Tensor, kernel: Tensor, inputs: Tensor) -> Tensor:
    """The native sum of ``features[inputs[k, n]]^T grad[n]`` over outputs."""
    num_slabs = max(min(-(-len(grad) // SLAB), MOST_SLABS, SLAB_MEMORY // max(kernel.numel(), 1)), 1)
    num_cells, channels, width = kernel.shape
    if has_tensor_cores(features):
        return kernel_gradient(grad, features, inputs, (num_cells, channels, width), num_slabs)
    partial = new_memory(kernel, num_slabs, *kernel.shape)
    out = new_memory(kernel, *kernel.shape)
    sizes = len(features), len(grad), *kernel.shape, num_slabs
    launch("sparse_conv3d_backward_kernel", grad, features, inputs, *sizes, partial, out)
    return out


def _sparse_conv3d_backward(
    grad: Tensor,
    features: Tensor,
    kernel: Tensor,
    inputs: Tensor,
    outputs: Tensor | None,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients by features and kernel; one that is not needed is an empty tensor."""
    grad_features, grad_kernel = grad.new_empty(0), grad.new_empty(0)
    features, kernel = _operands(features, kernel)
    grad = grad.to(features.dtype)
    if needed[0]:
        # What reads a row under a cell is, in a submanifold table, what lies under the cell opposite.
        grad_features = _convolve(grad, kernel.mT, inputs if outputs is None else outputs, outputs is None)
    if needed[1]:
        grad_kernel = _kernel_gradient(grad, features, kernel, inputs)
    return grad_features, grad_kernel


def _fake(features: Tensor, kernel: Tensor, inputs: Tensor, outputs: Tensor | None) -> Tensor:
    dtype = common_type(features=features, kernel=kernel)
    return features.new_empty(inputs.shape[1], kernel.shape[2], dtype=dtype)


def _fake_backward(
    grad: Tensor,
    features: Tensor,
    kernel: Tensor,
    inputs: Tensor,
    outputs: Tensor | None,
    needed: list[bool],
) -> tuple[Tensor, Tensor]:
    shapes = [tensor.shape if need else (0,) for tensor, need in zip((features, kernel), needed, strict=True)]
    return grad.new_empty(shapes[0]), grad.new_empty(shapes[1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:2])
    grads = torch.ops.renderpretrain.sparse_conv3d_backward(grad, *ctx.saved_tensors, needed)
    return *chosen(grads, needed), None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.needed = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _second_gradient(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, features, kernel, *tables = ctx.saved_tensors
    operators = torch.ops.renderpretrain
    found = bilinear_double_backward(
        lambda features, kernel: operators.sparse_conv3d(features, kernel, *tables),
        lambda grad, features, kernel, needed: operators.sparse_conv3d_backward(
            grad, features, kernel, *tables, needed
        ),
        (grad, features, kernel),
        chosen(along, ctx.needed),
    )
    return *found, None, None, None


_TENSORS = {
    "features": "stored M C",
    "kernel": "stored~ K C D",
    "inputs": "int32 K N",
    "outputs": "int32 K M",
}
register(
    "sparse_conv3d(Tensor features, Tensor kernel, Tensor inputs, Tensor? outputs) -> Tensor",
    _sparse_conv3d,
    _fake,
    _TENSORS,
    lambda features, *rest: _check_count(features),
)
register(
    "sparse_conv3d_backward(Tensor grad, Tensor features, Tensor kernel, Tensor inputs, Tensor? outputs,"
    " bool[2] needed) -> (Tensor, Tensor)",
    _sparse_conv3d_backward,
    _fake_backward,
    {"grad": "float N D", **_TENSORS},
    lambda grad, features, *rest: _check_count(grad, features),
)
register_gradient("sparse_conv3d", _gradient, _save)
register_gradient("sparse_conv3d_backward", _second_gradient, _save_backward)
