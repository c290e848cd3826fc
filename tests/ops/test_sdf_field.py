"""A field in one pass against the same field composed in float64, and what holds for every kernel."""

from random import Random

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import (
    FieldHead,
    FieldOutputs,
    FieldShape,
    InjectedShape,
    sdf_field,
    sdf_field_reference,
)

FRAME = (1.0, 0.9, 0.8), (-0.5, 0.2, 0.0)
EVERYTHING = FieldOutputs(True, True, True)
needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="the kernels were not built")


def field(
    channels=7,
    hidden=6,
    geometry=4,
    blocks=2,
    *,
    split=False,
    position=3,
    activation="softplus",
    heads=2,
    samples=29,
    dtype=torch.float64,
    device="cpu",
):
    """A field, and a volume, points, parameters, directions and marks for it."""
    torch.manual_seed(0)
    first = channels - channels // 2 if split else 0
    network = InjectedShape(
        channels // 2 if split else channels, hidden, 1 + geometry, blocks, position, activation
    )
    known = channels - first + 3 + geometry
    colour = InjectedShape(5 + known, hidden, 3, 1, position, "relu")
    semantic = InjectedShape(known, hidden + 1, 9, 0, 0, "relu")
    on_top = FieldHead(colour, True, True), FieldHead(semantic)
    shape = FieldShape(network, 3.0, first, on_top[:heads])
    volume = torch.randn(2, channels, 4, 5, 6, dtype=dtype)
    points = torch.rand(2, 5 * samples, 3, dtype=dtype) * 8 - 1.2  # some outside of the volume
    parameters = torch.randn(shape.num_parameters, dtype=dtype) / hidden**0.5
    directions = torch.randn(2, 5, 5, dtype=dtype)
    valid = torch.rand(2, 5 * samples) < 0.7
    return shape, tuple(x.to(device) for x in (volume, points, parameters, directions, valid))


def values_of(operator, shape, inputs):
    volume, points, parameters, directions, valid = inputs
    found = operator(
        volume, points, parameters, *FRAME, shape, directions=directions, valid=valid, wanted=EVERYTHING
    )
    return [found.sdf, found.gradients, found.geometry, found.features, *found.heads]


def gradients_of(operator, shape, inputs, asked=3):
    """Values, and gradients of a sum of all of them with random weights."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs[:asked]]
    values = values_of(operator, shape, (*leaves, *inputs[asked:]))
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in values]
    total = torch.stack([(x * w).sum() for x, w in zip(values, weights, strict=True)]).sum()
    return [x.detach() for x in values], torch.autograd.grad(total, leaves)


SIZES = {
    "UniPAD's": {"channels": 32, "hidden": 16, "geometry": 16, "blocks": 5},
    "PonderV2's": {"channels": 128, "hidden": 128, "geometry": 64, "blocks": 1, "split": True, "position": 0},
    "odd widths": {"channels": 20, "hidden": 33, "geometry": 40, "blocks": 1},
    "eight layers": {"blocks": 7},
    "linear": {"blocks": 0},
    "SiLU": {"activation": "silu"},
    "ReLU": {"activation": "relu"},
    "no heads": {"heads": 0},
    "one head, no geometry": {"heads": 1, "geometry": 0},
    "one sample": {"samples": 1},
    "split, one position": {"split": True, "samples": 64},
    "several tiles for every block": {"channels": 1, "hidden": 1, "blocks": 0, "heads": 0, "samples": 4000},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_and_gradients_are_those_of_the_composed_field(sizes, device):
    """In float64, by every input and through the gradient; a softplus is linear from 20 on there."""
    shape, inputs = field(**sizes, device=device)
    found, expected = gradients_of(sdf_field, shape, inputs), gradients_of(sdf_field_reference, shape, inputs)
    # torch's softplus leaves e^-20 = 2e-9 out where its argument is large.
    loose = {"rtol": 1e-7, "atol": 1e-7} if shape.distance.activation == "softplus" else {}
    assert_close(found, expected, **loose)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_float32_is_as_near_to_float64_as_composed(sizes, device):
    """To 1e-5 of the largest number, or twice as far as plain float32 is, which has as many roundings."""
    shape, inputs = field(**sizes, device=device)
    exact = gradients_of(sdf_field_reference, shape, inputs)
    single = [x.float() if x.is_floating_point() else x for x in inputs]
    composed, fused = (gradients_of(f, shape, single) for f in (sdf_field_reference, sdf_field))
    results = ([*values, *grads] for values, grads in (exact, composed, fused))
    for right, plain, found in zip(*results, strict=True):
        if right.numel() == 0:
            continue
        allowed = max(1e-5 * float(right.abs().max()), 2 * float((plain - right).abs().max()))
        assert float((found - right).abs().max()) <= allowed


def test_points_that_do_not_count_cost_nothing_and_say_nothing(device):
    shape, inputs = field(device=device)
    volume, points, parameters, directions, valid = inputs
    poisoned = torch.where(valid[..., None], points, float("nan"))
    values, grads = gradients_of(sdf_field, shape, (volume, poisoned, parameters, directions, valid))
    expected, right = gradients_of(sdf_field, shape, inputs)
    assert all(not value[~valid].any() for value in values)
    assert_close(values, expected)
    assert_close(grads, right)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_a_point_without_a_place_spoils_no_other(bad, device):
    shape, (volume, points, parameters, directions, valid) = field(device=device)
    points[0, 3, 1] = bad
    valid = torch.ones_like(valid)
    found = values_of(sdf_field, shape, (volume, points, parameters, directions, valid))
    expected = values_of(sdf_field_reference, shape, (volume, points, parameters, directions, valid))
    others = valid.clone()
    others[0, 3] = False
    for value, right in zip(found, expected, strict=True):
        assert_close(value[others], right[others], rtol=1e-7, atol=1e-7)


@needs_kernels
def test_results_do_not_depend_on_the_number_of_threads(threads):
    shape, inputs = field(channels=32, hidden=16, geometry=16, blocks=5, samples=1700, dtype=torch.float32)
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(gradients_of(sdf_field, shape, inputs))
    assert_close(results[0], results[1], rtol=0, atol=0)
    assert_close(results[0], results[2], rtol=0, atol=0)


@pytest.mark.parametrize("empty", ["points", "batch"])
def test_nothing_comes_from_nothing(empty, device):
    shape, (volume, points, parameters, _, _) = field(heads=0, device=device)
    if empty == "batch":
        volume, points = volume[:0], points[:0]
    else:
        points = points[:, :0]
    values, grads = gradients_of(sdf_field, shape, (volume, points, parameters, None, None))
    assert [len(x.flatten()) for x in values] == [0] * 4
    assert not any(x.any() for x in grads)


def test_finite_differences_twice(device):
    """Of a smooth field, whose gradients are trained too, and through its own backward pass."""
    shape, inputs = field(2, 3, 1, 1, activation="silu", heads=1, samples=1, device=device)
    volume, points, parameters, directions, _ = inputs
    inner = points[:1, :5].clamp(0.3, 3.3)  # within cells: on their faces a derivative is one-sided
    leaves = [x.detach().requires_grad_() for x in (volume[:1], inner, parameters)]

    def run(*tensors):
        return tuple(values_of(sdf_field, shape, (*tensors, directions[:1], None)))

    # On CUDA numbers are added into the volume in any order, and the last bit may differ.
    nondet_tol = 1e-12 if device.type == "cuda" else 0.0
    assert torch.autograd.gradcheck(run, leaves, nondet_tol=nondet_tol)
    assert torch.autograd.gradgradcheck(run, leaves, nondet_tol=nondet_tol, fast_mode=True)


def test_directions_have_a_gradient_too(device):
    shape, inputs = field(activation="silu", device=device)
    found, expected = (gradients_of(f, shape, inputs, asked=4) for f in (sdf_field, sdf_field_reference))
    assert_close(found, expected)
    assert expected[1][3].any()


def test_the_distance_alone_is_that_of_the_field(device):
    shape, (volume, points, parameters, _, _) = field(heads=0, device=device)
    alone = ops.sdf_field_infer(volume, points, parameters, *FRAME, shape)
    assert_close(alone, sdf_field(volume, points, parameters, *FRAME, shape).sdf, rtol=0, atol=0)


@pytest.mark.parametrize("count", [20, pytest.param(10000, marks=pytest.mark.long)])
def test_steps_of_any_size_are_finite(count):
    """Random widths, depths, activations and magnitudes, points outside and on faces, whatever counts."""
    random = Random(0)
    for step in range(count):
        shape, (volume, points, *others) = field(
            random.randint(1, 40),
            random.randint(1, 40),
            random.randint(0, 20),
            random.randint(0, 4),
            position=random.choice((0, 3)),
            activation=random.choice(("softplus", "relu", "silu")),
            heads=random.randint(0, 2),
            samples=random.randint(1, 30),
            dtype=torch.float32,
        )
        volume, others[0] = volume * 10 ** random.uniform(-6, 3), others[0] * 10 ** random.uniform(-3, 0.5)
        points = points.round() if random.random() < 0.2 else points * 10 ** random.uniform(-2, 2)
        values, grads = gradients_of(sdf_field, shape, (volume, points, *others))
        assert all(x.isfinite().all() for x in (*values, *grads)), step


@needs_kernels
def test_only_the_inputs_are_kept():
    """What autograd holds between forward and backward: no activation of any layer."""
    shape, inputs = field(dtype=torch.float32)
    leaves = [x.detach().requires_grad_() for x in inputs[:3]]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        values_of(sdf_field, shape, (*leaves, *inputs[3:]))
    assert sum(kept) == sum(x.numel() for x in inputs)


def test_pytorch_finds_the_operators_sound(check_operator, device):
    if not ops.has_native(device.type):
        pytest.skip("the kernels were not built")
    sizes = {"heads": 1, "samples": 2, "dtype": torch.float32, "device": device}
    shape, inputs = field(3, 4, 2, 1, activation="silu", **sizes)
    batch, count = inputs[4].shape
    grads = [torch.randn(batch, count, *size, device=device) for size in ((), (3,), (2,), (3,), (3,))]
    check_operator("sdf_field", (*inputs, *FRAME, *shape.codes(), [True, True, True]))
    check_operator("sdf_field_backward", (*inputs, *grads, None, *FRAME, *shape.codes(), [True] * 3))


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s, x: (s, (x[0][:, :5], *x[1:])), "distance.in_channels: expected at most the volume's 5"),
        (lambda s, x: (s, (*x[:2], x[2][:-1], *x[3:])), r"parameters: expected .* got \(790,\)"),
        (lambda s, x: (s, (*x[:3], None, x[4])), "directions: expected those of the rays"),
        (
            lambda s, x: (s, (*x[:3], x[3][:, :4], x[4])),
            "directions: expected rays that share 145 points equally",
        ),
        (lambda s, x: (s, (*x[:3], x[3][..., :4], x[4])), r"heads\[0\].in_channels: expected 18, .* got 19"),
        (lambda s, x: (s, (*x[:4], x[4][:, :-1])), "valid: expected"),
    ],
)
def test_what_does_not_fit_the_networks_is_said_in_one_line(change, line):
    shape, inputs = change(*field())
    with pytest.raises(ValueError, match=line):
        values_of(sdf_field, shape, inputs)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"activation": "tanh"}, "activation: expected one of"),
        ({"hidden_channels": 0}, "hidden_channels: expected at least 1, got 0"),
        ({"beta": 0.0}, "beta: expected"),
    ],
)
def test_networks_of_no_size_are_refused(arguments, line):
    sizes = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2, "num_blocks": 1}
    with pytest.raises(ValueError, match=line):
        InjectedShape(**(sizes | arguments))
