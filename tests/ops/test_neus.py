"""The opacity law: on paper, against plain PyTorch, where it saturates, and where its gradients must pass."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain.ops import has_native, neus_alphas, neus_alphas_reference

FUNCTIONS = [neus_alphas, neus_alphas_reference]
SHARPNESS = [0.5, 20.0, 1e3, 1e6]


def intervals(*shape, device="cpu", dtype=torch.float64):
    """Distances on both sides of a surface, rays that enter and leave."""
    sdf = 0.3 * torch.randn(shape, device=device, dtype=dtype)
    cosines = 1.4 * torch.rand(shape, device=device, dtype=dtype) - 1
    return sdf, cosines, 0.05 + 0.2 * torch.rand(shape, device=device, dtype=dtype)


def by_definition(sdf, cosines, deltas, inv_s):
    """One interval in Python's own numbers."""
    drop = min(cosines, 0.0) * deltas / 2
    before, after = (1 / (1 + math.exp(-min(max(x * inv_s, -700), 700))) for x in (sdf - drop, sdf + drop))
    return min(max((before - after + 1e-5) / (before + 1e-5), 0.0), 1.0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("inv_s", SHARPNESS)
def test_it_is_the_definition(function, inv_s, device):
    tensors = intervals(40, device=device)
    expected = [
        by_definition(*numbers, inv_s) for numbers in zip(*(t.tolist() for t in tensors), strict=True)
    ]
    alphas = function(*tensors, torch.tensor(inv_s, device=device, dtype=torch.float64))
    assert_close(alphas.cpu(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 64), (2, 3, 33), (0, 8), (9001,)])
@pytest.mark.parametrize("inv_s", SHARPNESS)
def test_float32_is_as_close_to_float64_as_plain_pytorch(shape, inv_s, device):
    tensors = (*intervals(*shape, device=device), torch.tensor(inv_s, device=device, dtype=torch.float64))
    upstream = torch.randn(shape, device=device, dtype=torch.float64)

    def results(function, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in tensors]
        alphas = function(*leaves)
        return alphas, *torch.autograd.grad(alphas, leaves, upstream.to(dtype))

    exact = results(neus_alphas_reference, torch.float64)
    ours, theirs = (results(function, torch.float32) for function in FUNCTIONS)
    for mine, plain, truth in zip(ours, theirs, exact, strict=True):
        if truth.numel() == 0:
            continue
        scale = truth.abs().max().item()
        error, allowed = ((x - truth).abs().max().item() for x in (mine, plain))
        # Rounding of sdf times sharpness, which all have, and twenty operations of the law's own.
        assert error <= 2 * allowed + 2e-6 * scale


@pytest.mark.parametrize("inv_s", SHARPNESS)
def test_float64_equals_plain_pytorch(inv_s, device):
    tensors = (*intervals(5, 40, device=device), torch.tensor(inv_s, device=device, dtype=torch.float64))
    leaves = [t.requires_grad_() for t in tensors]
    upstream = torch.randn(5, 40, device=device, dtype=torch.float64)
    grads = [torch.autograd.grad(function(*leaves), leaves, upstream) for function in FUNCTIONS]
    # Plain PyTorch forms 1 - sigmoid, which has rounded to 1e-16.
    for ours, theirs in zip(*grads, strict=True):
        assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * max(1.0, theirs.abs().max().item()))


def test_gradients_equal_finite_differences(device):
    tensors = intervals(6, device=device)
    inv_s = torch.tensor(8.0, device=device, dtype=torch.float64)
    assert gradcheck(neus_alphas, [t.requires_grad_() for t in (*tensors, inv_s)])


@pytest.mark.skipif(not has_native("cpu"), reason="the reference rounds 1 - sigmoid to nothing here")
def test_the_gradient_survives_where_the_cdf_saturates():
    """Ten and twenty widths in front of a surface, where 1 - sigmoid is below float32's rounding of 1."""
    sdf = torch.tensor([10.0, 20.0], requires_grad=True)
    cosines, deltas = torch.full((2,), -1.0), torch.full((2,), 2.0)
    (ours,) = torch.autograd.grad(neus_alphas(sdf, cosines, deltas, torch.tensor(1.0)).sum(), sdf)
    exact = sdf.detach().double().requires_grad_()
    alphas = neus_alphas_reference(exact, cosines.double(), deltas.double(), torch.tensor(1.0).double())
    (truth,) = torch.autograd.grad(alphas.sum(), exact)
    assert_close(ours.double(), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_clip_lets_the_gradient_pass_at_its_bounds(function, device):
    """Deep inside, both ends' CDF is nothing and alpha is exactly 1; its gradient is that of the quotient."""
    sdf = torch.tensor([-4.6], device=device, requires_grad=True)
    one = torch.ones(1, device=device)
    alphas = function(sdf, -one, one, torch.tensor(8.0, device=device))
    (grad,) = torch.autograd.grad(alphas.sum(), sdf)
    assert alphas.item() == 1.0
    assert grad.item() < 0  # -inv_s nc / epsilon
    assert_close(grad.item(), -8 * math.exp(-8 * 5.1) / 1e-5, rtol=1e-3, atol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_is_nan_where_exponents_overflow(function, device):
    sdf = torch.tensor([1e3, -1e3, 3e38, -3e38, 0.0], device=device, requires_grad=True)
    cosines, deltas = torch.full_like(sdf, -1.0), torch.ones_like(sdf)
    inv_s = torch.tensor(1e6, device=device, requires_grad=True)
    alphas = function(sdf[:2], cosines[:2], deltas[:2], inv_s)
    grads = torch.autograd.grad(alphas.sum(), (sdf, inv_s))
    assert all(tensor.isfinite().all() for tensor in (alphas, *grads))
    assert_close(
        function(sdf, cosines, deltas, inv_s)[2:].cpu(), torch.tensor([0.0, 1.0, 1.0]), atol=2e-5, rtol=0
    )


def test_any_memory_layout(device):
    sdf, cosines, deltas = intervals(6, 50, device=device, dtype=torch.float32)
    inv_s = torch.tensor(20.0, device=device)
    expected = neus_alphas(sdf, cosines, deltas, inv_s)
    turned = (tensor.mT.contiguous().mT for tensor in (sdf, cosines, deltas))
    assert_close(neus_alphas(*turned, inv_s), expected, rtol=0, atol=0)
    shifted = torch.empty(301, device=device)[1:].view(6, 50).copy_(sdf)
    assert_close(neus_alphas(shifted, cosines, deltas, inv_s), expected, rtol=0, atol=0)


def test_half_precision_is_widened(device):
    sdf = torch.zeros(3, device=device, dtype=torch.bfloat16)
    assert neus_alphas(sdf, sdf, sdf, torch.tensor(1.0, device=device)).dtype == torch.float32


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    tensors = (*intervals(3, 7, device=device), torch.tensor(9.0, device=device, dtype=torch.float64))
    check_operator("neus_alphas", tensors)
    check_operator("neus_alphas_backward", (torch.randn_like(tensors[0]), *tensors))


@pytest.mark.untyped
def test_errors_name_the_argument():
    x = torch.zeros(3)
    with pytest.raises(ValueError, match=r"cosines: expected \(3,\) like sdf, got \(2,\)"):
        neus_alphas(x, x[:2], x, torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"inv_s: expected \(\), got \(1,\)"):
        neus_alphas(x, x, x, torch.ones(1))
