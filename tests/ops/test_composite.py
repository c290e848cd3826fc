"""Compositing: on paper, the kernel against the reference, gradients where a sample is empty or opaque."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain.ops import composite, composite_reference

SHAPES = [(1,), (7,), (3, 64), (2, 3, 33), (2, 100), (0, 8), (4, 0)]


def alphas_with_edges(*shape, device="cpu"):
    """Random opacities with an empty first sample and opaque ones in the middle: the singular cases."""
    alphas = torch.rand(*shape, device=device, dtype=torch.float64)
    alphas[..., :1] = 0.0
    alphas[..., shape[-1] // 2 : shape[-1] // 2 + 1] = 1.0
    alphas[..., shape[-1] // 2 + 2 : shape[-1] // 2 + 3] = 1.0
    return alphas.requires_grad_()


@pytest.mark.parametrize("function", [composite, composite_reference])
def test_by_hand(function, device):
    alphas = torch.tensor([0.5, 0.5, 1.0, 0.9], device=device)
    assert_close(function(alphas).cpu(), torch.tensor([0.5, 0.25, 0.25, 0.0]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_reference(shape, dtype, device):
    alphas = alphas_with_edges(*shape, device=device).detach().to(dtype).requires_grad_()
    upstream = torch.randn(shape, device=device, dtype=dtype)
    weights, expected = composite(alphas), composite_reference(alphas)
    assert_close(weights, expected)
    (grad,) = torch.autograd.grad(weights, alphas, upstream)
    (expected_grad,) = torch.autograd.grad(expected, alphas, upstream)
    # The two sum the tail of the ray in a different order: a few roundings of numbers of size one.
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert_close(grad, expected_grad, rtol=tolerance, atol=tolerance)


def test_the_axes_may_be_in_any_memory_order(device):
    alphas = torch.rand(9, 4, device=device).mT
    assert not alphas.is_contiguous()
    assert_close(composite(alphas), composite_reference(alphas))


def test_the_weights_sum_to_the_opacity(device):
    alphas = torch.rand(5, 16, device=device)
    assert_close(composite(alphas).sum(-1), 1 - (1 - alphas).prod(-1))


def test_nothing_behind_an_opaque_sample_has_a_gradient(device):
    alphas = torch.tensor([0.3, 1.0, 0.5], device=device, requires_grad=True)
    composite(alphas)[2].backward()
    # w_2 = (1 - a_0)(1 - a_1) a_2: by a_1 it is -(1 - 0.3) 0.5, by the others 0.
    assert_close(alphas.grad.cpu(), torch.tensor([0.0, -0.35, 0.0]))


def test_what_nobody_sees_spoils_no_gradient(device):
    alphas = torch.tensor([[1.0, 1.0, 0.5]], device=device, requires_grad=True)
    upstream = torch.tensor([[1.0, 1.0, torch.inf]], device=device)
    composite(alphas).backward(upstream)
    # Behind two opaque samples nothing comes to light, whichever of them changes.
    assert_close(alphas.grad, torch.tensor([[0.0, 0.0, 0.0]], device=device))


def test_gradients_at_the_edges(device):
    assert gradcheck(composite, alphas_with_edges(4, 9, device=device))
    assert gradgradcheck(composite, alphas_with_edges(2, 6, device=device))


@pytest.mark.parametrize("shape", [(7,), (3, 64), (19, 33), (2, 3, 20)])
def test_samples_that_are_not_valid_are_as_if_they_were_not_there(shape, device):
    alphas = alphas_with_edges(*shape, device=device).detach()
    valid = torch.rand(shape, device=device) < 0.7
    alphas[~valid] = torch.nan
    alphas.requires_grad_()
    upstream = torch.randn(shape, device=device, dtype=alphas.dtype)
    weights, expected = composite(alphas, valid), composite_reference(alphas, valid)
    assert_close(weights, expected)
    assert (weights[~valid] == 0).all()
    (grad,) = torch.autograd.grad(weights, alphas, upstream)
    (expected_grad,) = torch.autograd.grad(expected, alphas, upstream)
    assert_close(grad, expected_grad)
    if len(shape) == 1:
        assert_close(weights[valid], composite(alphas[valid]))


def test_third_derivative():
    # w_2 = (1 - a_0)(1 - a_1) a_2, whose mixed third derivative is 1.
    alphas = torch.tensor([0.2, 0.6, 0.4], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(composite(alphas)[2], alphas, create_graph=True)
    (second,) = torch.autograd.grad(first[0], alphas, create_graph=True)
    (third,) = torch.autograd.grad(second[1], alphas)
    assert_close(third, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def test_half_precision_is_composited_in_float32(device):
    alphas = torch.full((96,), 0.05, device=device, dtype=torch.bfloat16)
    assert composite(alphas).dtype == torch.float32


@pytest.mark.untyped
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"alphas: expected \(\.\.\. S\), got \(\)"):
        composite(torch.tensor(0.5))
    with pytest.raises(ValueError, match=r"alphas: expected a floating type, got torch\.int64"):
        composite(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match=r"valid: expected torch\.bool of shape \(2,\) on cpu, got"):
        composite(torch.rand(2), torch.ones(3, dtype=torch.bool))


def test_it_equals_nerfacc():
    nerfacc = pytest.importorskip("nerfacc")
    alphas = torch.rand(5, 32)
    weights, _ = nerfacc.render_weight_from_alpha(alphas)
    # Both multiply 31 factors in float32.
    assert_close(composite(alphas), weights, rtol=1e-5, atol=1e-7)
