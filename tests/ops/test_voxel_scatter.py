"""Scattering to cells: on paper, against a loop, torch and torch_scatter, and where it could go wrong."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import scatter_plan, scatter_plan_reference, voxel_scatter, voxel_scatter_reference

FUNCTIONS = [voxel_scatter, voxel_scatter_reference]
REDUCTIONS = ["sum", "mean", "max"]
needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")


def values_and_index(points, channels, cells, *, dtype=torch.float64, device="cpu"):
    """Random values of points that lie mostly in the first of the cells; every fifth is dropped."""
    index = (cells * torch.rand(points, device=device) ** 3).long()
    index[::5] = -1
    return torch.randn(points, channels, dtype=dtype, device=device).requires_grad_(), index


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    values = torch.tensor([[1.0, -4.0], [2.0, 8.0], [6.0, -1.0], [5.0, -7.0]], device=device)
    index = torch.tensor([2, 0, 2, -1], device=device)
    expected = {
        "sum": [[2.0, 8.0], [0.0, 0.0], [7.0, -5.0]],
        "mean": [[2.0, 8.0], [0.0, 0.0], [3.5, -2.5]],
        "max": [[2.0, 8.0], [0.0, 0.0], [6.0, -1.0]],
    }
    for reduce, rows in expected.items():
        assert function(values, index, 3, reduce=reduce).tolist() == rows


def test_a_plan_by_hand(device):
    for function in (scatter_plan, scatter_plan_reference):
        plan = function(torch.tensor([2, 0, 2, -1, 3, 0], device=device), 5)
        assert plan.order.tolist() == [1, 5, 0, 2, 4, 3]
        assert plan.offsets.tolist() == [0, 2, 2, 4, 5, 5]
        assert plan.counts.tolist() == [2, 0, 2, 1, 0]
        assert plan.num_cells == 5


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_a_slow_loop_agrees(reduce, device):
    values, index = values_and_index(200, 3, 9, device=device)
    expected = torch.zeros(9, 3, dtype=torch.float64)
    for cell in range(9):
        members = values.detach().cpu()[index.cpu() == cell]
        if len(members):
            expected[cell] = members.amax(0) if reduce == "max" else getattr(members, reduce)(0)
    assert_close(voxel_scatter(values, index, 9, reduce=reduce).cpu(), expected)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("channels", [0, 1, 3, 5, 16, 17, 32, 64, 80, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_reference(reduce, channels, dtype, device):
    values, index = values_and_index(300, channels, 50, dtype=dtype, device=device)
    upstream = torch.randn(50, channels, dtype=dtype, device=device)
    results = []
    for function in FUNCTIONS:
        cells = function(values, index, 50, reduce=reduce)
        results.append([cells, *torch.autograd.grad(cells, values, upstream)])
    # Sums of up to eighty float32 numbers of size one.
    assert_close(*results, **({"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}))


@pytest.mark.parametrize("count", [1, 5, 16384, 16385, 100_000])
@pytest.mark.parametrize("cells", [1, 2047, 2048, 70_000])
def test_a_plan_of_any_size_is_a_stable_sort(count, cells, device):
    index = torch.randint(-1, cells, (count,), device=device)
    ours, expected = scatter_plan(index, cells), scatter_plan_reference(index, cells)
    assert torch.equal(ours.order, expected.order)
    assert torch.equal(ours.offsets, expected.offsets)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("points", "cells"), [(0, 0), (0, 3), (4, 0), (4, 3)])
def test_no_points_or_cells_or_none_of_each_other(function, reduce, points, cells, device):
    values = torch.full((points, 2), math.nan, device=device, requires_grad=True)
    result = function(values, torch.full((points,), -9, device=device), cells, reduce=reduce)
    assert torch.equal(result, torch.zeros(cells, 2, device=device))
    result.sum().backward()
    assert torch.equal(values.grad, torch.zeros(points, 2, device=device))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_cell_with_all_points(function, device):
    values = torch.rand(40_000, 3, dtype=torch.float64, device=device, requires_grad=True)
    expected = {"sum": values.sum(0), "mean": values.mean(0), "max": values.amax(0)}
    for reduce, row in expected.items():
        result = function(values, torch.ones(40_000).long().to(device), 3, reduce=reduce)
        assert_close(result, torch.stack([torch.zeros_like(row), row, torch.zeros_like(row)]))
        assert_close(*(torch.autograd.grad(total.sum(), values)[0] for total in (result, row)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_maximum_is_torchs_also_with_nan_and_infinity(function, device):
    values, index = values_and_index(400, 17, 40, device=device)
    values = values.detach()
    values[::7, 3], values[::11, 4], values[::3, 5] = math.nan, math.inf, -math.inf
    kept = index >= 0
    expected = torch.zeros(40, 17, dtype=torch.float64, device=device)
    rows = index[kept][:, None].expand(-1, 17)
    expected.scatter_reduce_(0, rows, values[kept], "amax", include_self=False)
    assert_close(function(values, index, 40, reduce="max"), expected, equal_nan=True)
    assert expected.isnan().any()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_maximum_sends_its_gradient_to_the_first_that_attains_it(function, device):
    columns = [
        [1.0, 3.0, 3.0, 2.0],
        [0.0, -0.0, 0.0, -1.0],
        [1.0, math.nan, 9.0, math.nan],
        [-math.inf, -math.inf, -math.inf, -math.inf],
    ]
    values = torch.tensor(columns, device=device).T.contiguous().requires_grad_()
    function(values, torch.zeros(4, dtype=torch.long, device=device), 1, reduce="max").sum().backward()
    assert values.grad.argmax(0).tolist() == [1, 0, 1, 0]
    assert values.grad.sum(0).tolist() == [1.0] * 4


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [5, 48])
def test_half_precision_is_reduced_in_float32(reduce, half, channels, device):
    values, index = values_and_index(3000, channels, 7, dtype=torch.float32, device=device)
    values = values.detach().to(half).requires_grad_()
    wide = values.detach().float().requires_grad_()
    result, expected = (voxel_scatter(v, index, 7, reduce=reduce) for v in (values, wide))
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)
    upstream = torch.randn_like(result)
    (grad,) = torch.autograd.grad(result, values, upstream)
    (wide_grad,) = torch.autograd.grad(expected, wide, upstream)
    assert torch.equal(grad, wide_grad.to(half))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert torch.equal(voxel_scatter(values, index, 7, reduce=reduce), expected)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_any_memory_order_and_index_type(reduce, device):
    values, index = values_and_index(100, 20, 9, device=device)
    expected = voxel_scatter(values, index, 9, reduce=reduce)
    turned = values.detach().T.contiguous().T
    spread = torch.stack([index, index], 1)[:, 1]
    shifted = torch.cat([values.detach().flatten()[:1], values.detach().flatten()])[1:].view(100, 20)
    assert not turned.is_contiguous()
    assert not spread.is_contiguous()
    for form in (turned, shifted):
        assert torch.equal(voxel_scatter(form, spread, 9, reduce=reduce), expected)
    assert torch.equal(voxel_scatter(values, index.int(), 9, reduce=reduce), expected)
    plan = scatter_plan(index, 9)
    assert torch.equal(voxel_scatter(values, index, 9, reduce=reduce, plan=plan), expected)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function, device):
    values, index = values_and_index(12, 3, 4, device=device)
    for reduce in REDUCTIONS:
        assert gradcheck(lambda v: function(v, index, 4, reduce=reduce), values)  # noqa: B023
    for reduce in ("sum", "mean"):
        assert gradgradcheck(lambda v: function(v, index, 4, reduce=reduce), values)  # noqa: B023


@needs_kernels
@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
def test_it_can_be_compiled():
    def loss(values, index):
        return sum(voxel_scatter(values, index, 4, reduce=reduce).square().sum() for reduce in REDUCTIONS)

    values, index = values_and_index(12, 3, 4)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        results.append(torch.autograd.grad(function(values, index), values))
    assert_close(*results)


@needs_kernels
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_the_number_of_threads_does_not_change_a_bit(reduce, threads):
    values, index = values_and_index(40_000, 17, 3000, dtype=torch.float32)
    upstream = torch.randn(3000, 17)
    results = set()
    for count in (1, 2, 4, 7):
        threads(count)
        result = voxel_scatter(values, index, 3000, reduce=reduce)
        (grad,) = torch.autograd.grad(result, values, upstream)
        results.add(result.detach().numpy().tobytes() + grad.numpy().tobytes())
    assert len(results) == 1


def test_memory_that_was_used_before_is_cleared(device):
    for _ in range(3):
        torch.full((5000, 64), math.nan, device=device)  # freed at once, for the next to find
        result = voxel_scatter(torch.ones(1, 64, device=device), torch.zeros(1).long().to(device), 5000)
        assert result.sum() == 64


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_it_equals_torch_scatter(reduce):
    torch_scatter = pytest.importorskip("torch_scatter")
    values, index = values_and_index(500, 9, 60)
    index = index.clamp(min=0)
    upstream = torch.randn(60, 9, dtype=torch.float64)
    ours = voxel_scatter(values, index, 60, reduce=reduce)
    theirs = torch_scatter.scatter(values, index, 0, dim_size=60, reduce=reduce)
    assert_close(ours, theirs)
    assert_close(voxel_scatter(values, index, 60, reduce=reduce, backend="torch_scatter"), ours)
    assert_close(*(torch.autograd.grad(result, values, upstream) for result in (ours, theirs)))


def test_torch_scatter_is_asked_for_cells_that_exist(monkeypatch):
    """Of points without a cell, which it does not know, it is told that they lie in one more."""

    def scatter(values, rows, axis, *, dim_size, reduce):
        assert (axis, reduce) == (0, "sum")
        return values.new_zeros(dim_size, values.shape[1]).index_add(0, rows, values)

    monkeypatch.setitem(sys.modules, "torch_scatter", SimpleNamespace(scatter=scatter))
    values, index = torch.rand(4, 2), torch.tensor([0, -1, 2, 0])
    assert_close(voxel_scatter(values, index, 3, backend="torch_scatter"), voxel_scatter(values, index, 3))
    monkeypatch.setitem(sys.modules, "torch_scatter", None)
    with pytest.raises(ValueError, match=r'^backend: needs pip install "renderpretrain\[scatter\]"'):
        voxel_scatter(values, index, 3, backend="torch_scatter")


@pytest.mark.untyped
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="backend: expected 'builtin' or 'torch_scatter', got 'torch'"):
        voxel_scatter(torch.rand(1, 2), torch.tensor([0]), 2, backend="torch")
    values, index = torch.rand(4, 2), torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"index: expected cells below num_cells=2, got 2"):
        voxel_scatter(values, index, 2)
    with pytest.raises(ValueError, match=r"index: expected cells below num_cells=2, got 2"):
        voxel_scatter_reference(values, index, 2)
    with pytest.raises(ValueError, match=r"index: expected \(P\) with P=4, got \(3,\)"):
        voxel_scatter(values, index[:3], 3)
    with pytest.raises(ValueError, match=r"index: expected int32 or int64, got torch\.float32"):
        voxel_scatter(values, index.float(), 3)
    with pytest.raises(ValueError, match=r"values: expected a floating type, got torch\.int64"):
        voxel_scatter(torch.ones(4, 2, dtype=torch.long), index, 3)
    with pytest.raises(ValueError, match="reduce: expected 'sum', 'mean' or 'max', got 'min'"):
        voxel_scatter(values, index, 3, reduce="min")
    with pytest.raises(ValueError, match="plan: expected one of 4 points and 3 cells, got 4 and 5"):
        voxel_scatter(values, index, 3, plan=scatter_plan(index, 5))
    with pytest.raises(ValueError, match="num_cells: expected at most 2147483646, got 2147483647"):
        scatter_plan(index, 2**31 - 1)
    with pytest.raises(ValueError, match="num_cells: expected at least 0, got -1"):
        scatter_plan(index, -1)
