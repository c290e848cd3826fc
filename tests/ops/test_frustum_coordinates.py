"""Points in the frusta of pinhole cameras: on paper, and the kernel against the reference."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.ops import frustum_coordinates, frustum_coordinates_reference, has_native

FUNCTIONS = [frustum_coordinates, frustum_coordinates_reference]
# Looks along z from the origin; the image spans [-2, 2] x [-1, 1] on the plane z = 1.
LOOK = torch.tensor([[[0.5, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    points = torch.tensor([[1.0, 0, 2], [4.0, 0, 2], [-4.0, -2, 2], [0.0, 0, -2]], device=device)
    coordinates, valid = function(points, LOOK.to(device), (1.0, 5.0))
    # Between near and far; on the right edge, which is out; on the first edges, which are in; behind.
    expected = torch.tensor([[0.25, 0.0, -0.5], [1.0, 0.0, -0.5], [-1.0, -1.0, -0.5]])
    assert_close(coordinates[0, :3].cpu(), expected)
    assert valid[0].tolist() == [True, False, True, False]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_at_the_camera_or_out_of_reach_is_not_seen(function, device):
    points = torch.zeros(7, 3, device=device)
    points[:, 2] = torch.tensor([0.0, 1e-3, 1.0, 5.0, math.inf, math.nan, 2.0])
    coordinates, valid = function(points, LOOK.to(device), (1.0, 5.0))
    assert valid[0].tolist() == [False] * 6 + [True]
    assert coordinates[0, :4].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("views", "count"), [(1, 1), (3, 15), (3, 16), (2, 17), (6, 5000), (2, 0), (0, 4)])
@pytest.mark.parametrize("shared", [True, False])
def test_kernel_equals_reference(views, count, shared, dtype, device):
    points = 9 * torch.rand(*(() if shared else (views,)), count, 3, dtype=dtype, device=device) - 2
    matrices = LOOK.to(points) + 0.3 * torch.randn(views, 3, 4, dtype=dtype, device=device)
    coordinates, valid = frustum_coordinates(points, matrices, (0.5, 6.0))
    expected, expected_valid = frustum_coordinates_reference(points, matrices, (0.5, 6.0))
    # The two round differently, which decides for points within a rounding of an edge.
    near_edge = ((expected.abs() - 1).abs() < 1e-5).any(-1)
    assert torch.equal(valid | near_edge, expected_valid | near_edge)
    # A sum of four products of size ten, divided by a depth of one or more.
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    seen = valid & expected_valid
    assert_close(coordinates[seen], expected[seen], rtol=0, atol=tolerance)


def test_points_and_matrices_may_be_in_any_memory_order(device):
    points = 9 * torch.rand(3, 200, dtype=torch.float64, device=device).mT - 2
    matrices = LOOK.to(points) + 0.3 * torch.randn(2, 3, 4, dtype=torch.float64, device=device)
    assert not points.is_contiguous()
    turned = matrices.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    coordinates, valid = frustum_coordinates(points, turned, (0.5, 6.0))
    expected, expected_valid = frustum_coordinates_reference(points, matrices, (0.5, 6.0))
    assert valid.any() and torch.equal(valid, expected_valid)
    # Behind the camera there is nothing to compare.
    assert_close(coordinates[valid], expected[valid], rtol=0, atol=1e-12)


@pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
def test_the_number_of_threads_does_not_change_a_bit(threads):
    points, matrices = 9 * torch.rand(50_000, 3) - 2, LOOK + 0.3 * torch.randn(6, 3, 4)
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(frustum_coordinates(points, matrices, (0.5, 6.0)))
    for coordinates, valid in results[1:]:
        assert torch.equal(coordinates.nan_to_num(), results[0][0].nan_to_num())
        assert torch.equal(valid, results[0][1])


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_it_is_an_operator(device, check_operator):
    points, matrices = torch.rand(2, 20, 3, device=device), LOOK.to(device).repeat(2, 1, 1)
    check_operator("frustum_coordinates", (points, matrices, 0.0, 1.0, 1e-3), differentiable=False)
    check_operator("frustum_coordinates", (points[0], matrices, 0.0, 1.0, 1e-3), differentiable=False)


def test_half_precision_is_projected_in_float32(device):
    with torch.autocast(device.type, dtype=torch.bfloat16):
        coordinates, _ = frustum_coordinates(torch.rand(4, 3, device=device), LOOK.to(device), (0.0, 1.0))
    assert coordinates.dtype == torch.float32


@pytest.mark.untyped
def test_errors_name_the_argument():
    points = torch.rand(5, 3)
    with pytest.raises(ValueError, match=r"matrices: expected \(N 3 4\), got \(1, 3, 3\)"):
        frustum_coordinates(points, LOOK[..., :3], (0.0, 1.0))
    with pytest.raises(ValueError, match=r"points: expected \(N P 3\) with N=1, got \(2, 5, 3\)"):
        frustum_coordinates(points.expand(2, 5, 3), LOOK, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"depth_range: expected the nearest .* got \(1\.0, 1\.0\)"):
        frustum_coordinates(points, LOOK, (1.0, 1.0))
