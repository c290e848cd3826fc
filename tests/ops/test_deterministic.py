"""Under torch.use_deterministic_algorithms the results are those without, and the same bits in every run."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

FRAME = ((1.0, 1.5, 0.75), (0.2, -0.1, 0.3))
SHAPE = (3, 4, 5)


@pytest.fixture
def deterministic():
    """Asks PyTorch for it, which also fills new memory with NaN, and takes it back."""
    yield lambda: torch.use_deterministic_algorithms(True)
    torch.use_deterministic_algorithms(False)


def read(device):
    volume, points = torch.randn(2, 17, *SHAPE, device=device), 4 * torch.rand(2, 3000, 3, device=device)
    return lambda v, p: ops.grid_sample(v, p, *FRAME), (volume, points)


def slope(device):
    _, (volume, points) = read(device)
    cotangents = torch.randn(2, 3000, 17, device=device)
    return lambda v, p, c: ops.grid_sample_vjp(v, p, c, *FRAME), (volume, points, cotangents)


def splat(device):
    _, (_, points) = read(device)
    return lambda v, p: ops.splat(v, p, SHAPE, *FRAME), (torch.randn(2, 3000, 17, device=device), points)


def lift(device):
    maps, likely = torch.randn(1, 3, 17, 6, 8, device=device), torch.rand(1, 3, 5, 6, 8, device=device)
    where = 2.2 * torch.rand(1, 3, 3000, 3, device=device) - 1.1
    seen = torch.rand(1, 3, 3000, device=device) < 0.8
    return lambda f, p: ops.image_lift(f, p, where, seen, "mean"), (maps, likely)


def lift_for_certain(device):
    function, (maps, _) = lift(device)
    return lambda f: function(f, None), (maps,)


def field(device):
    shape = ops.FieldShape(ops.InjectedShape(17, 8, 3, 1))
    _, (volume, points) = read(device)
    parameters = torch.randn(shape.num_parameters, device=device) / 4
    return lambda v, p, w: ops.sdf_field(v, p, w, *FRAME, shape).gradients, (volume, points, parameters)


def network(device):
    shape = ops.InjectedShape(17, 8, 3, 1)
    inputs, points = torch.randn(2, 1000, 17, device=device), torch.randn(2, 1000, 3, device=device)
    parameters = torch.randn(shape.num_parameters, device=device) / 4
    return lambda x, p, w: ops.fused_mlp([x], w, shape, positions=p), (inputs, points, parameters)


def results(function, leaves):
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = function(*leaves)
    upstream = torch.linspace(-1, 1, out.numel(), device=out.device).reshape(out.shape)
    return out, *torch.autograd.grad(out, leaves, upstream)


@pytest.mark.parametrize("case", [read, slope, splat, lift, lift_for_certain, field, network])
def test_the_results_are_those_without_and_the_same_in_every_run(case, device, deterministic):
    function, leaves = case(device)
    expected = results(function, leaves)
    deterministic()
    once, again = results(function, leaves), results(function, leaves)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for ours, theirs in zip(once, expected, strict=True):
        # On CUDA thousands of float32 numbers of size one are added to a voxel in another order.
        tolerance = {"rtol": 1e-4, "atol": 1e-3} if device.type == "cuda" else {"rtol": 0, "atol": 0}
        assert_close(ours, theirs, check_stride=False, **tolerance)
