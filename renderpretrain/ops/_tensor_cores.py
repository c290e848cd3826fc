"""Sparse convolution on the tensor cores of a CUDA card: rows arranged by their neighbors, then products."""

from typing import NamedTuple

import torch
from torch import Tensor

from renderpretrain.ops._contract import HALF
from renderpretrain.ops._native import launch, new_memory
from renderpretrain.ops._rows import count_writes

ROW_GROUP, PARTS_PER_SLAB, WORD = 32, 2, 32
"""``RP_ROW_GROUP``: rows that share a bit per kernel cell. ``RP_PARTS_PER_SLAB``: sums a slab is added up
in. Bits of a word."""

FIRST_CAPABILITY = (8, 0)
"""Of the cards whose tensor cores multiply what we do: Ampere and later."""

_MARK = "_renderpretrain_arranged"


class ArrangedRows(NamedTuple):
    """A table of neighbors with the outputs side by side that read the same kernel cells.

    Attributes:
        table: The input under each cell of each output in the new order, -1 for none.
        order: Which output a row of the new order is.
        covers: For each ``ROW_GROUP`` rows a bit per cell that any of them has, in words of 32.
    """

    table: Tensor
    order: Tensor
    covers: Tensor


def has_tensor_cores(tensor: Tensor) -> bool:
    """Whether what is stored like this is multiplied on tensor cores where it lies."""
    if not tensor.is_cuda or tensor.dtype == torch.float64:
        return False
    return torch.cuda.get_device_capability(tensor.device) >= FIRST_CAPABILITY


def rounds_to_tf32() -> bool:
    """Whether PyTorch lets convolutions in float32 multiply with 10 bits of mantissa; its standard is yes."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)  # from torch 2.9 on, each operator its own
    if convolutions is None:
        return bool(torch.backends.cudnn.allow_tf32)
    return str(convolutions.fp32_precision) == "tf32"


def arranged_rows(inputs: Tensor, num_in: int) -> ArrangedRows:
    """The rows of a table in the order they are multiplied in, kept at the table until it is written to.

    Every stream arranges its own, and a graph that is recorded always anew: when it is replayed the table may
    have been written to. In inference mode, where nobody counts writes, nothing is kept.

    Args:
        inputs: (K, N), dense.
        num_in: What is no row below this is none.
    """
    stream = torch.cuda.current_stream(inputs.device).cuda_stream if inputs.is_cuda else None
    made_for = count_writes(inputs), num_in, stream
    recorded = inputs.is_cuda and torch.cuda.is_current_stream_capturing()
    keeps = made_for[0] is not None and not recorded
    kept = getattr(inputs, _MARK, None)
    if keeps and kept is not None and kept[0] == made_for:
        return ArrangedRows(*kept[1])
    num_cells, num_out = inputs.shape
    sizes = num_in, num_out, num_cells
    masks = new_memory(inputs, num_out, dtype=torch.int64)
    launch("sparse_conv3d_masks", inputs, *sizes, masks)
    order = masks.sort(stable=True).indices
    table = new_memory(inputs, num_cells, num_out)
    covers = new_memory(inputs, -(-num_out // ROW_GROUP), -(-num_cells // WORD))
    launch("sparse_conv3d_arrange", inputs, order, *sizes, table, covers)
    rows = ArrangedRows(table, order, covers)
    if keeps:
        setattr(inputs, _MARK, (made_for, rows))
    return rows


def convolve(features: Tensor, kernel: Tensor, inputs: Tensor, mirrored: bool) -> Tensor:
    """The sum over cells of gathered features times the kernel's matrix, in float32.

    Args:
        features: (M, C), dense, float32 or half precision.
        kernel: (K, C, D), the same type; read where it lies if ``C`` is its fastest axis.
        inputs: (K, N), dense.
        mirrored: Take the matrices of the cells in reverse.
    """
    if kernel.stride(1) != 1:
        kernel = kernel.transpose(1, 2).contiguous().transpose(1, 2)
    num_cells, channels, width = kernel.shape
    out = new_memory(features, inputs.shape[1], width, dtype=torch.float32)
    steps = kernel.stride(0), kernel.stride(2)
    sizes = len(features), len(out), num_cells, channels, width
    rows = arranged_rows(inputs, len(features))
    flags = int(mirrored), int(rounds_to_tf32())
    launch("sparse_conv3d_mma", features, kernel, *rows, *sizes, *steps, *flags, out)
    return out


def kernel_gradient(
    grad: Tensor, features: Tensor, inputs: Tensor, cells: tuple[int, int, int], num_slabs: int
) -> Tensor:
    """The sum over outputs of gathered features times the gradient, in float32.

    Args:
        grad: (N, D), dense, of the type of ``features``.
        features: (M, C), dense, float32 or half precision.
        inputs: (K, N), dense.
        cells: (K, C, D), the shape of the result.
        num_slabs: Parts of the outputs that are added up on their own.
    """
    partial = new_memory(grad, num_slabs * PARTS_PER_SLAB, *cells, dtype=torch.float32)
    out = new_memory(grad, *cells, dtype=torch.float32)
    rows = arranged_rows(inputs, len(features))
    sizes = len(features), len(grad), *cells
    flags = int(rounds_to_tf32()), num_slabs
    launch("sparse_conv3d_mma_backward_kernel", grad, features, *rows, *sizes, *flags, partial, out)
    return out


def stored_alike(features: Tensor, kernel: Tensor) -> bool:
    """Whether both are in half precision of one kind and tensor cores multiply them as they are stored."""
    return features.dtype == kernel.dtype and features.dtype in HALF and has_tensor_cores(features)
