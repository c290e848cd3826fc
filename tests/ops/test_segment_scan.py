"""Scans along rays: on paper, against a loop and NerfAcc, rows like packed rays, and gradients at zeros."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import (
    segment_exclusive_prod,
    segment_exclusive_prod_reference,
    segment_exclusive_sum,
    segment_exclusive_sum_reference,
)

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
PAIRS = [
    (segment_exclusive_sum, segment_exclusive_sum_reference),
    (segment_exclusive_prod, segment_exclusive_prod_reference),
]
FUNCTIONS = [function for pair in PAIRS for function in pair]
COUNTS = [0, 1, 2, 3, 4, 5, 0, 0, 17, 33, 96, 1, 300, 0]


def packed(counts, device="cpu", dtype=torch.float64):
    """Samples around 1 with a zero in some rays and two in others, and offsets of rays of these lengths."""
    offsets = torch.tensor([0, *counts], device=device).cumsum(0)
    x = 1.3 - 0.5 * torch.rand(int(offsets[-1]), device=device, dtype=dtype)
    x[2::37] = 0.0
    x[3::53] = 0.0
    return x, offsets


def loop(function, x, offsets):
    """One sample after the other, in float64."""
    x, out = x.double().tolist(), []
    product = function in PAIRS[1]
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        state = 1.0 if product else 0.0
        for value in x[begin:end]:
            out.append(state)
            state = state * value if product else state + value
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], device=device)
    offsets = torch.tensor([0, 3, 3, 4, 6], device=device)
    expected = [1, 1, 2, 1, 1, 5] if function in PAIRS[1] else [0, 1, 3, 0, 0, 5]
    assert function(x, offsets).tolist() == expected
    assert function(x[:3]).tolist() == expected[:3]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ragged_rays_against_a_loop(function, dtype, device):
    x, offsets = packed(COUNTS, device, dtype)
    # 300 operations, each with a rounding error, on sums that reach 300.
    rtol, atol = (1e-5, 1e-5) if dtype == torch.float32 else (1e-12, 1e-12)
    assert_close(function(x, offsets).double().cpu(), loop(function, x, offsets), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 64), (2, 3, 33), (0, 8), (4, 0)])
def test_rows_against_the_reference(function, reference, shape, device):
    x = (1.3 - 0.5 * torch.rand(shape, device=device, dtype=torch.float64)).requires_grad_()
    upstream = torch.randn(shape, device=device, dtype=torch.float64)
    assert_close(function(x), reference(x))
    ours, theirs = (torch.autograd.grad(f(x), x, upstream)[0] for f in (function, reference))
    assert_close(ours, theirs, rtol=1e-10, atol=1e-10)  # sums of up to 64 terms in another order


@pytest.mark.parametrize("function", [pair[0] for pair in PAIRS])
def test_rows_and_packed_rays_have_the_same_bits(function, device):
    x = (1.3 - 0.5 * torch.rand(9, 37, device=device)).requires_grad_()
    upstream = torch.randn(9, 37, device=device)
    offsets = torch.arange(0, 9 * 37 + 1, 37, device=device)
    rows, rays = function(x), function(x.flatten(), offsets)
    assert torch.equal(rows.flatten(), rays)
    (by_rows,), (by_rays,) = (
        torch.autograd.grad(y, x, g) for y, g in ((rows, upstream), (rays, upstream.flatten()))
    )
    assert torch.equal(by_rows, by_rays)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
def test_gradients_at_zeros(function, reference, device):
    x, offsets = packed([3, 0, 5, 9, 1, 4], device)
    x[[1, 4, 6]] = 0.0  # one zero in the first ray, two in the second
    x.requires_grad_()
    assert gradcheck(lambda x: function(x, offsets), x)
    assert gradgradcheck(lambda x: function(x, offsets), x)
    ours, theirs = (torch.autograd.grad(f(x, offsets).square().sum(), x)[0] for f in (function, reference))
    assert_close(ours, theirs)


def test_a_zero_does_not_hide_the_gradient():
    x = torch.tensor([2.0, 0.0, 3.0, 5.0], requires_grad=True)
    segment_exclusive_prod(x)[3].backward()
    assert x.grad.tolist() == [0.0, 6.0, 0.0, 0.0]


def test_third_derivative():
    x = torch.tensor([2.0, 0.0, 3.0, 5.0], requires_grad=True)
    (first,) = torch.autograd.grad(segment_exclusive_prod(x)[3], x, create_graph=True)
    (second,) = torch.autograd.grad(first[0], x, create_graph=True)
    (third,) = torch.autograd.grad(second[1], x)
    assert third.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_a_product_that_underflows_stays_zero_and_has_a_gradient(device):
    x = torch.full((2, 400), 0.5, device=device, requires_grad=True)
    y = segment_exclusive_prod(x)
    assert_close(y[0, :100].cpu(), 0.5 ** torch.arange(100.0))
    assert not y[:, 160:].any()  # 2^-160 is no float
    y.sum().backward()
    # d/dx_0 of the sum of 2^-i is the sum of 2^(1 - i) over i >= 1, which is 2.
    assert_close(x.grad[:, 0].cpu(), torch.full((2,), 2.0))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_rays_and_no_samples(function, device):
    nothing, offsets = torch.empty(0, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    assert function(nothing, offsets).shape == (0,)
    assert function(nothing, offsets.repeat(4)).shape == (0,)


@pytest.mark.parametrize(("function", "reference"), PAIRS)
def test_memory_in_any_order_and_at_any_address(function, reference, device):
    x = 1.3 - 0.5 * torch.rand(9, 8, device=device)
    assert_close(function(x.mT), reference(x.mT))
    _, offsets = packed([5, 0, 11, 31], device)
    base = torch.rand(95, device=device)
    strided = torch.stack([offsets, offsets], 1)[:, 0]
    for part in (base[1:48], base[::2][:47]):
        assert_close(function(part, strided), reference(part, offsets))


@needs_kernels
@pytest.mark.parametrize("function", [pair[0] for pair in PAIRS])
def test_the_number_of_threads_does_not_change_a_bit(function, threads):
    x, offsets = packed(COUNTS * 40, dtype=torch.float32)
    x.requires_grad_()
    results = set()
    for count in (1, 2, 4):
        threads(count)
        y = function(x, offsets)
        (grad,) = torch.autograd.grad(y.sin().sum(), x)
        results.add(torch.cat([y, grad]).detach().numpy().tobytes())
    assert len(results) == 1


def test_half_precision_is_scanned_in_float32(device):
    x = torch.full((300,), 1.0, device=device, dtype=torch.bfloat16)
    assert segment_exclusive_sum(x)[-1] == 299.0  # bfloat16 stops counting at 256


@needs_kernels
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    x, offsets = packed([3, 0, 5, 9], device)
    for reverse in (False, True):
        check_operator("segment_scan", (None, x, offsets, reverse))
        check_operator("segment_scan", (x, None, None, reverse))
        check_operator("segment_scan", (x, x.sin(), offsets, reverse))


def test_it_equals_nerfacc():
    nerfacc = pytest.importorskip("nerfacc")
    x = 1.3 - 0.5 * torch.rand(5, 40)
    offsets = torch.arange(0, 201, 40)
    for ours, theirs in (
        (segment_exclusive_sum, nerfacc.exclusive_sum),
        (segment_exclusive_prod, nerfacc.exclusive_prod),
    ):
        # Both round 39 times in float32.
        assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
        assert_close(ours(x.flatten(), offsets), theirs(x).flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("wrong", [[1, 5], [0, 4], [0, 6], [0, 3, 2, 5], [-1, 5], [0, 9, 5]])
def test_offsets_that_do_not_cover_the_samples(function, wrong):
    with pytest.raises(ValueError, match="offsets: expected to rise from 0 to 5"):
        function(torch.rand(5), torch.tensor(wrong))


@pytest.mark.untyped
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"x: expected \(N\), got \(2, 3\)"):
        segment_exclusive_sum(torch.rand(2, 3), torch.tensor([0, 6]))
    with pytest.raises(ValueError, match=r"x: expected \(\.\.\. S\), got \(\)"):
        segment_exclusive_prod(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"offsets: expected int64 and one more than rays, got torch\.int32"):
        segment_exclusive_sum(torch.rand(3), torch.tensor([0, 3], dtype=torch.int32))
    with pytest.raises(ValueError, match=r"offsets: .*, got torch\.int64 and 0"):
        segment_exclusive_sum(torch.rand(3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"offsets: expected a tensor on cpu like x, got meta"):
        segment_exclusive_sum(torch.rand(3), torch.tensor([0, 3], device="meta"))
