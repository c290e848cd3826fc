"""Distortion of weights: on paper, against the double sum, gradients, and rays of any length."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import distortion_loss, distortion_loss_reference

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
FUNCTIONS = [distortion_loss, distortion_loss_reference]
COUNTS = [0, 1, 2, 3, 4, 0, 0, 17, 33, 96, 1, 150, 0]


def rays(*shape, device="cpu", dtype=torch.float64):
    """Weights, some of them 0, and intervals with gaps between them."""
    weights = torch.rand(*shape, device=device, dtype=dtype) / 9
    weights[..., ::5] = 0.0
    steps = torch.rand(*shape[:-1], 2 * shape[-1], device=device, dtype=dtype).cumsum(-1)
    return weights, steps[..., ::2].contiguous(), steps[..., 1::2].contiguous()


def packed(counts, device="cpu", dtype=torch.float64):
    """The same for rays of these lengths, one after the other, and their offsets."""
    columns = zip(*(rays(count, device=device, dtype=dtype) for count in counts), strict=True)
    offsets = torch.tensor([0, *counts], device=device).cumsum(0)
    return *(torch.cat(column) for column in columns), offsets


def double_sum(weights, t_starts, t_ends):
    """Equation 15 of the paper, word for word."""
    middles = (t_starts + t_ends) / 2
    pairs = weights[..., :, None] * weights[..., None, :]
    distances = (middles[..., :, None] - middles[..., None, :]).abs()
    return (pairs * distances).sum((-2, -1)) + (weights.square() * (t_ends - t_starts)).sum(-1) / 3


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    weights = torch.tensor([0.5, 0.25, 0.25], device=device)
    edges = torch.tensor([0.0, 2.0, 4.0, 10.0], device=device)
    # Middles 1, 3, 7: 2 (.125 * 2 + .125 * 6 + .0625 * 4) = 2.5.
    # Lengths 2, 2, 6: (.25 * 2 + .0625 * 2 + .0625 * 6) / 3 = 1 / 3.
    assert_close(function(weights, edges[:-1], edges[1:]).cpu(), torch.tensor(2.5 + 1.0 / 3))


def test_two_points_drawn_from_one_box_are_a_third_of_it_apart():
    draws = torch.rand(2, 200_000, dtype=torch.float64)
    one, start, end = (torch.tensor([x], dtype=torch.float64) for x in (1.0, 0.0, 1.0))
    # The mean of |a - b| of 200 000 pairs has a standard error of 0.24 / 447 = 5e-4.
    assert_close(distortion_loss(one, start, end), (draws[0] - draws[1]).abs().mean(), rtol=0, atol=3e-3)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 64), (2, 3, 33), (0, 8), (4, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_the_double_sum(function, shape, dtype, device):
    inputs = [x.requires_grad_() for x in rays(*shape, device=device, dtype=dtype)]
    losses, expected = function(*inputs), double_sum(*inputs)
    upstream = torch.randn_like(expected)
    # Thousands of terms in another order, of one sign; those of the derivatives by t differ in sign, below 1.
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    assert_close(losses, expected, **tolerance)
    grads, expected_grads = (torch.autograd.grad(y, inputs, upstream) for y in (losses, expected))
    assert_close(grads, expected_grads, **tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_packed_rays_are_rays(function, device):
    *inputs, offsets = packed(COUNTS, device)
    losses = function(*inputs, offsets)
    parts = zip(*(x.split(COUNTS) for x in inputs), strict=True)
    assert_close(losses, torch.stack([double_sum(*part) for part in parts]))


def test_rows_and_packed_rays_have_the_same_bits(device):
    inputs = [x.requires_grad_() for x in rays(9, 37, device=device, dtype=torch.float32)]
    offsets = torch.arange(0, 9 * 37 + 1, 37, device=device)
    rows, packed_rays = distortion_loss(*inputs), distortion_loss(*(x.flatten() for x in inputs), offsets)
    assert torch.equal(rows, packed_rays)
    ours, theirs = (torch.autograd.grad(y.sin().sum(), inputs) for y in (rows, packed_rays))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function, device):
    *inputs, offsets = packed([3, 0, 1, 6], device)
    inputs = [x.requires_grad_() for x in inputs]
    assert gradcheck(lambda *x: function(*x, offsets), inputs)
    assert gradgradcheck(lambda *x: function(*x, offsets), inputs)


def test_third_derivative():
    """The loss of one interval is w^2 (e - s) / 3, whose derivative by w, w and e is 2 / 3."""
    w, s, e = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (0.3, 1.0, 2.0))
    (first,) = torch.autograd.grad(distortion_loss(w, s, e), w, create_graph=True)
    (second,) = torch.autograd.grad(first, w, create_graph=True)
    (third,) = torch.autograd.grad(second, e)
    assert_close(third, torch.tensor([2 / 3], dtype=torch.float64))


@pytest.mark.parametrize("leaf", [0, 1, 2])
def test_one_gradient_alone_is_the_same(leaf, device):
    inputs = rays(4, 19, device=device)
    together = [x.clone().requires_grad_() for x in inputs]
    grads = torch.autograd.grad(distortion_loss(*together).sum(), together)
    alone = [x.clone().requires_grad_(place == leaf) for place, x in enumerate(inputs)]
    distortion_loss(*alone).sum().backward()
    assert torch.equal(alone[leaf].grad, grads[leaf])


def test_far_from_the_origin_nothing_cancels(device):
    """A surface a hundred metres away: weights on three samples a centimetre apart."""
    inputs = rays(96, device=device, dtype=torch.float32)
    starts = 100 + 0.01 * torch.arange(96.0, device=device)
    weights = torch.zeros_like(inputs[0])
    weights[40:43] = 0.3
    loss = distortion_loss(weights, starts, starts + 0.01)
    expected = double_sum(weights.double(), starts.double(), starts.double() + 0.01)
    assert_close(loss.double(), expected, rtol=2e-3, atol=0.0)  # 100 m has a rounding of 4e-6 m, of 0.01 m


def test_the_order_of_rays_is_that_of_the_losses(device):
    weights, starts, ends = rays(6, 20, device=device)
    order = torch.randperm(6, device=device)
    losses = distortion_loss(weights, starts, ends)
    assert torch.equal(distortion_loss(weights[order], starts[order], ends[order]), losses[order])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_rays_and_no_samples(function, device):
    nothing, offsets = torch.empty(0, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    assert function(nothing, nothing, nothing, offsets).shape == (0,)
    assert function(nothing, nothing, nothing, offsets.repeat(4)).tolist() == [0.0, 0.0, 0.0]
    assert function(nothing, nothing, nothing).tolist() == 0.0


def test_memory_in_any_order_and_at_any_address(device):
    inputs = [x.flatten() for x in rays(5, 9, device=device)]
    padded = [torch.cat([x.new_zeros(1), x])[1:].reshape(9, 5).mT for x in inputs]
    padded[1] = padded[1].sort(-1).values
    padded[2] = padded[1] + 0.1
    assert_close(distortion_loss(*padded), double_sum(*padded))


@needs_kernels
def test_the_number_of_threads_does_not_change_a_bit(threads):
    *inputs, offsets = packed(COUNTS * 40, dtype=torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    results = set()
    for count in (1, 2, 4):
        threads(count)
        losses = distortion_loss(*inputs, offsets)
        grads = torch.autograd.grad(losses.sin().sum(), inputs)
        results.add(torch.cat([losses, *grads]).detach().numpy().tobytes())
    assert len(results) == 1


@needs_kernels
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    *inputs, offsets = packed([3, 0, 5, 9], device)
    check_operator("distortion_loss", (*inputs, offsets))
    check_operator("distortion_loss", (*rays(2, 3, 7, device=device), None))
    grad = torch.rand(4, device=device, dtype=torch.float64)
    for ends_needed in (False, True):
        check_operator("distortion_loss_backward", (grad, *inputs, offsets, ends_needed))


@pytest.mark.untyped
def test_errors_name_the_argument():
    weights, starts, ends = rays(4, 6)
    with pytest.raises(ValueError, match=r"t_ends: expected \(4, 6\) like weights, got \(4, 5\)"):
        distortion_loss(weights, starts, ends[:, :5])
    with pytest.raises(ValueError, match=r"weights: expected \(N\), got \(4, 6\)"):
        distortion_loss(weights, starts, ends, torch.tensor([0, 24]))
    with pytest.raises(ValueError, match="offsets: expected to rise from 0 to 24"):
        distortion_loss(weights.flatten(), starts.flatten(), ends.flatten(), torch.tensor([0, 23]))
