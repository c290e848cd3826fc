"""Every operator with a gradient has second derivatives, and third ones where its reference has them."""

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.testing import assert_close

from renderpretrain import ops

FRAME = ((1.0, 1.5, 0.75), (0.2, -0.1, 0.3))
SHAPE = (2, 3, 4)


def cases(device):
    """By name: the operator and its reference as functions of the same leaves."""

    def random(*shape):
        return torch.rand(*shape, dtype=torch.float64, device=device)

    rays, values, t = 0.8 * random(2, 5) + 0.1, random(2, 5, 3) - 0.5, random(2, 5).cumsum(-1)
    valid, inv_s = (
        torch.rand(2, 5, device=device) < 0.8,
        torch.tensor(3.0, dtype=torch.float64, device=device),
    )
    intervals = random(2, 5) - 0.5, -rays, 0.3 * random(2, 5) + 0.2
    volume, points = random(2, 3, *SHAPE), 3 * random(2, 4, 3) + 0.03
    offsets = torch.tensor([0, 2, 2, 5], device=device)
    plan = ops.lss_plan(torch.randint(-1, 6, (2, 3, 2, 2), device=device), 6)
    seen = torch.rand(1, 2, 6, device=device) < 0.8
    coordinates = 2.2 * random(1, 2, 6, 3) - 1.1
    maps, likely = random(1, 2, 3, 3, 4) - 0.5, random(1, 2, 2, 3, 4)
    coords = (torch.rand(1, 3, 3, 3, device=device) < 0.3).nonzero().int()
    _, inputs, outputs = ops.strided_neighbors(coords, (1, 3, 3, 3), (3, 3, 3), (2, 2, 2), (1, 1, 1))
    same = ops.submanifold_neighbors(coords, (1, 3, 3, 3), (3, 3, 3))
    index = torch.tensor([1, 0, -1, 1, 3], device=device)
    table = {
        "accumulate": ("accumulate", lambda f: f, (rays, values)),
        "composite": ("composite", lambda f: lambda a: f(a, valid), (rays,)),
        "composite_values": ("composite_values", lambda f: lambda *x: tuple(f(*x)), (rays, values, t)),
        "composite_values, masked": (
            "composite_values",
            lambda f: lambda *x: tuple(f(*x, valid=valid, early_stop=1e-6)),
            (rays, values, t),
        ),
        "distortion_loss": ("distortion_loss", lambda f: f, (rays, t, t + 0.1)),
        "distortion_loss, packed": (
            "distortion_loss",
            lambda f: lambda *x: f(*x, offsets),
            (rays[0], t[0], t[0] + 0.1),
        ),
        "grid_sample": ("grid_sample", lambda f: lambda *x: f(*x, *FRAME), (volume, points)),
        "grid_sample_vjp": (
            "grid_sample_vjp",
            lambda f: lambda *x: f(*x, *FRAME),
            (volume, points, random(2, 4, 3)),
        ),
        "image_lift": (
            "image_lift",
            lambda f: lambda *x: f(*x, coordinates, seen, "mean"),
            (maps, likely),
        ),
        "image_lift, features alone": (
            "image_lift",
            lambda f: lambda x: f(x.square(), None, coordinates, seen),
            (maps,),
        ),
        "lss_pool": ("lss_pool", lambda f: lambda *x: f(*x, plan), (random(2, 3, 2, 2), random(2, 4, 2, 2))),
        "neus_alphas": ("neus_alphas", lambda f: f, (*intervals, inv_s)),
        "neus_render": ("neus_render", lambda f: lambda *x: tuple(f(*x)), (*intervals, t, inv_s, values)),
        "neus_render, masked": (
            "neus_render",
            lambda f: lambda *x: tuple(f(*x, valid=valid)),
            (*intervals, t, inv_s, values),
        ),
        "segment_exclusive_sum": (
            "segment_exclusive_sum",
            lambda f: lambda x: f(x, offsets).square(),
            (rays[0],),
        ),
        "segment_exclusive_prod": ("segment_exclusive_prod", lambda f: lambda x: f(x, offsets), (rays[0],)),
        "splat": ("splat", lambda f: lambda *x: f(*x, SHAPE, *FRAME), (random(2, 4, 3), points)),
        "sparse_conv3d, submanifold": (
            "sparse_conv3d",
            lambda f: lambda *x: f(*x, same),
            (random(len(coords), 2), random(27, 2, 3)),
        ),
        "sparse_conv3d, strided": (
            "sparse_conv3d",
            lambda f: lambda *x: f(*x, inputs, outputs),
            (random(len(coords), 2), random(27, 2, 3)),
        ),
    }
    for reduce in ("sum", "mean", "max"):
        table[f"voxel_scatter, {reduce}"] = (
            "voxel_scatter",
            lambda f, reduce=reduce: lambda x: f(x.square(), index, 4, reduce=reduce),
            (random(5, 3),),
        )
    return {
        title: (wrap(getattr(ops, name)), wrap(getattr(ops, f"{name}_reference")), leaves)
        for title, (name, wrap, leaves) in table.items()
    }


TITLES = [*cases("cpu")]


@pytest.mark.parametrize("title", TITLES)
def test_second_derivatives_equal_finite_differences(title, device):
    function, _, leaves = cases(device)[title]
    assert gradgradcheck(function, [leaf.detach().requires_grad_() for leaf in leaves])


def three_orders(function, leaves):
    """The derivatives of a loss on the result, of one on these, and of one on those again."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    found = function(*leaves)
    outputs, orders = (found,) if isinstance(found, torch.Tensor) else found, []
    for order in range(3):
        loss = sum((output * output.detach().cos() + output**3).sum() for output in outputs)
        outputs = torch.autograd.grad(
            loss, leaves, create_graph=order < 2, allow_unused=True, materialize_grads=True
        )
        orders.append(outputs)
    return orders


@pytest.mark.parametrize("title", TITLES)
def test_third_derivatives_are_those_of_the_reference(title, device):
    function, reference, leaves = cases(device)[title]
    try:
        expected = three_orders(reference, leaves)
    except RuntimeError as error:  # PyTorch's own grid_sample has derivatives of few orders
        pytest.skip(str(error))
    for ours, theirs in zip(three_orders(function, leaves), expected, strict=True):
        for mine, truth in zip(ours, theirs, strict=True):
            # A third derivative is the sum of thousands of products, of very different size.
            assert_close(
                mine, truth, rtol=1e-7, atol=1e-9 * float(truth.detach().abs().max()), check_stride=False
            )


@pytest.mark.skipif(not ops.has_native("cpu"), reason="references compute in the type they are given")
@pytest.mark.parametrize("name", ["accumulate", "composite_values", "grid_sample", "lss_pool", "image_lift"])
def test_second_derivatives_by_tensors_of_half_precision(name, device):
    """Of what is stored in half precision; the rest is computed in float32."""
    stored = {"accumulate": 1, "composite_values": 1, "grid_sample": 0, "lss_pool": 1, "image_lift": 0}[name]
    function, _, leaves = cases(device)[name]
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        given = [leaf.float() for leaf in leaves]
        given[stored] = given[stored].bfloat16().to(dtype)
        given = [leaf.detach().requires_grad_() for leaf in given]
        found = function(*given)
        first = torch.autograd.grad(
            sum(x.square().sum() for x in ((found,) if isinstance(found, torch.Tensor) else found)),
            given,
            create_graph=True,
        )
        results.append(torch.autograd.grad(sum(x.float().square().sum() for x in first), given))
    assert results[0][stored].dtype == torch.bfloat16
    for half, wide in zip(*results, strict=True):
        # The gradient by what is stored is rounded to 8 bits on the way.
        assert_close(half.float(), wide, rtol=0, atol=0.03 * float(wide.abs().max()))
