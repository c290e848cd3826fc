"""Tensors may lie anywhere in memory: those that go in, and the gradients that come back."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops

FRAME = ((1.0, 1.5, 0.75), (0.2, -0.1, 0.3))
SHAPE = (3, 4, 5)


def turned(tensor):
    """The same numbers with the axes in the reverse order of memory."""
    axes = [*range(tensor.dim())][::-1]
    return tensor.permute(axes).contiguous().permute(axes)


def shifted(tensor):
    """The same numbers one element behind the start of a block, off every vector's alignment."""
    return tensor.new_empty(tensor.numel() + 1)[1:].view(tensor.shape).copy_(tensor)


def cases(device):
    """By name: an operator, and its leaves."""

    def random(*shape):
        return torch.rand(*shape, device=device)

    rays, volume, points = random(18, 33), random(2, 19, *SHAPE), 4 * random(2, 50, 3)
    values = random(18, 33, 19)
    inv_s = torch.tensor(5.0, device=device)
    return {
        "grid_sample": (lambda v, p: ops.grid_sample(v, p, *FRAME), (volume, points)),
        "grid_sample_vjp": (
            lambda v, p, c: ops.grid_sample_vjp(v, p, c, *FRAME),
            (volume, points, random(2, 50, 19)),
        ),
        "splat": (lambda v, p: ops.splat(v, p, SHAPE, *FRAME), (random(2, 50, 19), points)),
        "composite": (ops.composite, (rays,)),
        "composite_values": (ops.composite_values, (rays, values, rays)),
        "neus_render": (
            lambda s, d, t, i, v: ops.neus_render(s - 0.5, -d, d, t, i, v),
            (rays, rays, rays, inv_s, values),
        ),
        "accumulate": (ops.accumulate, (rays, values)),
    }


def results(function, leaves, place):
    """The results and their gradients, with all that goes in and comes back placed by a function."""
    leaves = [place(leaf.detach()).requires_grad_() for leaf in leaves]
    found = function(*leaves)
    outputs = (found,) if isinstance(found, torch.Tensor) else tuple(found)
    upstream = [torch.linspace(-1, 1, x.numel(), device=x.device).reshape(x.shape) for x in outputs]
    return *outputs, *torch.autograd.grad(outputs, leaves, [place(grad) for grad in upstream])


@pytest.mark.parametrize("place", [turned, shifted])
@pytest.mark.parametrize("name", cases("cpu"))
def test_results_and_gradients_do_not_depend_on_where_tensors_lie(name, place, device):
    function, leaves = cases(device)[name]
    plain, moved = (results(function, leaves, how) for how in (torch.clone, place))
    for ours, expected in zip(moved, plain, strict=True):
        # The kernels of the CPU give the same bits; on CUDA the order of additions to a volume is not fixed,
        # and PyTorch's own sums run in the order of memory.
        exact = device.type == "cpu" and ops.has_native("cpu")
        tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-4}
        assert_close(ours, expected, check_stride=False, **tolerance)
