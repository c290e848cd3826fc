"""Every operator with a gradient has second derivatives, and third ones where its reference has them."""

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.testing import assert_close

from renderpretrain import ops

FRAME = ((1.0, 1.5, 0.75), (0.2, -0.1, 0.3))
SHAPE = (2, 3, 4)


def random(device, *shape):
    return torch.rand(*shape, dtype=torch.float64, device=device)


def ray_cases(device):
    """By title: an operator's name, how to make a function of its leaves alone from it, and these leaves."""
    rays, values = 0.8 * random(device, 2, 5) + 0.1, random(device, 2, 5, 3) - 0.5
    t, valid = random(device, 2, 5).cumsum(-1), torch.rand(2, 5, device=device) < 0.8
    offsets, inv_s = torch.tensor([0, 2, 2, 5], device=device), 3 * torch.ones_like(t[0, 0])
    intervals = random(device, 2, 5) - 0.5, -rays, 0.3 * random(device, 2, 5) + 0.2
    surface = *intervals, t, inv_s, values
    stops = {"valid": valid, "early_stop": 1e-6}
    packed = rays[0], t[0], t[0] + 0.1
    return {
        "accumulate": ("accumulate", lambda f: f, (rays, values)),
        "composite": ("composite", lambda f: lambda a: f(a, valid), (rays,)),
        "composite_values": ("composite_values", lambda f: lambda *x: tuple(f(*x)), (rays, values, t)),
        "composite_values, masked": (
            "composite_values",
            lambda f: lambda *x: tuple(f(*x, **stops)),
            (rays, values, t),
        ),
        "distortion_loss": ("distortion_loss", lambda f: f, (rays, t, t + 0.1)),
        "distortion_loss, packed": ("distortion_loss", lambda f: lambda *x: f(*x, offsets), packed),
        "neus_alphas": ("neus_alphas", lambda f: f, (*intervals, inv_s)),
        "neus_render": ("neus_render", lambda f: lambda *x: tuple(f(*x)), surface),
        "neus_render, masked": ("neus_render", lambda f: lambda *x: tuple(f(*x, **stops)), surface),
        "segment_exclusive_sum": (
            "segment_exclusive_sum",
            lambda f: lambda x: f(x, offsets).square(),
            (rays[0],),
        ),
        "segment_exclusive_prod": ("segment_exclusive_prod", lambda f: lambda x: f(x, offsets), (rays[0],)),
    }


def volume_cases(device):
    """As ray_cases: what reads and fills volumes and images."""
    volume, points = random(device, 2, 3, *SHAPE), 3 * random(device, 2, 4, 3) + 0.03
    values = random(device, 2, 4, 3)
    maps, likely = random(device, 1, 2, 3, 3, 4) - 0.5, random(device, 1, 2, 2, 3, 4)
    where = 2.2 * random(device, 1, 2, 6, 3) - 1.1, torch.rand(1, 2, 6, device=device) < 0.8
    plan = ops.lss_plan(torch.randint(-1, 6, (2, 3, 2, 2), device=device), 6)
    pooled = random(device, 2, 3, 2, 2), random(device, 2, 4, 2, 2)
    return {
        "grid_sample": ("grid_sample", lambda f: lambda *x: f(*x, *FRAME), (volume, points)),
        "grid_sample_vjp": ("grid_sample_vjp", lambda f: lambda *x: f(*x, *FRAME), (volume, points, values)),
        "splat": ("splat", lambda f: lambda *x: f(*x, SHAPE, *FRAME), (values, points)),
        "image_lift": ("image_lift", lambda f: lambda *x: f(*x, *where, "mean"), (maps, likely)),
        "image_lift, features alone": (
            "image_lift",
            lambda f: lambda x: f(x.square(), None, *where),
            (maps,),
        ),
        "lss_pool": ("lss_pool", lambda f: lambda *x: f(*x, plan), pooled),
    }


def voxel_cases(device):
    """As ray_cases: what connects voxels and points."""
    shape, coords = (1, 3, 3, 3), (torch.rand(1, 3, 3, 3, device=device) < 0.3).nonzero().int()
    inputs = ops.submanifold_neighbors(coords, shape, (3, 3, 3))
    strided = ops.strided_neighbors(coords, shape, (3, 3, 3), (2, 2, 2), (1, 1, 1))
    tables = {"submanifold": (inputs, None), "strided": (strided.inputs, strided.outputs)}
    index = torch.tensor([1, 0, -1, 1, 3], device=device)
    operands = random(device, len(coords), 2), random(device, 27, 2, 3)
    return {
        **{
            f"sparse_conv3d, {kind}": (
                "sparse_conv3d",
                lambda f, table=table: lambda *x: f(*x, *table),
                operands,
            )
            for kind, table in tables.items()
        },
        **{
            f"voxel_scatter, {reduce}": (
                "voxel_scatter",
                lambda f, reduce=reduce: lambda x: f(x.square(), index, 4, reduce=reduce),
                (random(device, 5, 3),),
            )
            for reduce in ("sum", "mean", "max")
        },
    }


def cases(device):
    """By title: an operator, its reference, and their leaves."""
    table = {**ray_cases(device), **volume_cases(device), **voxel_cases(device)}
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
