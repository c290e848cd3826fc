"""Lift-splat pooling: on paper, against the product in full, types, memory, threads and graphs."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import frustum_cells, lss_plan, lss_pool, lss_pool_reference

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
WIDTHS = [1, 3, 5, 16, 17, 32, 64, 80, 128, 130, 512]
NUM_CELLS = 40


def some_cells(device="cpu", shape=(4, 7, 5, 6)):
    """Some points dropped, some cells empty, and one cell with a third of all points."""
    cells = torch.randint(-3, NUM_CELLS // 2, shape, device=device).clamp(min=-1)
    return torch.where(torch.rand(shape, device=device) < 0.3, NUM_CELLS - 2, cells)


def inputs(plan, channels, dtype=torch.float32):
    images, height, width, bins = plan.cells.shape
    make = lambda *shape: torch.randn(*shape, device=plan.cells.device, dtype=dtype)  # noqa: E731
    depth = make(images, bins, height, width).softmax(1)
    return depth.requires_grad_(), make(images, channels, height, width).requires_grad_()


def outcome(function, depth, features, plan, upstream=None):
    """The result and both gradients."""
    pooled = function(depth, features, plan)
    upstream = torch.linspace(-1, 1, pooled.numel()).reshape(pooled.shape) if upstream is None else upstream
    grads = torch.autograd.grad(pooled, (depth, features), upstream.to(pooled))
    return pooled, *grads


@pytest.mark.parametrize("function", [lss_pool, lss_pool_reference])
def test_by_hand(function, device):
    """Two pixels with two bins: one point is dropped, one cell gets two points, one none."""
    cells = torch.tensor([[[[0, 2]], [[2, -1]]]], device=device)
    depth = torch.tensor([[[[0.25, 0.5]], [[0.75, 0.5]]]], device=device, requires_grad=True)
    features = torch.tensor([[[[2.0, 4.0]]]], device=device, requires_grad=True)
    pooled = function(depth, features, lss_plan(cells, 3))
    assert pooled.tolist() == [[0.5], [0.0], [3.5]]
    (pooled * torch.tensor([[1.0], [10.0], [100.0]], device=device)).sum().backward()
    assert depth.grad.tolist() == [[[[2.0, 400.0]], [[200.0, 0.0]]]]
    assert features.grad.tolist() == [[[[75.25, 50.0]]]]


@pytest.mark.parametrize("channels", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_reference(channels, dtype, device):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    depth, features = inputs(plan, channels, dtype)
    ours = outcome(lss_pool, depth, features, plan)
    # Sums of up to 512 products of size one, in another order.
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    for result, expected in zip(ours, outcome(lss_pool_reference, depth, features, plan), strict=True):
        assert_close(result, expected, **close)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [16, 21])
def test_half_precision_is_read_as_it_is_and_summed_in_float32(stored, channels, device):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    depth, features = (t.detach().to(stored).requires_grad_() for t in inputs(plan, channels))
    wide = [t.detach().float().requires_grad_() for t in (depth, features)]
    pooled, *grads = outcome(lss_pool, depth, features, plan)
    expected, *expected_grads = outcome(lss_pool, *wide, plan)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert torch.equal(grad, expected_grad.to(stored))
    assert_close(lss_pool(wide[0], features, plan), expected, rtol=0, atol=0)
    assert lss_pool(wide[0].double(), features, plan).dtype == torch.float64


@needs_kernels
def test_subnormal_and_infinite_halves_keep_their_value():
    plan = lss_plan(torch.arange(4).reshape(1, 1, 2, 2), 4)
    values = torch.tensor([2.0**-24, -(2.0**-15), float("inf"), 65504.0], dtype=torch.float16)
    pooled = lss_pool(torch.ones(1, 1, 2, 2), values.reshape(1, 1, 2, 2), plan)
    assert pooled.flatten().tolist() == values.float().tolist()


@pytest.mark.parametrize(
    "cells",
    [
        torch.full((2, 3, 4, 5), -1),
        torch.full((2, 3, 4, 5), 39),
        torch.zeros(2, 3, 4, 5, dtype=torch.long),
        torch.zeros(0, 3, 4, 5, dtype=torch.long),
        torch.zeros(2, 0, 4, 5, dtype=torch.long),
        torch.zeros(2, 3, 0, 5, dtype=torch.long),
    ],
    ids=["all dropped", "all in the last", "all in the first", "no image", "no bin", "no row"],
)
@pytest.mark.parametrize("channels", [0, 6])
def test_lopsided_and_empty_frustums(cells, channels, device):
    plan = lss_plan(cells.to(device), NUM_CELLS)
    depth, features = inputs(plan, channels)
    for ours, expected in zip(
        outcome(lss_pool, depth, features, plan),
        outcome(lss_pool_reference, depth, features, plan),
        strict=True,
    ):
        assert_close(ours, expected, rtol=1e-5, atol=1e-5)  # sums of 120 products in float32


def test_no_cells(device):
    plan = lss_plan(torch.full((1, 2, 3, 4), -1, device=device), 0)
    depth, features = inputs(plan, 5)
    pooled, *grads = outcome(lss_pool, depth, features, plan)
    assert pooled.shape == (0, 5)
    assert not any(grad.any() for grad in grads)


def test_gradients(device):
    plan = lss_plan(some_cells(device, (2, 3, 2, 3)), NUM_CELLS)
    depth, features = inputs(plan, 5, torch.float64)
    assert gradcheck(lambda *given: lss_pool(*given, plan), (depth, features))


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_alone_is_that_of_both(wanted, device):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    given = inputs(plan, 19)
    expected = outcome(lss_pool, *given, plan)[1 + wanted]
    alone = [t.detach().requires_grad_(n == wanted) for n, t in enumerate(given)]
    pooled = lss_pool(*alone, plan)
    upstream = torch.linspace(-1, 1, pooled.numel()).reshape(pooled.shape).to(device)
    (grad,) = torch.autograd.grad(pooled, alone[wanted], upstream)
    assert torch.equal(grad, expected)


@needs_kernels
def test_memory_in_any_order_gives_the_same_bits():
    """Channels last, strided, one element off an aligned address; gradients in the order of the inputs."""
    plan = lss_plan(some_cells(), NUM_CELLS)
    depth, features = (t.detach() for t in inputs(plan, 21))
    shifted = lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)  # noqa: E731
    orders = (
        lambda t: t,
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: torch.stack([t, t], -1)[..., 0],
        shifted,
    )
    results = [
        outcome(lss_pool, *(order(t).detach().requires_grad_() for t in (depth, features)), plan)
        for order in orders
    ]
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
    assert results[1][1].is_contiguous(memory_format=torch.channels_last)


@needs_kernels
def test_the_number_of_threads_does_not_change_a_bit(threads):
    plan = lss_plan(torch.randint(-1, 3000, (3, 20, 16, 21)), 3000)
    depth, features = inputs(plan, 80)
    expected = outcome(lss_pool_reference, depth, features, plan)
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(outcome(lss_pool, depth, features, plan))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
    for result, reference in zip(results[0], expected, strict=True):
        assert_close(result, reference, rtol=1e-4, atol=1e-5)  # sums of tens of products in float32


def test_results_repeat(device):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    depth, features = inputs(plan, 33)
    once, again = (outcome(lss_pool, depth, features, plan) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_two_batch_elements_are_pooled_as_if_alone(device):
    points = torch.rand(2, 3, 4, 5, 6, 3, device=device) * 10 - 1
    frame = ((3, 4, 8), (1.0, 0.5, 0.4), (-0.5, -0.5, -0.5))
    both = lss_plan(frustum_cells(points, *frame).flatten(0, 1), 2 * 96)
    depth, features = inputs(both, 7)
    pooled = lss_pool(depth, features, both).view(2, 96, 7)
    for b in range(2):
        alone = lss_plan(frustum_cells(points[b : b + 1], *frame).flatten(0, 1), 96)
        mine = slice(3 * b, 3 * b + 3)
        assert pooled[b].any()
        assert torch.equal(pooled[b], lss_pool(depth[mine], features[mine], alone))


@pytest.mark.untyped
def test_errors_name_the_argument():
    plan = lss_plan(some_cells(), NUM_CELLS)
    depth, features = inputs(plan, 3)
    with pytest.raises(ValueError, match=r"depth_probabilities: expected \(N D H W\) with N=4, D=7"):
        lss_pool(depth[:, 1:], features, plan)
    with pytest.raises(ValueError, match=r"features: expected \(N C H W\) with N=4, H=5, W=6"):
        lss_pool(depth, features[1:], plan)
    with pytest.raises(ValueError, match=r"plan: expected one on cpu like features, got meta"):
        lss_pool(depth, features, plan.to("meta"))
    with pytest.raises(ValueError, match=r"features: expected a floating type, got torch\.int64"):
        lss_pool(depth, features.long(), plan)


@needs_kernels
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    depth, features = (t.detach() for t in inputs(plan, 5, torch.float64))
    lists = plan.cells, plan.order, plan.starts, plan.pixels, plan.bins
    check_operator("lss_pool", (depth, features, *lists))
    grad = torch.rand(NUM_CELLS, 5, device=device, dtype=torch.float64)
    last = depth.contiguous(memory_format=torch.channels_last)
    for given, needed in ((depth, [True, True]), (last, [True, True]), (last, [False, True])):
        check_operator("lss_pool_backward", (grad, given, features, *lists, needed))


@needs_kernels
def test_under_autocast_features_stay_in_half_precision(device):
    plan = lss_plan(some_cells(device), NUM_CELLS)
    depth, features = (t.detach() for t in inputs(plan, 5))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        pooled = lss_pool(depth.bfloat16(), features.bfloat16(), plan)
    assert torch.equal(pooled, lss_pool(depth.bfloat16(), features.bfloat16(), plan))


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_compiled_loss_and_its_gradient_are_those_of_eager_mode(memory):
    plan = lss_plan(some_cells(), NUM_CELLS)

    def loss(logits, features):
        return lss_pool(logits.softmax(1), features, plan).square().sum()

    results = []
    given = [t.detach().contiguous(memory_format=memory) for t in inputs(plan, 6)]
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        logits, features = (t.clone().requires_grad_() for t in given)
        value = function(logits, features)
        value.backward()
        results.append((value, logits.grad, features.grad))
    assert_close(*results)
