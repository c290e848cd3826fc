"""Values composited in one pass: a loop as the truth, singular samples, masks, early stop, every width."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain.ops import composite_values, composite_values_reference, has_native

FUNCTIONS = [composite_values, composite_values_reference]
CHANNELS = [0, 1, 3, 5, 16, 17, 32, 64, 80, 512]
SHAPES = [(1,), (7,), (3, 64), (17, 40), (2, 3, 33), (0, 8), (4, 0)]


def rays(*shape, channels=3, device="cpu", dtype=torch.float64):
    """Alphas with empty and opaque samples among them, values, and sorted places."""
    alphas = torch.rand(shape, device=device, dtype=dtype)
    alphas[torch.rand(shape, device=device) < 0.15] = 0.0
    alphas[torch.rand(shape, device=device) < 0.08] = 1.0
    values = torch.randn(*shape, channels, device=device, dtype=dtype)
    t = torch.rand(shape, device=device, dtype=dtype).cumsum(-1)
    return alphas, values, t


def by_loop(alphas, values, t, valid, early_stop):
    """One ray, one sample after the other."""
    light, total, along, colour = 1.0, 0.0, 0.0, torch.zeros(values.shape[-1], dtype=values.dtype)
    for alpha, value, place, counts in zip(alphas.tolist(), values, t.tolist(), valid.tolist(), strict=True):
        if light < early_stop or not counts:
            continue
        total += light * alpha
        along += light * alpha * place
        colour = colour + light * alpha * value
        light *= 1 - alpha
    return colour, along / (total + 1e-10), total


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("early_stop", [0.0, 0.02])
def test_it_is_the_definition(function, early_stop, device):
    alphas, values, t = rays(20, 18)
    valid = torch.rand(20, 18) < 0.8
    tensors = (tensor.to(device) for tensor in (alphas, values, t))
    found = function(*tensors, valid=valid.to(device), early_stop=early_stop)
    for ray in range(20):
        colour, depth, opacity = by_loop(alphas[ray], values[ray], t[ray], valid[ray], early_stop)
        assert_close(found.values[ray].cpu(), colour)
        assert_close([found.depth[ray].item(), found.opacity[ray].item()], [depth, opacity])


def close_with_gradients(leaves, dtype=torch.float64, **options):
    """Values and gradients of kernel and reference agree, by everything and from every output."""
    ours, theirs = (function(*leaves, **options) for function in FUNCTIONS)
    # Tails of rays and rows are summed in another order: some roundings of numbers of the largest one's size.
    relative = 1e-5 if dtype == torch.float32 else 1e-11
    upstream = [torch.randn_like(output) for output in ours]
    grads, expected = (torch.autograd.grad(outputs, leaves, upstream) for outputs in (ours, theirs))
    for got, truth in zip((*ours, *grads), (*theirs, *expected), strict=True):
        size = truth.abs().max().item() if truth.numel() else 0.0
        assert_close(got, truth, rtol=relative, atol=relative * max(size, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_width_equals_the_reference(channels, dtype, device):
    leaves = [x.requires_grad_() for x in rays(18, 37, channels=channels, device=device, dtype=dtype)]
    close_with_gradients(leaves, dtype)


@pytest.mark.parametrize("early_stop", [0.0, 0.1])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_equals_the_reference(shape, masked, early_stop, device):
    alphas, values, t = rays(*shape, device=device)
    valid = torch.rand(shape, device=device) < 0.7 if masked else None
    if masked:  # what does not count is not looked at
        alphas[~valid], t[~valid], values[~valid] = torch.nan, torch.nan, torch.nan
    leaves = [tensor.requires_grad_() for tensor in (alphas, values, t)]
    close_with_gradients(leaves, valid=valid, early_stop=early_stop)


@pytest.mark.parametrize("early_stop", [0.0, 0.3])
def test_gradients_at_empty_and_opaque_samples(early_stop, device):
    alphas = torch.tensor([[0.0, 0.3, 1.0, 0.5, 0.0], [0.0, 0.0, 0.7, 0.2, 0.9]], device=device).double()
    _, values, t = rays(2, 5, device=device)
    leaves = [tensor.requires_grad_() for tensor in (alphas, values, t)]
    # The reference is what autograd makes of the definition; finite differences step over an early stop.
    close_with_gradients(leaves, early_stop=early_stop)
    if not early_stop:
        assert gradcheck(lambda *x: tuple(composite_values(*x)), leaves)


def test_an_opaque_samples_gradient_sees_what_it_hides(device):
    """Opaque in front of opaque: sum w v = 0.5 v_0 + 0.5 (a v_1 + (1 - a) v_2), which falls with a."""
    alphas = torch.tensor([0.5, 1.0, 1.0, 1.0], device=device, requires_grad=True)
    values = torch.tensor([[0.0], [1.0], [7.0], [90.0]], device=device)
    composite_values(alphas, values, torch.ones(4, device=device)).values.sum().backward()
    assert_close(alphas.grad.cpu(), torch.tensor([-1.0, -3.0, 0.0, 0.0]))


def test_an_infinite_t_without_weight_spoils_no_gradient(device):
    alphas = torch.tensor([[0.5, 0.0]], device=device, requires_grad=True)
    t = torch.tensor([[1.0, torch.inf]], device=device)
    values = torch.tensor([[[1.0], [2.0]]], device=device)
    composite_values(alphas, values, t).values.sum().backward()
    assert_close(alphas.grad, torch.tensor([[1.0, 0.5 * 2.0]], device=device))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rays_without_samples_are_zero(function, device):
    alphas, values, t = rays(3, 20, device=device)
    found = function(alphas.requires_grad_(), values, t, valid=torch.zeros_like(alphas, dtype=torch.bool))
    assert all((output == 0).all() for output in found)
    sum(output.sum() for output in found).backward()
    assert (alphas.grad == 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_behind_an_early_stop_there_is_nothing(function, device):
    alphas = torch.tensor([0.9, 0.5, 0.5], device=device, requires_grad=True)
    values, t = torch.ones(3, 1, device=device), torch.ones(3, device=device)
    found = function(alphas, values, t, early_stop=0.06)
    assert_close(found.weights.detach().cpu(), torch.tensor([0.9, 0.05, 0.0]))
    found.weights.sum().backward()  # a_0 + (1 - a_0) a_1
    assert_close(alphas.grad.cpu(), torch.tensor([0.5, 0.1, 0.0]))


@pytest.mark.parametrize("used", ["values", "depth", "opacity", "weights"])
def test_one_output_alone_has_its_gradient(used, device):
    leaves = [tensor.requires_grad_() for tensor in rays(5, 21, device=device)]
    sums = [getattr(function(*leaves), used).square().sum() for function in FUNCTIONS]
    ours, theirs = (torch.autograd.grad(x, leaves, allow_unused=True, materialize_grads=True) for x in sums)
    assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_values(dtype, device):
    alphas, values, t = rays(5, 20, channels=19, device=device, dtype=torch.float32)
    values = values.to(dtype)
    leaves, wide = (alphas, values, t), (alphas, values.float(), t)
    found, expected = ([x.detach().requires_grad_() for x in xs] for xs in (leaves, wide))
    a, b = composite_values(*found), composite_values_reference(*expected)
    # The same float32 numbers of size one, twenty of them summed in another order.
    assert_close(tuple(a), tuple(b), rtol=1e-6, atol=2e-6)
    ours = torch.autograd.grad(a.values.square().sum() + a.depth.sum(), found)
    theirs = torch.autograd.grad(b.values.square().sum() + b.depth.sum(), expected)
    assert ours[1].dtype == dtype
    # The gradient is computed in float32 and then rounded; next to a boundary to the other neighbour.
    assert_close(ours[1].float(), theirs[1], rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
    # Sums over 19 channels and the tail of the ray of float32 numbers up to a hundred, in another order.
    assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6 * float(theirs[0].abs().max()))


def test_any_memory_layout(device):
    alphas, values, t = rays(18, 33, channels=18, device=device, dtype=torch.float32)
    expected = composite_values(alphas, values, t)
    turned = [tensor.mT.contiguous().mT for tensor in (alphas, values, t)]
    assert_close(tuple(composite_values(*turned)), tuple(expected))
    shifted = [torch.empty(x.numel() + 1, device=device)[1:].view_as(x).copy_(x) for x in (alphas, values, t)]
    assert_close(tuple(composite_values(*shifted)), tuple(expected))


def test_it_equals_nerfacc():
    nerfacc = pytest.importorskip("nerfacc")
    alphas = torch.rand(5, 32)
    _, values, t = rays(5, 32, dtype=torch.float32)
    weights, _ = nerfacc.render_weight_from_alpha(alphas)
    found = composite_values(alphas, values, t)
    # Both multiply 31 factors in float32.
    assert_close(found.values, nerfacc.accumulate_along_rays(weights, values), rtol=1e-5, atol=1e-6)
    assert_close(found.opacity, nerfacc.accumulate_along_rays(weights)[:, 0], rtol=1e-5, atol=1e-6)


def operands(device):
    alphas, values, t = rays(3, 7, device=device)
    return alphas, values, t, torch.rand(3, 7, device=device) < 0.8


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    alphas, values, t, valid = operands(device)
    check_operator("composite_values", (alphas, values, t, None, 0.0))
    check_operator("composite_values", (alphas, values, t, valid, 0.01))
    out = composite_values(alphas, values, t)
    grads = [torch.randn_like(out.values), None, torch.randn_like(out.opacity), None]
    for need_values in (True, False):
        saved = alphas, values, t, None, out.depth, out.opacity, out.weights
        check_operator("composite_values_backward", (*saved, *grads, 0.0, need_values))


@pytest.mark.untyped
def test_errors_name_the_argument():
    alphas, values, t = rays(2, 3)
    with pytest.raises(ValueError, match=r"values: expected \(2, 3, 'C'\) like alphas, got \(2, 3\)"):
        composite_values(alphas, t, t)
    with pytest.raises(ValueError, match=r"t: expected \(2, 3\), got \(2, 2\)"):
        composite_values(alphas, values, t[:, :2])
    with pytest.raises(
        ValueError, match=r"valid: expected torch\.bool of shape \(2, 3\) on cpu, got torch\.f"
    ):
        composite_values(alphas, values, t, valid=t)
    with pytest.raises(ValueError, match=r"early_stop: expected a transmittance in \[0, 1\), got 1\.0"):
        composite_values(alphas, values, t, early_stop=1.0)
