"""Rendering distances in one pass is the opacity law, then compositing: forward, backward, on any threads."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain.ops import (
    accumulate,
    composite,
    composite_values,
    has_native,
    neus_alphas,
    neus_render,
    neus_render_reference,
)

CHANNELS = [0, 1, 3, 5, 16, 17, 32, 64, 80, 512]


def walls(*shape, channels=3, inv_s=20.0, device="cpu", dtype=torch.float64):
    """Rays that meet noisy walls, as arguments of neus_render."""

    def random(*size):
        return torch.rand(size, device=device, dtype=dtype)

    deltas = 0.05 + 0.1 * random(*shape)
    t = deltas.cumsum(-1)
    sdf = t[..., -1:] * 0.6 - t + 0.05 * random(*shape) if t.numel() else t
    cosines = 0.4 * random(*shape) - 1
    return sdf, cosines, deltas, t, torch.tensor(inv_s, device=device, dtype=dtype), random(*shape, channels)


def in_two_steps(sdf, cosines, deltas, t, inv_s, values, **options):
    return composite_values(neus_alphas(sdf, cosines, deltas, inv_s), values, t, **options)


def with_gradients(function, arguments, upstream, **options):
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    outputs = tuple(function(*leaves, **options))
    return *outputs, *torch.autograd.grad(outputs, leaves, upstream)


def upstream_of(arguments):
    values, depth = arguments[5][..., 0, :] if arguments[0].shape[-1] else arguments[5].sum(-2), arguments[0]
    batch = depth.sum(-1)
    return [torch.randn_like(x) for x in (values, batch, batch, depth)]


def close(ours, theirs, relative):
    for got, truth in zip(ours, theirs, strict=True):
        size = truth.abs().max().item() if truth.numel() else 0.0
        assert_close(got, truth, rtol=relative, atol=relative * max(size, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", CHANNELS)
def test_it_is_the_law_then_compositing(channels, dtype, device):
    arguments = walls(18, 37, channels=channels, device=device, dtype=dtype)
    upstream = upstream_of(arguments)
    ours, theirs = (with_gradients(f, arguments, upstream) for f in (neus_render, in_two_steps))
    # All but the sum over samples behind the gradient by the sharpness is the same arithmetic.
    close(ours[:8], theirs[:8], 0.0)
    close(ours[8:], theirs[8:], 1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("inv_s", [1.0, 50.0, 1e4, 1e6])
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(1,), (9, 30), (2, 17, 16), (0, 8), (3, 0)])
def test_it_equals_the_reference(shape, masked, early_stop, inv_s, device):
    arguments = walls(*shape, inv_s=inv_s, device=device)
    valid = torch.rand(shape, device=device) < 0.8 if masked else None
    if masked:  # what does not count is not looked at
        for tensor in (*arguments[:4], arguments[5]):
            tensor[~valid] = torch.nan
    options = {"valid": valid, "early_stop": early_stop}
    upstream = upstream_of(arguments)
    ours, theirs = (
        with_gradients(f, arguments, upstream, **options) for f in (neus_render, neus_render_reference)
    )
    # Plain PyTorch forms 1 - sigmoid, rounded to 1e-16, and multiplies it by up to inv_s / epsilon.
    close(ours, theirs, 1e-9)


def test_gradients_equal_finite_differences(device):
    leaves = [x.requires_grad_() for x in walls(2, 6, inv_s=5.0, device=device)]
    assert gradcheck(lambda *x: tuple(neus_render(*x)), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_values(dtype, device):
    *rest, values = walls(5, 20, channels=19, device=device, dtype=torch.float32)
    arguments = (*rest, values.to(dtype))
    upstream = upstream_of((*rest, values))
    ours, theirs = (with_gradients(f, arguments, upstream) for f in (neus_render, in_two_steps))
    assert ours[0].dtype == torch.float32 and ours[-1].dtype == dtype
    close(ours[:-2], theirs[:-2], 0.0)
    close(ours[-1:], theirs[-1:], 0.0)


def test_any_memory_layout(device):
    arguments = walls(18, 33, channels=18, device=device, dtype=torch.float32)
    expected = tuple(neus_render(*arguments))
    turned = [x.mT.contiguous().mT if x.dim() > 1 else x for x in arguments]
    assert_close(tuple(neus_render(*turned)), expected)
    shifted = [torch.empty(x.numel() + 1, device=device)[1:].view_as(x).copy_(x) for x in arguments]
    assert_close(tuple(neus_render(*shifted)), expected)


@pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
def test_the_number_of_threads_does_not_change_a_bit(threads):
    arguments = walls(500, 33, channels=19, dtype=torch.float32)
    valid = torch.rand(500, 33) < 0.9
    upstream = upstream_of(arguments)
    sdf, cosines, deltas, _, inv_s, values = arguments

    def law(sdf, cosines, deltas, inv_s):
        return (neus_alphas(sdf, cosines, deltas, inv_s),)

    def everything():
        return (
            *with_gradients(neus_render, arguments, upstream, valid=valid),
            *with_gradients(in_two_steps, arguments, upstream, valid=valid),
            *with_gradients(law, (sdf, cosines, deltas, inv_s), upstream[3:]),
            *with_gradients(lambda w, v: (accumulate(w, v),), (sdf, values), upstream[:1]),
            *with_gradients(lambda a: (composite(a, valid),), (deltas,), upstream[3:]),
        )

    results = set()
    for count in (1, 2, 4):
        threads(count)
        results.add(b"".join(tensor.detach().numpy().tobytes() for tensor in everything()))
    assert len(results) == 1


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schema_shapes_and_derivatives_hold_together(device, check_operator):
    arguments = walls(3, 7, device=device)
    valid = torch.rand(3, 7, device=device) < 0.8
    check_operator("neus_render", (*arguments, valid, 0.01))
    out = neus_render(*arguments)
    grads = [torch.randn_like(out.values), torch.randn_like(out.depth), None, None]
    saved = (*arguments, None, out.depth, out.opacity, out.weights)
    for need_values in (True, False):
        check_operator("neus_render_backward", (*saved, *grads, 0.0, need_values))


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
@pytest.mark.skipif(not has_native("cpu"), reason="the compiler traces the operators")
def test_a_compiled_loss_and_its_gradient_are_those_of_eager_mode():
    def loss(*arguments):
        found = neus_render(*arguments)
        return found.values.square().sum() + found.depth.sum()

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        leaves = [x.requires_grad_() for x in walls(4, 9)]
        value = function(*leaves)
        results.append((value, *torch.autograd.grad(value, leaves)))
    assert_close(*results)


@pytest.mark.untyped
def test_errors_name_the_argument():
    sdf, cosines, deltas, t, inv_s, values = walls(2, 3)
    with pytest.raises(ValueError, match=r"values: expected \(2, 3, 'C'\) like sdf, got \(2, 2, 3\)"):
        neus_render(sdf, cosines, deltas, t, inv_s, values[:, 1:])
    with pytest.raises(ValueError, match=r"deltas: expected \(2, 3\) like sdf, got \(3,\)"):
        neus_render(sdf, cosines, deltas[0], t, inv_s, values)
