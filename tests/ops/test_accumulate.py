"""Sums along rays: a loop as the truth, every width, half precision, derivatives of any order."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain.ops import accumulate, accumulate_reference, has_native

SHAPES = [(5,), (3, 17), (2, 9, 33), (0, 4), (3, 0)]
CHANNELS = [0, 1, 3, 5, 16, 17, 32, 64, 80, 512]


def arguments(shape, channels, device, dtype=torch.float64):
    weights = torch.rand(shape, device=device, dtype=dtype).requires_grad_()
    values = torch.randn(*shape, channels, device=device, dtype=dtype).requires_grad_()
    return weights, values


@pytest.mark.parametrize("function", [accumulate, accumulate_reference])
def test_by_hand(function, device):
    weights, values = torch.tensor([0.5, 0.25]), torch.tensor([[1.0, 2.0], [4.0, -8.0]])
    assert_close(function(weights.to(device), values.to(device)).cpu(), torch.tensor([1.5, -1.0]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_reference(shape, channels, dtype, device):
    leaves = arguments(shape, channels, device, dtype)
    out, expected = accumulate(*leaves), accumulate_reference(*leaves)
    # Sums of up to 512 products of numbers of size one, in another order.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    assert_close(out, expected, **tolerance)
    upstream = torch.randn_like(out)
    grads = torch.autograd.grad(out, leaves, upstream)
    assert_close(grads, torch.autograd.grad(expected, leaves, upstream), **tolerance)


def test_derivatives_of_every_order(device):
    leaves = arguments((2, 5), 3, device)
    assert gradcheck(accumulate, leaves)
    assert gradgradcheck(accumulate, leaves)
    weights, values = leaves
    loss = accumulate(weights**2, values**2).square().sum()
    for _ in range(3):  # four orders, as for any polynomial
        (grad,) = torch.autograd.grad(loss, weights, create_graph=True)
        loss = grad.square().sum()
    (ours,) = torch.autograd.grad(loss, weights)
    loss = accumulate_reference(weights**2, values**2).square().sum()
    for _ in range(3):
        (grad,) = torch.autograd.grad(loss, weights, create_graph=True)
        loss = grad.square().sum()
    assert_close(ours, torch.autograd.grad(loss, weights)[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 16, 37])
def test_half_precision_is_read_and_summed_in_float32(dtype, channels, device):
    weights = torch.rand(4, 21, device=device).requires_grad_()
    values = torch.randn(4, 21, channels, device=device).to(dtype).requires_grad_()
    wide = values.detach().float().requires_grad_()
    out, expected = accumulate(weights, values), accumulate(weights, wide)
    assert out.dtype == torch.float32
    assert_close(out, expected, rtol=1e-6, atol=1e-6)  # the same numbers, tails summed in other lanes
    ours = torch.autograd.grad(out.square().sum(), (weights, values))
    theirs = torch.autograd.grad(expected.square().sum(), (weights, wide))
    # Up to 37 float32 products of size one, summed in other lanes.
    assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-5)
    # Rounded to half precision from numbers that differ in float32's last digit: to a neighbour at most.
    assert_close(ours[1], theirs[1].to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("function", [accumulate, accumulate_reference])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_sample_of_weight_zero_adds_nothing_whatever_its_value(function, value, device):
    weights, values = torch.tensor([1.0, 0.0, -0.0], device=device), torch.tensor([[1.0], [value], [value]])
    assert function(weights, values.to(device)).tolist() == [1.0]


@pytest.mark.parametrize("function", [accumulate, accumulate_reference])
def test_a_weight_of_zero_has_the_gradient_of_any_other(function, device):
    weights = torch.zeros(2, device=device, requires_grad=True)
    function(weights, torch.tensor([[3.0, 1.0], [-2.0, 0.5]], device=device)).sum().backward()
    assert weights.grad.tolist() == [4.0, -1.5]


def test_any_memory_layout(device):
    weights, values = arguments((6, 20), 18, device, torch.float32)
    expected = accumulate_reference(weights, values)
    turned = values.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert_close(accumulate(weights.detach().mT.contiguous().mT, turned), expected)
    shifted = torch.empty(values.numel() + 1, device=device)[1:].view_as(values).copy_(values.detach())
    assert_close(accumulate(weights, shifted), expected)


def test_it_equals_nerfacc():
    nerfacc = pytest.importorskip("nerfacc")
    weights, values = arguments((7, 30), 5, "cpu", torch.float32)
    assert_close(accumulate(weights, values), nerfacc.accumulate_along_rays(weights, values))


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    weights, values = (leaf.detach() for leaf in arguments((3, 7), 5, device))
    check_operator("accumulate", (weights, values))
    check_operator("accumulate_backward", (torch.randn_like(values[:, 0]), weights, values, [True, True]))


@pytest.mark.untyped
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"weights: expected \(\.\.\. S\), got \(\)"):
        accumulate(torch.tensor(0.5), torch.rand(3))
    with pytest.raises(ValueError, match=r"values: expected \(2, 3, 'C'\) like weights, got \(2, 4, 1\)"):
        accumulate(torch.rand(2, 3), torch.rand(2, 4, 1))
