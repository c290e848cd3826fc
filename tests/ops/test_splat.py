"""Splatting: on paper, as the adjoint of reading, and the kernels against the reference."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops import grid_sample, splat, splat_reference

GRID = VoxelGrid((-2.0, 0.0, -1.0, 4.0, 2.5, 1.0), (1.0, 0.5, 1.0))  # 2 x 5 x 6 voxels
WHERE = (GRID.shape, GRID.scale, GRID.offset)
FUNCTIONS = [splat, splat_reference]


def values_and_points(channels, points, *, dtype=torch.float64, device="cpu"):
    """Random values, and points of which a third lie outside GRID."""
    values = torch.randn(2, points, channels, dtype=dtype, device=device)
    low, high = values.new_tensor(GRID.lower), values.new_tensor(GRID.upper)
    unit = 1.3 * torch.rand(2, points, 3, dtype=dtype, device=device) - 0.15
    return values.requires_grad_(), (low + unit * (high - low)).requires_grad_()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    points = torch.tensor([[[0.75, 0.5, 0.5], [-0.1, 0.5, 0.5], [1.99, 0.5, 0.5]]], device=device)
    values = torch.tensor([[[4.0], [10.0], [100.0]]], device=device)
    where = ((1, 1, 2), (1.0, 1.0, 1.0), (-0.5, -0.5, -0.5))  # voxel centres at x = 0.5 and 1.5
    shared = function(values, points, *where)
    # 4 is shared 3 : 1; 10 lies 0.6 voxels before the first centre, 100 lies 0.49 behind the second.
    assert_close(shared.flatten().cpu(), torch.tensor([3.0 + 4.0, 1.0 + 51.0]))


def test_a_slow_loop_agrees():
    values, points = values_and_points(2, 60)
    expected = torch.zeros(2, 2, *GRID.shape, dtype=torch.float64)
    for b, p in torch.cartesian_prod(torch.arange(2), torch.arange(60)).tolist():
        index = GRID.to_index(points[b, p])
        for z, y, x in torch.cartesian_prod(*(torch.arange(n) for n in GRID.shape)).tolist():
            distance = (index - torch.tensor([x, y, z])).abs()
            expected[b, :, z, y, x] += (1 - distance).clamp(min=0).prod() * values[b, p].detach()
    assert_close(splat(values, points, *WHERE), expected, check_stride=False)


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 17, 32, 64, 80, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_reference(channels, dtype, device):
    values, points = values_and_points(channels, 300, dtype=dtype, device=device)
    valid = torch.rand(2, 300, device=device) < 0.8
    upstream = torch.randn(2, channels, *GRID.shape, dtype=dtype, device=device)
    results = []
    for function in FUNCTIONS:
        volume = function(values, points, *WHERE, valid=valid)
        results.append([volume, *torch.autograd.grad(volume, (values, points), upstream)])
    # Sums of up to ten float32 numbers of size one, times 1 / 0.5 m in the slopes.
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {}
    assert_close(*results, check_stride=False, **tolerance)


def test_splatting_is_the_adjoint_of_reading(device):
    values, points = values_and_points(4, 50, device=device)
    volume = torch.randn(2, 4, *GRID.shape, dtype=torch.float64, device=device)
    read = grid_sample(volume, points, GRID.scale, GRID.offset)
    assert_close((read * values).sum(), (volume * splat(values, points, *WHERE)).sum())


def test_what_falls_inside_is_kept_whole(device):
    values, _ = values_and_points(3, 40, device=device)
    inside = GRID.centers(device).double().reshape(-1, 3)[:40]
    volume = splat(values, inside.expand(2, 40, 3), *WHERE)
    assert_close(volume.sum((2, 3, 4)), values.sum(1))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_dropped_points_leave_no_trace(function, device):
    values, points = values_and_points(3, 6, device=device)
    valid = torch.ones(2, 6, dtype=torch.bool, device=device)
    valid[:, 4] = False
    with torch.no_grad():
        points[:, 1], values[:, 1] = math.nan, math.nan
        points[:, 2, 0] = math.inf
        values[:, 4] = math.nan
    volume = function(values, points, *WHERE, valid=valid)
    volume.square().sum().backward()
    assert volume.isfinite().all()
    kept = [0, 3, 5]
    assert_close(volume, function(values[:, kept], points[:, kept], *WHERE))
    assert values.grad[:, [1, 2, 4]].count_nonzero() == 0
    assert points.grad[:, [1, 2, 4]].count_nonzero() == 0


def test_gradients(device):
    inputs = values_and_points(2, 6, device=device)
    assert gradcheck(lambda v, p: splat(v, p, *WHERE), inputs)
    assert gradgradcheck(lambda v, p: splat(v, p, *WHERE), inputs)


def test_there_may_be_no_points(device):
    values = torch.zeros(2, 0, 3, device=device)
    volume = splat(values, torch.zeros(2, 0, 3, device=device), *WHERE)
    assert_close(volume, torch.zeros(2, 3, *GRID.shape, device=device), check_stride=False)


@pytest.mark.untyped
def test_errors_name_the_argument():
    values, points = values_and_points(2, 5)
    with pytest.raises(ValueError, match=r"points: expected \(B P 3\) with B=2, P=5, got \(2, 4, 3\)"):
        splat(values, points[:, :4], *WHERE)
    with pytest.raises(
        ValueError, match=r"valid: expected torch\.bool of shape \(2, 5\) on cpu, got .* \(2, 4\)"
    ):
        splat(values, points, *WHERE, valid=torch.ones(2, 4, dtype=torch.bool))
