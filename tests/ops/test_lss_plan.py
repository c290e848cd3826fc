"""The plan of lift-splat pooling: its lists, the cells of points, and what it refuses."""

import dataclasses

import pytest
import torch

from renderpretrain.ops import LssPlan, frustum_cells, lss_plan

NUM_CELLS = 40


def some_cells(device="cpu"):
    """Some points dropped, some cells empty."""
    return torch.randint(-3, NUM_CELLS // 2, (4, 7, 5, 6), device=device).clamp(min=-1)


def test_a_plan_lists_every_kept_point_once_and_its_cells_in_turn(device):
    cells = some_cells(device)
    plan = lss_plan(cells, NUM_CELLS)
    assert plan.num_cells == NUM_CELLS
    assert torch.equal(plan.cells.long(), cells.permute(0, 2, 3, 1))
    assert torch.equal(plan.order.sort().values.cpu(), torch.arange(NUM_CELLS, dtype=torch.int32))
    height, width = cells.shape[2:]
    seen = set()
    for turn, cell in enumerate(plan.order.tolist()):
        for at in range(plan.starts[turn], plan.starts[turn + 1]):
            pixel, d = int(plan.pixels[at]), int(plan.bins[at])
            n, h, w = pixel // (height * width), pixel // width % height, pixel % width
            assert cells[n, d, h, w] == cell
            seen.add((pixel, d))
    assert len(seen) == int((cells >= 0).sum()) == int(plan.starts[-1])


def test_a_plan_moves_to_another_device():
    plan = lss_plan(some_cells(), NUM_CELLS).to("meta")
    assert all(getattr(plan, field.name).is_meta for field in dataclasses.fields(LssPlan))


def test_cells_are_rounded_down_and_batch_elements_have_their_own(device):
    """Voxels of 2 m from -4 m: just below, at x = -4.5 m, a point belongs to no cell, and not to cell 0."""
    x = torch.tensor([-4.5, -4.0, -2.01, -2.0, 1.99, 2.0, float("nan"), float("inf")], device=device)
    points = torch.stack([x, torch.full_like(x, 1.0), torch.full_like(x, -0.5)], -1)
    points = points.reshape(1, 1, 8, 1, 1, 3).repeat(2, 1, 1, 1, 1, 1)
    # x: 3 voxels from -4; y: 2 voxels of 1 m from 0; z: 2 voxels of 1 m from -1.
    cells = frustum_cells(points, (2, 2, 3), (0.5, 1.0, 1.0), (1.5, -0.5, 0.5))
    first = [-1, 3, 3, 4, 5, -1, -1, -1]
    assert cells[0].flatten().tolist() == first
    assert cells[1].flatten().tolist() == [c + 12 if c >= 0 else -1 for c in first]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cells_of_points_in_half_precision_are_computed_in_float32(dtype, device):
    """100.5 m is a number of half precision, and 1005 voxels further none of bfloat16."""
    points = torch.tensor([100.5, 0.0, 0.0], device=device, dtype=dtype).reshape(1, 1, 1, 1, 1, 3)
    assert frustum_cells(points, (1, 1, 2000), (10.0, 1.0, 1.0), (-0.5, 0.0, 0.0)).item() == 1005


@pytest.mark.untyped
def test_errors_name_the_argument():
    cells = some_cells()
    with pytest.raises(ValueError, match=r"cells: expected \(N D H W\), got \(7, 5, 6\)"):
        lss_plan(cells[0], NUM_CELLS)
    with pytest.raises(ValueError, match=r"cells: expected integers, got torch\.float32"):
        lss_plan(cells.float(), NUM_CELLS)
    with pytest.raises(ValueError, match=r"cells: expected integers, got torch\.bool"):
        lss_plan(cells > 0, NUM_CELLS)
    with pytest.raises(ValueError, match=r"num_cells=2147483648"):
        lss_plan(cells, 2**31)
    with pytest.raises(ValueError, match=r"got 2147483648 points"):
        lss_plan(torch.zeros(1, dtype=torch.long).expand(2, 2**10, 2**10, 2**10), NUM_CELLS)
    with pytest.raises(ValueError, match=r"cells: expected -1 <= cells < 38, got -2 to 38"):
        lss_plan(torch.tensor([-2, 38]).reshape(1, 1, 1, 2), 38)
