"""Points sorted by cell: what scattering and voxelizing have in common."""

import torch
from torch import Tensor

from renderpretrain.ops._native import INT32_LIMIT, launch, new_memory

SORT_BLOCK, SORT_BINS = 16384, 2048
"""``RP_SORT_BLOCK`` and ``RP_SORT_BINS``: what a sort on the CPU needs memory for."""

MOST = INT32_LIMIT - 2
"""Points, and cells; one number more names what has no cell."""


def check_index(index: Tensor, num_cells: int) -> None:
    """Raise ``ValueError`` unless ``index`` names cells, or -1, of a number of points that can be sorted."""
    if index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"index: expected int32 or int64, got {index.dtype}")
    if index.shape[0] > MOST:
        raise ValueError(f"index: expected at most {MOST} points, got {index.shape[0]}")
    if num_cells < 0:
        raise ValueError(f"num_cells: expected at least 0, got {num_cells}")
    if num_cells >= 2**63:
        raise ValueError(f"num_cells: expected less than 2^63, got {num_cells}")


def check_plannable(index: Tensor, num_cells: int) -> None:
    """:func:`check_index` for a plan that numbers all cells, occupied or not."""
    check_index(index, num_cells)
    if num_cells > MOST:
        raise ValueError(f"num_cells: expected at most {MOST}, got {num_cells}")


def rows_of(index: Tensor, num_cells: int) -> Tensor:
    """The cell of each point in int64, ``num_cells`` for a point without one."""
    # Elsewhere looking would wait for the device.
    if index.device.type == "cpu" and index.numel() and int(index.max()) >= num_cells:
        raise _past_the_last(index, num_cells)
    index = index.long()
    return torch.where((index >= 0) & (index < num_cells), index, num_cells)


def _past_the_last(index: Tensor, num_cells: int) -> ValueError:
    return ValueError(f"index: expected cells below num_cells={num_cells}, got {int(index.max())}")


def sort_reference(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    """What :func:`sort_cells` does, in plain PyTorch."""
    cells, order = rows_of(index, num_cells).sort(stable=True)
    return cells, order.int()


def sort_cells(index: Tensor, num_cells: int) -> tuple[Tensor, Tensor]:
    """:func:`rows_of`, sorted, and the points in that order, each cell's in their own, in int32."""
    if index.device.type != "cpu":
        return sort_reference(index, num_cells)
    index = index.long().contiguous()
    count = len(index)
    cells, spare_cells = new_memory(index, count), new_memory(index, count)
    order, spare_order = (new_memory(index, count, dtype=torch.int32) for _ in range(2))
    histogram = new_memory(index, -(-count // SORT_BLOCK) * SORT_BINS)
    launch("sort_cells", index, count, num_cells, cells, order, spare_cells, spare_order, histogram)
    if count and int(cells[-1]) > num_cells:
        raise _past_the_last(index, num_cells)
    return cells, order
