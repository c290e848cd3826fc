"""Every operator with a derivative under both kinds of checkpoints, which compute it anew on the way back.

A checkpoint gives each saved tensor once.
"""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from renderpretrain import ops

FRAME = ((1.0, 2.0, 0.5), (0.2, -0.1, 0.3))
LIFT = ops.lss_plan(torch.arange(48).view(2, 3, 2, 4) % 7 - 1, 6)
VOXELS = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 1]], dtype=torch.int32)
TABLE = ops.submanifold_neighbors(VOXELS, (1, 2, 2, 2), (3, 3, 3))


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)))


A, V = rand(4, 7), rand(4, 7, 3)
FIELD = ops.FieldShape(ops.InjectedShape(3, 4, 2, 1))
MLP = ops.InjectedShape(3, 4, 2, 1, 0)
CASES = {
    "accumulate": (ops.accumulate, A, V),
    "composite": (ops.composite, A),
    "composite_values": (ops.composite_values, A, V, A.cumsum(-1)),
    "distortion_loss": (lambda w, a, b: ops.distortion_loss(w, a, a + b), A, A.cumsum(-1), A),
    "fused_mlp": (
        lambda x, w: ops.fused_mlp([x], w, MLP),
        *(rand(1, 6, 3), rand(MLP.num_parameters)),
    ),
    "grid_sample": (lambda v, p: ops.grid_sample(v, p, *FRAME), rand(1, 3, 3, 4, 5), 3 * rand(1, 6, 3)),
    "grid_sample_vjp": (
        lambda v, p, g: ops.grid_sample_vjp(v, p, g, *FRAME),
        *(rand(1, 3, 3, 4, 5), 3 * rand(1, 6, 3), rand(1, 6, 3)),
    ),
    "image_lift": (
        lambda f, p: ops.image_lift(f, p, rand(1, 2, 9, 3) - 0.5, rand(1, 2, 9) < 0.8),
        *(rand(1, 2, 3, 4, 5), rand(1, 2, 3, 4, 5)),
    ),
    "lss_pool": (lambda d, f: ops.lss_pool(d, f, LIFT), rand(2, 3, 2, 4), rand(2, 5, 2, 4)),
    "neus_alphas": (ops.neus_alphas, A - 0.5, -A, A, torch.tensor(9.0)),
    "neus_render": (ops.neus_render, A - 0.5, -A, A, A.cumsum(-1), torch.tensor(9.0), V),
    "sdf_field": (
        lambda v, p, w: ops.sdf_field(v, p, w, *FRAME, FIELD).gradients,
        *(rand(1, 3, 3, 4, 5), 3 * rand(1, 6, 3), rand(FIELD.num_parameters)),
    ),
    "segment_scan": (lambda x: ops.segment_exclusive_prod(x) + ops.segment_exclusive_sum(x), A),
    "sparse_conv3d": (lambda f, k: ops.sparse_conv3d(f, k, TABLE), rand(4, 3), rand(27, 3, 5)),
    "splat": (lambda v, p: ops.splat(v, p, (3, 4, 5), *FRAME), rand(1, 6, 3), 3 * rand(1, 6, 3)),
    "voxel_scatter": (lambda v: ops.voxel_scatter(v, torch.tensor([0, 2, 2, -1]), 3, reduce="max"), A),
}


@pytest.mark.skipif(not ops.has_native("cpu"), reason="operators are registered for native libraries")
def test_every_operator_with_a_derivative_is_here():
    names = (name.split("::") for name in torch._C._dispatch_get_all_op_names())
    ours = {name for space, name in names if space == "renderpretrain" and not name.endswith("_backward")}
    keyed = torch._C._dispatch_has_kernel_for_dispatch_key
    assert {name for name in ours if keyed(f"renderpretrain::{name}", "Autograd")} == set(CASES)


def total(found):
    parts = [found] if isinstance(found, torch.Tensor) else list(found)
    return sum(part.square().sum() for part in parts)


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "anew"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_without_a_checkpoint(name, reentrant):
    function, *inputs = CASES[name]
    results = []
    for run in (function, lambda *given: checkpoint(function, *given, use_reentrant=reentrant)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        total(run(*leaves)).backward()
        results.append([leaf.grad for leaf in leaves])
    assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_are_those_without_a_checkpoint(name):
    """The kind with hooks can be differentiated twice."""
    function, *inputs = CASES[name]
    results = []
    for run in (function, lambda *given: checkpoint(function, *given, use_reentrant=False)):
        leaves = [x.double().requires_grad_() for x in inputs]
        once = torch.autograd.grad(total(run(*leaves)), leaves, create_graph=True)
        results.append(torch.autograd.grad(total(once), leaves))
    assert_close(*results, rtol=1e-12, atol=1e-12)  # sums of other orders
