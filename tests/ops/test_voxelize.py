"""The voxel of a point, and the occupied cells: on paper, on the faces, and against plain PyTorch."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops import (
    occupied_cells,
    occupied_cells_reference,
    voxel_index,
    voxel_index_reference,
)

GRID = VoxelGrid((-2.0, 0.0, -1.0, 4.0, 2.5, 1.0), (1.0, 0.5, 1.0))  # 2 x 5 x 6 voxels
FUNCTIONS = [voxel_index, voxel_index_reference]


def box_of(grid):
    return grid.shape, grid.lower, grid.upper, grid.scale, grid.offset


def everything(points):
    return torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    points = torch.tensor([[[-1.9, 0.1, -0.9], [3.9, 2.4, 0.9], [0.5, 0.7, -0.1]]] * 2, device=device)
    valid = everything(points)
    valid[1, 0] = False
    # (0 * 5 + 0) * 6 + 0; (1 * 5 + 4) * 6 + 5; (0 * 5 + 1) * 6 + 2; the second sample 60 further.
    assert function(points, valid, *box_of(GRID)).tolist() == [[0, 59, 8], [-1, 119, 68]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_outside_is_no_voxel(function, device):
    outside = [-2.001, 4.0, 7.5, math.nan, math.inf, -math.inf, 1e38]  # truncation would keep the first
    points = torch.tensor([[[x, 1.0, 0.0] for x in outside]], device=device)
    assert function(points, everything(points), *box_of(GRID)).tolist() == [[-1] * len(outside)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_box_contains_has_the_voxel_of_the_grid(dtype, device):
    """On faces, and a rounding beside them, where 0.075 m has no exact number."""
    grid = VoxelGrid((-54.0, -51.3, -5.0, 54.0, 51.3, 3.0), (0.075, 0.075, 0.2))
    low, size = (torch.tensor(v, dtype=dtype) for v in (grid.lower, grid.voxel_size))
    faces = low + torch.randint(-1, 1442, (4000, 3)) * size
    faces = torch.cat([faces, torch.tensor([grid.lower, grid.upper], dtype=dtype)])
    beside = [faces.nextafter(torch.tensor(s * math.inf, dtype=dtype)) for s in (-1, 1)]
    points = torch.cat([faces, *beside])[None].to(device)
    z, y, x = grid.cells(points).unbind(-1)
    linear = (z * grid.shape[1] + y) * grid.shape[2] + x
    expected = torch.where(grid.contains(points), linear, -1)
    for function in FUNCTIONS:
        assert torch.equal(function(points, everything(points), *box_of(grid)), expected)


@pytest.mark.parametrize("count", [0, 1, 77, 20_000])
def test_kernel_equals_reference(count, device):
    points = (torch.rand(3, count, 5, device=device) * 8 - 3)[..., 1:4]
    valid = torch.rand(3, count, device=device) < 0.8
    assert not points.is_contiguous() or count == 0
    results = [function(points, valid, *box_of(GRID)) for function in FUNCTIONS]
    assert torch.equal(*results)


@pytest.mark.parametrize("function", [occupied_cells, occupied_cells_reference])
def test_occupied_cells_by_hand(function, device):
    found = function(torch.tensor([70, 5, -1, 70, 0, 5, 70], device=device), 100)
    assert found.cells.tolist() == [0, 5, 70]
    assert found.rows.tolist() == [2, 1, -1, 2, 0, 1, 2]
    assert found.plan.counts.tolist() == [1, 2, 3]
    assert found.plan.order.tolist() == [4, 1, 5, 0, 3, 6, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 16384, 50_000])
@pytest.mark.parametrize("cells", [0, 1, 300, 1 << 20, 1 << 40])
def test_occupied_cells_equal_the_reference(count, cells, device):
    index = torch.randint(-1, cells, (count,), device=device)
    ours, expected = occupied_cells(index, cells), occupied_cells_reference(index, cells)
    assert torch.equal(ours.cells, expected.cells)
    assert torch.equal(ours.rows, expected.rows)
    assert torch.equal(ours.plan.order, expected.plan.order)
    assert torch.equal(ours.plan.offsets, expected.plan.offsets)


def test_cells_that_fill_several_blocks_of_the_sort(device):
    """Two crowded cells, whose points go on over blocks, between thin ones."""
    index = torch.cat([torch.full((60_000,), 3), torch.full((40_000,), 8), torch.arange(12)])
    index = index[torch.randperm(len(index))].to(device)
    ours, expected = occupied_cells(index, 12), occupied_cells_reference(index, 12)
    assert torch.equal(ours.rows, expected.rows)
    assert ours.plan.counts.tolist() == [1, 1, 1, 60_001, 1, 1, 1, 1, 40_001, 1, 1, 1]


def test_rows_gather_what_the_plan_scatters(device):
    points = (torch.rand(2, 500, 3, device=device) * 6 - 2).double()
    index = voxel_index(points, everything(points), *box_of(GRID)).flatten()
    found = occupied_cells(index, 120)
    values = torch.randn(1000, 4, dtype=torch.float64, device=device)
    dense = ops.voxel_scatter(values, index, 120)
    few = ops.voxel_scatter(values, found.rows, len(found.cells), plan=found.plan)
    assert_close(few, dense[found.cells])


@pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
def test_the_number_of_threads_does_not_change_a_bit(threads):
    points = torch.rand(2, 40_000, 3) * 8 - 3
    results = []
    for count in (1, 2, 4):
        threads(count)
        index = voxel_index(points, everything(points), *box_of(GRID)).flatten()
        found = occupied_cells(index, 120)
        results.append((index, found.cells, found.rows, found.plan.order, found.plan.offsets))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.untyped
def test_errors_name_the_argument():
    points = torch.zeros(2, 4, 3)
    with pytest.raises(
        ValueError, match=r"valid: expected torch\.bool of shape \(2, 4\) on cpu, got .* \(2, 3\)"
    ):
        voxel_index(points, torch.ones(2, 3, dtype=torch.bool), *box_of(GRID))
    with pytest.raises(
        ValueError, match=r"valid: expected torch\.bool of shape \(2, 4\) on cpu, got torch\.float32"
    ):
        voxel_index(points, torch.ones(2, 4), *box_of(GRID))
    with pytest.raises(ValueError, match=r"points: expected \(B P 3\), got \(2, 4, 4\)"):
        voxel_index(torch.zeros(2, 4, 4), torch.ones(2, 4, dtype=torch.bool), *box_of(GRID))
    with pytest.raises(ValueError, match=r"index: expected cells below num_cells=3, got 3"):
        occupied_cells(torch.tensor([0, 3]), 3)
