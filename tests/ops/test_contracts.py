"""Operators called by their names: every one refuses what its kernel could not follow."""

import math
import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops._contract import Contract

pytestmark = [
    pytest.mark.untyped,  # wrong calls are what this is about
    pytest.mark.skipif(not ops.has_native("cpu"), reason="operators are registered for native libraries"),
]
CALL = torch.ops.renderpretrain
FRAME = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


def test_every_tensor_of_an_operator_has_its_line():
    with pytest.raises(ValueError, match=r"f: expected a line for each of \['x', 'y'\]"):
        Contract("f(Tensor x, Tensor? y, int n) -> Tensor", {"x": "float S"})


def wrong_calls():
    ones, table = torch.ones, torch.zeros(27, 2, dtype=torch.int32)
    order, offsets = torch.arange(4, dtype=torch.int32), torch.tensor([0, 1, 3, 4], dtype=torch.int32)
    wide = torch.stack([offsets, offsets * 0 + 10**8], 1)[:, 0]
    empty = ones(8)
    empty.untyped_storage().resize_(0)
    short = ones(4, 2)
    across = short.t()
    short.untyped_storage().resize_(8)
    lift = ops.lss_plan(torch.zeros(1, 2, 2, 2, dtype=torch.int64), 3)
    plan = [lift.cells, lift.order, lift.starts, lift.pixels, lift.bins]
    maps = ones(1, 2, 2, 2), ones(1, 4, 2, 2)
    for place, wrong in (
        (1, lift.order * 0),
        (2, lift.starts + 10**8),
        (3, lift.pixels + 9),
        (4, lift.bins - 5),
    ):
        yield f"lift plan {place}", CALL.lss_pool, (*maps, *plan[:place], wrong, *plan[place + 1 :])
    grads = ones(3, 4), *maps, plan[0] + 10**8, *plan[1:], [True, True]
    yield "cells past the last", CALL.lss_pool_backward, grads
    yield "order past the points", CALL.voxel_scatter, (ones(4, 8), order + 10**8, offsets, "sum")
    yield "order too short", CALL.voxel_scatter, (ones(4, 8), order[:3], offsets, "sum")
    yield "offsets past the points", CALL.voxel_scatter, (ones(4, 8), order, offsets * 10**8, "sum")
    yield "no such reduction", CALL.voxel_scatter, (ones(4, 8), order, offsets, "min")
    twice = ones(3, 8), None, order // 2, offsets, "sum"
    yield "a point without gradient", CALL.voxel_scatter_backward, twice
    yield "nothing to take a maximum of", CALL.voxel_scatter_backward, (ones(3, 8), None, order, wide, "max")
    yield "another batch", CALL.grid_sample, (ones(1, 2, 2, 2, 2), ones(3, 5, 3), *FRAME)
    yield "another type", CALL.grid_sample, (ones(1, 2, 2, 2, 2), ones(1, 5, 3).double(), *FRAME)
    yield "no frame", CALL.grid_sample, (ones(1, 2, 2, 2, 2), ones(1, 5, 3), (math.inf,) * 3, FRAME[1])
    yield "integers", CALL.composite, (torch.ones(3, 4, dtype=torch.int64), None)
    yield "a mask of numbers", CALL.composite, (ones(3, 4), ones(3, 4))
    yield "a mask that is too small", CALL.composite, (ones(3, 4), torch.ones(3, 3, dtype=torch.bool))
    yield "a gradient of another shape", CALL.composite_backward, (ones(3, 2), ones(3, 4), None)
    yield "a gradient of another type", CALL.composite_backward, (ones(3, 4).double(), ones(3, 4), None)
    yield "memory that was given back", CALL.composite, (empty, None)
    yield "memory that was cut", CALL.composite, (short, None)
    yield "memory that was cut, seen across", CALL.composite, (across, None)
    yield "negative sizes", CALL.splat, (ones(1, 2, 3), ones(1, 2, 3), (-1, 2, 2), *FRAME)
    yield (
        "no step",
        CALL.march,
        (*2 * (ones(1, 2, 3),), *2 * (ones(1, 2),), ones(1, 2, 2, 2) > 0, *FRAME, 0.0, 3),
    )
    yield (
        "more voxels than numbers",
        CALL.voxel_index,
        (
            *(ones(1, 2, 3), ones(1, 2) > 0, (2**31,) * 3),
            *((-1.0,) * 3, (1.0,) * 3, *FRAME),
        ),
    )
    yield "nothing for a tensor", CALL.distortion_loss, (ones(2, 5), None, ones(2, 5), None)
    yield (
        "nothing for a mask",
        CALL.voxel_index,
        (
            *(ones(1, 2, 3), None, (2,) * 3),
            *((-1.0,) * 3, (1.0,) * 3, *FRAME),
        ),
    )
    yield "numbers beside none", CALL.voxel_scatter, (ones(4, 8), order, offsets.to("meta"), "sum")
    rays, samples = (ones(3),) * 2, (ones(3, 4),) * 2
    yield (
        "no gradient to find the values' by",
        CALL.composite_values_backward,
        (ones(3, 4), ones(3, 4, 2), ones(3, 4), None, *rays, ones(3, 4), *(None,) * 4, 0.0, True),
    )
    yield (
        "no gradient to find the values' by",
        CALL.neus_render_backward,
        (*samples, *samples, ones(()), ones(3, 4, 2), None, *rays, ones(3, 4), *(None,) * 4, 0.0, True),
    )
    yield "negative cells", CALL.scatter_plan, (torch.tensor([0, 1]), -5)
    yield "negative cells", CALL.occupied_cells, (torch.tensor([0, 1]), -5)
    yield "a table of other cells", CALL.sparse_conv3d, (ones(2, 3), ones(9, 3, 4), table, None)
    yield "voxels outside", CALL.submanifold_neighbors, (torch.full((1, 4), 7), (1, 2, 2, 2), (3, 3, 3))
    yield "an even kernel", CALL.submanifold_neighbors, (torch.zeros(1, 4).int(), (1, 2, 2, 2), (2, 3, 3))
    yield (
        "no stride",
        CALL.strided_neighbors,
        (torch.zeros(1, 4).int(), (1, 2, 2, 2), *((3,) * 3, (0,) * 3, (1,) * 3)),
    )
    yield "offsets past the samples", CALL.segment_scan, (None, ones(5), torch.tensor([0, 10**9]), False)
    yield (
        "a gradient for other rays",
        CALL.distortion_loss_backward,
        (ones(9), *3 * (ones(2, 5),), None, True),
    )
    yield "one position", CALL.neus_upsample, (ones(3, 1), ones(3, 1), 9.0, ones(4))
    yield "quantiles of other rays", CALL.neus_upsample, (ones(3, 4), ones(3, 4), 9.0, ones(2, 4))
    yield "no bins", CALL.resample, (ones(3, 1), ones(3, 0), ones(3, 2))
    yield "too few edges", CALL.resample, (ones(3, 4), ones(3, 4), ones(3, 2))
    yield "points of other views", CALL.frustum_coordinates, (ones(5, 2, 3), ones(3, 3, 4), 1.0, 2.0, 0.1)
    yield (
        "maps of other views",
        CALL.image_lift,
        (ones(1, 2, 3, 3, 4), None, ones(1, 3, 5, 3), ones(1, 3, 5) > 0, False),
    )
    yield "two numbers of sharpness", CALL.neus_alphas, (*3 * (ones(2, 3),), ones(2))


@pytest.mark.parametrize("call", list(wrong_calls()), ids=lambda call: call[0])
def test_a_wrong_call_is_refused(call):
    _, operator, arguments = call
    with pytest.raises((ValueError, RuntimeError), match="expected"):
        operator(*arguments)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own forward mode scripts
def test_forward_mode_is_refused_where_pytorch_would_take_all_tangents_for_zero():
    alphas = torch.rand(2, 5)
    along = torch.ones(2, 5)
    with pytest.raises(NotImplementedError, match="composite: has no forward-mode derivative"):
        torch.func.jvp(ops.composite, (alphas,), (along,))
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match="composite: has no forward-mode derivative"),
    ):
        ops.composite(forward_ad.make_dual(alphas, along))


def test_an_operator_called_by_its_name_reads_any_memory():
    """Expanded, transposed and a column of a table: the numbers count, not where they lie."""
    alphas = torch.rand(4, 3)
    for other in (alphas.t().contiguous().t(), torch.stack([alphas, alphas * 9], -1)[..., 0]):
        assert_close(CALL.composite(other, None), CALL.composite(alphas, None), rtol=0, atol=0)
        grads = CALL.composite_backward(torch.ones(()).expand(4, 3), other, None)
        assert_close(grads, CALL.composite_backward(torch.ones(4, 3), alphas, None), rtol=0, atol=0)


def test_any_number_of_cells_is_served(device):
    index = torch.tensor([5, -1, 2**62, 5], device=device)
    for num_cells in (2**62 + 1, 2**63 - 1):
        for function in (ops.occupied_cells, ops.occupied_cells_reference):
            found = function(index, num_cells)
            assert found.cells.tolist() == [5, 2**62]
            assert found.rows.tolist() == [0, -1, 1, 0]


@pytest.mark.parametrize("function", [ops.submanifold_neighbors, ops.submanifold_neighbors_reference])
def test_voxels_beyond_32_bits_are_told_apart(function):
    coords = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 2**32 + 1]])
    assert function(coords, (1, 1, 1, 2**33), (1, 1, 1)).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="shape: expected fewer than 2\\^63 voxels"):
        ops.submanifold_neighbors(coords, (1, 2**31, 2**31, 2**33), (1, 1, 1))


def test_marching_with_a_step_of_nothing_is_refused():
    rays = torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0, 0]]]), torch.zeros(1, 1), torch.full((1, 1), 9.0)
    for step in (1e-60, 1e-12):
        with pytest.raises(ValueError, match="step: expected"):
            ops.march_packed(*rays, torch.ones(1, 1, 1, 9, dtype=torch.bool), *FRAME, step)


def test_marching_from_far_away_costs_no_steps():
    rays = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 0, 0]]]).expand(1, 2, 3)
    near = torch.tensor([[-1e30, -2.0]])
    grid = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    arguments = (*rays, near, torch.full((1, 2), 9.0), grid, *FRAME, 0.25)
    expected = ops.march_reference(*arguments, capacity=40)
    assert expected.counts.tolist() == [[0, 12]]  # three metres
    assert_close(ops.march(*arguments, capacity=40), expected)


@pytest.mark.parametrize("function", [ops.voxel_index, ops.voxel_index_reference])
def test_a_grid_of_no_voxels_has_no_points_and_infinite_places_are_clipped(function):
    points, valid = torch.tensor([[[0.5, 0.5, 0.5], [3e38, 0.5, 0.5]]]), torch.ones(1, 2, dtype=torch.bool)
    box = (0.0, 0.0, 0.0), (3.4e38, 1.0, 1.0)
    assert function(points, valid, (1, 0, 1), *box, *FRAME).tolist() == [[-1, -1]]
    scale, offset = (1e3, 1.0, 1.0), (-0.5, -0.5, -0.5)
    assert function(points, valid, (1, 1, 600), *box, scale, offset).tolist() == [[500, 599]]


def test_where_no_depth_is_likely_nothing_is_seen(device):
    maps, where = torch.ones(1, 1, 2, 3, 3, device=device), torch.zeros(1, 1, 4, 3, device=device)
    maps.requires_grad_()
    found = ops.image_lift(maps, maps.new_ones(1, 1, 0, 3, 3), where, where[..., 0] == 0)
    found.sum().backward()
    assert found.abs().sum() == 0 and maps.grad.abs().sum() == 0


def test_without_kernels_empty_volumes_and_maps_have_gradients():
    code = (
        "import torch; from renderpretrain import ops\n"
        "volume, maps = torch.ones(1, 2, 0, 3, 3), torch.ones(1, 1, 2, 0, 3).requires_grad_()\n"
        "frame = (1.0,) * 3, (0.0,) * 3\n"
        "print(ops.grid_sample_vjp(volume, torch.ones(1, 4, 3), torch.ones(1, 4, 2), *frame).abs().sum())\n"
        "found = ops.image_lift(maps, None, torch.zeros(1, 1, 4, 3), torch.ones(1, 1, 4) > 0)\n"
        "found.sum().backward(); print(found.abs().sum().item(), maps.grad.shape)\n"
    )
    expected = "tensor(0.)\n0.0 torch.Size([1, 1, 2, 0, 3])\n"
    for native in ("", "0"):
        environment = {**os.environ, "RENDERPRETRAIN_NATIVE": native}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout == expected, done.stderr
