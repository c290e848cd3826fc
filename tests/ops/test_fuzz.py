"""Operators on random sizes: right calls equal their references, wrong ones raise and end no process."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from renderpretrain import ops

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
FRAME = (1.3, 2.0, 0.7), (0.2, -0.1, 0.3)
SIZES = st.integers(0, 6)
CHILD = Path(__file__).with_name("wrong_calls.py")
right_calls, in_table = (runpy.run_path(str(CHILD))[name] for name in ("right_calls", "in_table"))


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def rays(r, s, c):
    """Samples of rays: values, opacities, distances and which count."""
    return rand(r, s), rand(r, s, c), rand(r, s).cumsum(-1), rand(r, s) < 0.8


def _along_rays(r, s, c):
    a, v, t, valid = rays(r, s, c)
    sharp = torch.tensor(9.0, dtype=torch.float64)
    yield ops.accumulate, ops.accumulate_reference, (a, v), {}
    yield ops.composite, ops.composite_reference, (a,), {"valid": valid}
    yield ops.composite_values, ops.composite_values_reference, (a, v, t), {"valid": valid, "early_stop": 0.2}
    yield ops.distortion_loss, ops.distortion_loss_reference, (a, t, t + 0.1), {}
    yield ops.neus_alphas, ops.neus_alphas_reference, (a - 0.5, -a, a, sharp), {}
    yield ops.neus_render, ops.neus_render_reference, (a - 0.5, -a, a, t, sharp, v), {"valid": valid}
    for name in ("segment_exclusive_sum", "segment_exclusive_prod"):
        packed = a.flatten(), torch.arange(r + 1) * s
        yield getattr(ops, name), getattr(ops, f"{name}_reference"), packed, {}


def _in_volumes(b, p, c, z, y, x):
    volume, points, values = rand(b, c, z, y, x), 6 * rand(b, p, 3) - 1, rand(b, p, c)
    yield ops.grid_sample, ops.grid_sample_reference, (volume, points, *FRAME), {}
    yield ops.grid_sample_vjp, ops.grid_sample_vjp_reference, (volume, points, values, *FRAME), {}
    yield ops.splat, ops.splat_reference, (values, points, (z, y, x), *FRAME), {}
    index = torch.randint(-1, z + 1, (p,))
    for reduce in ("sum", "mean", "max"):
        given_ = (rand(p, c), index, z + 1)
        yield ops.voxel_scatter, ops.voxel_scatter_reference, given_, {"reduce": reduce}
    where = {"coordinates": 3 * rand(b, 2, p, 3) - 1.5, "valid": rand(b, 2, p) < 0.8, "reduce": "mean"}
    yield ops.image_lift, ops.image_lift_reference, (rand(b, 2, c, y, x), rand(b, 2, z, y, x)), where
    plan = ops.lss_plan(torch.randint(-1, z + 1, (b, z, y, x)), z + 1)
    yield ops.lss_pool, ops.lss_pool_reference, (rand(b, z, y, x), rand(b, c, y, x), plan), {}


def _without_gradient(b, p, z, y, x):
    points, ways, near = 6 * rand(b, p, 3) - 1, rand(b, p, 3) - 0.5, rand(b, p)
    grid, box = rand(b, z, y, x) < 0.5, ((-0.5, -0.2, 0.0), (4.0, 3.0, 2.0))
    yield ops.box_intersect, ops.box_intersect_reference, (points, ways, *box), {}
    yield ops.voxel_index, ops.voxel_index_reference, (points, rand(b, p) < 0.8, (z, y, x), *box, *FRAME), {}
    march = points, ways, near, near + 5, grid, *FRAME, 0.3
    yield ops.march, ops.march_reference, march, {"capacity": 4}
    yield ops.march_packed, ops.march_packed_reference, march, {}
    beams = points, points + ways * 9, rand(b, p) < 0.8, (z, y, x), *FRAME
    yield ops.raycast_grid, ops.raycast_grid_reference, beams, {}
    index = torch.randint(-1, z + 1, (p,))
    coords = grid.nonzero()[torch.randperm(int(grid.sum()))]
    if len(coords):
        table = coords, (b, z, y, x), (3, 1, 5)
        yield ops.submanifold_neighbors, ops.submanifold_neighbors_reference, table, {}
        strided = coords, (b, z, y, x), (3, 3, 3), (2, 1, 2), (1, 1, 1)
        yield ops.strided_neighbors, ops.strided_neighbors_reference, strided, {}
        chain = coords, (b, z, y, x), [strided[2:], ((1, 2, 1), (1, 1, 2), (0, 1, 0))]
        yield _flat(ops.strided_chain), _flat(ops.strided_chain_reference), chain, {}
    yield _occupied(ops.occupied_cells), _occupied(ops.occupied_cells_reference), (index, z + 1), {}


def _occupied(function):
    def tensors(index, num_cells):
        found = function(index, num_cells)
        return found.cells, found.rows, found.plan.order, found.plan.offsets

    return tensors


def _flat(function):
    return lambda *arguments: [table for tables in function(*arguments) for table in tables]


def check(function, reference, given_, options):
    """Outputs and, of what has a gradient, gradients: those of the reference, to rounding in float64."""
    results = []
    for run in (function, reference):
        leaves = [
            x.clone().requires_grad_() if isinstance(x, torch.Tensor) and x.is_floating_point() else x
            for x in given_
        ]
        found = run(*leaves, **options)
        outputs = [found] if isinstance(found, torch.Tensor) else list(found)
        total = sum(out.square().sum() for out in outputs if out.requires_grad)
        asked = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
        grads = (
            torch.autograd.grad(total, asked, allow_unused=True)
            if torch.is_tensor(total)
            else [None] * len(asked)
        )
        results.append(
            [*outputs, *(torch.zeros_like(x) if g is None else g for x, g in zip(asked, grads, strict=True))]
        )
    assert_close(*results, rtol=1e-9, atol=1e-9, check_stride=False)


def sizes(count):
    return st.tuples(*(SIZES,) * count)


def run_right_calls(cases, count):
    """The same for all cases at so many random sizes."""

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def one(data):
        function, number = data.draw(st.sampled_from(cases))
        drawn = data.draw(sizes(number))
        torch.manual_seed(data.draw(st.integers(0, 99)))
        for case in function(*drawn):
            check(*case)

    one()


CASES = [(_along_rays, 3), (_in_volumes, 6), (_without_gradient, 5)]


@needs_kernels
@pytest.mark.untyped  # the hook's wrappers cost more than the calls
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__.strip("_"))
@pytest.mark.parametrize("count", [12, pytest.param(2000, marks=pytest.mark.long)])
def test_right_calls_equal_their_references(case, count):
    run_right_calls([case], count)


@needs_kernels
@pytest.mark.untyped
@pytest.mark.parametrize("count", [300, pytest.param(100000, marks=pytest.mark.long)])
def test_wrong_calls_raise_and_end_no_process(count, tmp_path):
    last = tmp_path / "last"
    command = [sys.executable, str(CHILD), str(count), "same" if count < 1000 else "random", str(last)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (last.read_text(), done.stderr[-3000:])


@needs_kernels
def test_every_operator_is_called_wrongly():
    names = (name.split("::") for name in torch._C._dispatch_get_all_op_names())
    registered = {name for space, name in names if space == "renderpretrain"}
    assert registered == set(right_calls())


@needs_kernels
@pytest.mark.parametrize("name", sorted(right_calls()))
def test_the_calls_that_are_spoilt_were_right_and_read_any_memory(name):
    operator, arguments = getattr(torch.ops.renderpretrain, name), right_calls()[name]
    apart = [in_table(x) if torch.is_tensor(x) else x for x in arguments]
    assert_close(operator(*apart), operator(*arguments), rtol=0, atol=0, check_stride=False)
