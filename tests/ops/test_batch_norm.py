"""Batch normalisation on a CPU is right to rounding, and trains as torch's does."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.ops.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, batch_norm

KINDS = {"rows": (BatchNorm1d, ()), "maps": (BatchNorm2d, (1,)), "volumes": (BatchNorm3d, (1, 1))}


def mostly_empty(kind, count, channels=4):
    """Voxels in channels-last memory of which one in twenty holds something, and their number of cells."""
    x = torch.zeros(2, count // 2, channels)
    x[torch.rand(2, count // 2) < 0.05] = 8 * torch.rand(channels)
    x = x * torch.rand_like(x)
    if kind == "rows":
        return x.flatten(0, 1)
    return x.view(2, count // 2, *KINDS[kind][1], channels).movedim(-1, 1)


def a_step(norm, x, grad):
    """Output, the input's gradient, statistics and the weights' gradients of a training step."""
    x = x.detach().requires_grad_()
    out = norm(x)
    out.backward(grad)
    return out, x.grad, norm.running_mean, norm.running_var, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_many_empty_voxels_is_that_of_float64(kind, momentum):
    torch.manual_seed(0)
    make, torchs = KINDS[kind][0], KINDS[kind][0].__base__
    x = mostly_empty(kind, 100_000)
    grad = torch.randn_like(x)
    norm, exact = make(4, momentum=momentum), torchs(4, momentum=momentum).double()
    # Torch itself is 3e-4 off in output and input, 3e-5 in the variance. The gradients of weights are sums of
    # 100 000 terms of either sign, and torch's.
    limits = (1e-6, 1e-6, 1e-6, 1e-6, 1e-4, 1e-4)
    steps = a_step(norm, x, grad), a_step(exact, x.double(), grad.double())
    for found, expected, limit in zip(*steps, limits, strict=True):
        assert (found - expected).norm() < limit * expected.norm()
    assert norm.num_batches_tracked == exact.num_batches_tracked == 1


@pytest.mark.parametrize("kind", KINDS)
def test_elsewhere_it_is_torchs(kind):
    make = KINDS[kind][0]
    norm, x = make(4), mostly_empty(kind, 200)
    other = make.__base__(4)
    other.load_state_dict(copy.deepcopy(norm.state_dict()))
    for training, values in ((True, x.double()), (True, x.contiguous()), (False, x)):
        a, b = (m.train(training).to(values.dtype)(values) for m in (norm, other))
        assert_close(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm.float().train()(x.float()[:1, :, :1] if kind != "rows" else x[:1])


def test_without_weights_or_running_statistics():
    x = mostly_empty("rows", 100)
    norm = BatchNorm1d(4, affine=False, track_running_stats=False)
    assert_close(norm(x), nn.BatchNorm1d(4, affine=False).double()(x.double()).float(), rtol=1e-4, atol=1e-5)


def test_second_derivatives_are_torchs():
    torch.manual_seed(0)
    x, grad = torch.randn(50, 4), torch.randn(50, 4)
    results = []
    for norm, values in ((BatchNorm1d(4), x), (nn.BatchNorm1d(4).double(), x.double())):
        values = values.requires_grad_()
        (first,) = torch.autograd.grad(norm(values), values, grad.to(values.dtype), create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), (values, norm.weight)))
    assert_close(*([r.float() for r in result] for result in results), rtol=1e-4, atol=1e-5)


@pytest.mark.untyped  # the compiler cannot trace the hook's wrappers
def test_a_graph_holds_torchs_own():
    x = mostly_empty("volumes", 200)
    norm = BatchNorm3d(4)
    compiled = torch.compile(copy.deepcopy(norm), backend="eager", fullgraph=True)
    assert_close(compiled(x), batch_norm(norm, x), rtol=1e-4, atol=1e-5)
