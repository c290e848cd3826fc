"""Operators in compiled graphs: results above the size where memory comes in huge pages, of changing size."""

import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops._native import HUGE_PAGES_FROM

# The compiler cannot trace the hook's wrappers.
pytestmark = [
    pytest.mark.untyped,
    pytest.mark.skipif(not ops.has_native("cpu"), reason="operators are registered for native libraries"),
]

WIDTH = 96
ENOUGH = HUGE_PAGES_FROM // (4 * WIDTH) + 1
"""Rays of WIDTH samples that fill more than one huge page in float32."""
FRAME = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def unit_boxes(count):
    """Rays that start in front of a grid and point into it."""
    origins = torch.tensor([-1.0, 0.5, 0.5]).expand(1, count, 3)
    return origins, torch.tensor([1.0, 0.1, 0.0]).expand(1, count, 3)


def composite_values(a):
    return ops.composite_values(a, a[..., None], a).values.sum()


def neus_render(a):
    return ops.neus_render(a, -a, a, a, a.new_tensor(9.0), a[..., None]).values.sum()


def neus_alphas(a):
    return ops.neus_alphas(a, -a, a, a.new_tensor(9.0)).sum()


def accumulate(a):
    return ops.accumulate(a, a[..., None]).sum()


def distortion_loss(a):
    return ops.distortion_loss(a, a, a + 1).sum()


def segment_exclusive_sum(a):
    return ops.segment_exclusive_sum(a).square().sum()


def grid_sample(a):
    points = a[None, :, :3] * 3
    return ops.grid_sample(a.new_ones(1, WIDTH, 4, 4, 4), points, *FRAME).sum()


def splat(a):
    return ops.splat(a[None], a[None, :, :3], (a.shape[0] // 8 + 1, 8, 1), *FRAME).square().sum()


def march(a):
    grid = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    near = a.detach()[None, :, 0]
    found = ops.march(*unit_boxes(a.shape[0]), near, near + 9, grid, *FRAME, 0.5, capacity=WIDTH)
    return a.sum() + found.t_starts.sum()


def raycast_grid(a):
    origins, directions = unit_boxes(8)
    valid = torch.ones(1, 8, dtype=torch.bool)
    passed, hits = ops.raycast_grid(origins, directions, valid, (a.shape[0], 12, 8), *FRAME)
    return a.sum() + passed.sum() + hits.sum()


FUNCTIONS = [
    composite_values,
    neus_render,
    neus_alphas,
    accumulate,
    distortion_loss,
    segment_exclusive_sum,
    grid_sample,
    splat,
    march,
    raycast_grid,
]


def assert_same(function, compiled, rays):
    results = []
    for run in (function, compiled):
        leaf = torch.linspace(0.01, 0.2, rays * WIDTH).reshape(rays, WIDTH).requires_grad_()
        value = run(leaf)
        results.append((value, *torch.autograd.grad(value, leaf)))
    # Sums of a million numbers of float32, which the compiler may put in another order.
    assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_results_may_be_large(function):
    assert_same(function, torch.compile(function, fullgraph=True, backend="aot_eager"), ENOUGH)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_one_graph_serves_small_and_large_results(function):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    assert_same(function, compiled, 64)
    graphs = counter.frame_count
    assert_same(function, compiled, ENOUGH)
    assert counter.frame_count == graphs


def training_step(volume, points, likely):
    """A loss as a recipe has it: lift, read, slope, compositing, and a term on normals."""
    where = points.detach().mT.reshape(1, 1, 3, -1).mT / 4 - 1
    seen = torch.ones_like(where[..., 0], dtype=torch.bool)
    lifted = ops.image_lift(volume[:, None, :, 0], likely, where, seen)
    read = ops.grid_sample(volume, points, *FRAME) + lifted
    normals = ops.grid_sample_vjp(volume, points, read, *FRAME)
    alphas = read[..., 0].sigmoid().unflatten(1, (-1, 8))
    seen = ops.composite_values(alphas, read[..., 1:].unflatten(1, (-1, 8)), alphas.cumsum(-1))
    return seen.values.square().sum() + seen.depth.sum() + normals.square().sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
@pytest.mark.skipif(not shutil.which("g++"), reason="the compiler's own back end needs one for C++")
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_training_step_compiles_with_the_default_back_end(dynamic):
    compiled = torch.compile(training_step, fullgraph=True, dynamic=dynamic)
    for count in (64, 256) if dynamic else (64,):
        torch.manual_seed(0)
        given = torch.randn(1, 5, 4, 6, 7), 6 * torch.rand(1, count, 3), torch.rand(1, 1, 3, 6, 7)
        results = []
        for function in (training_step, compiled):
            leaves = [leaf.clone().requires_grad_() for leaf in given]
            value = function(*leaves)
            results.append((value, *torch.autograd.grad(value, leaves)))
        # Generated code adds float32 numbers in another order.
        assert_close(*results, rtol=1e-4, atol=1e-4, check_stride=False)
