"""A small network on inputs in parts against the same network composed, and what holds for every kernel."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.ops import InjectedShape, fused_mlp, fused_mlp_reference

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="the kernels were not built")

CASES = {
    "a colour": {"widths": (5, 9, 4), "rows": (7, 140, 140), "sigmoid": True, "out": 3},
    "no position": {"position": 0, "widths": (8,), "rows": (140,)},
    "an encoded position": {"position": 27, "widths": (32,), "rows": (140,)},
    "a linear one": {"blocks": 0, "widths": (6, 11), "rows": (140, 140)},
    "all parts per ray": {"widths": (3, 2, 1, 4), "rows": (7, 70, 140, 7)},
    "as wide as 128": {"hidden": 128, "out": 65, "blocks": 1, "widths": (64,), "rows": (140,)},
    "odd widths": {"hidden": 33, "out": 19, "widths": (1, 17), "rows": (140, 140)},
    "SiLU": {"activation": "silu", "widths": (16,), "rows": (140,)},
    "several tiles for every block": {"hidden": 1, "blocks": 0, "widths": (1,), "rows": (20000,), "out": 1},
    "everything counts": {"valid": False, "widths": (16,), "rows": (140,)},
}


def network(
    *,
    hidden=16,
    out=17,
    blocks=3,
    position=3,
    activation="relu",
    widths=(8,),
    rows=(140,),
    sigmoid=False,
    valid=True,
    dtype=torch.float64,
    device="cpu",
):
    """A network, its inputs in parts, parameters, positions and marks."""
    torch.manual_seed(0)
    shape = InjectedShape(sum(widths), hidden, out, blocks, position, activation)
    parts = [torch.randn(2, n, width, dtype=dtype) for n, width in zip(rows, widths, strict=True)]
    parameters = torch.randn(shape.num_parameters, dtype=dtype) / hidden**0.5
    count = max(rows)
    positions = torch.randn(2, count, position, dtype=dtype) if position else None
    marks = torch.rand(2, count) < 0.7 if valid else None
    *parts, parameters, positions, marks = (
        None if x is None else x.to(device) for x in (*parts, parameters, positions, marks)
    )
    return shape, parts, parameters, positions, marks, sigmoid


def run(operator, case, dtype=torch.float64):
    """Output, and gradients of a weighted sum by parts, parameters and positions."""
    shape, parts, parameters, positions, marks, sigmoid = case
    leaves = [*parts, parameters, *([] if positions is None else [positions])]
    leaves = [x.to(dtype).detach().requires_grad_() for x in leaves]
    places = None if positions is None else leaves[-1]
    inputs, flat = leaves[: len(parts)], leaves[len(parts)]
    out = operator(inputs, flat, shape, positions=places, valid=marks, sigmoid=sigmoid)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_the_composed_network(case, device):
    """In float64; and float32 is as near to it as plain float32, which has as many roundings."""
    case = network(**case, device=device)
    exact = run(fused_mlp_reference, case)
    assert_close(run(fused_mlp, case), exact)
    single = (run(f, case, torch.float32) for f in (fused_mlp_reference, fused_mlp))
    for right, plain, found in zip(exact, *single, strict=True):
        allowed = max(1e-5 * float(right.abs().max()), 2 * float((plain - right).abs().max()))
        assert float((found - right).abs().max()) <= allowed


def test_the_reference_says_what_a_loop_over_points_says():
    shape, parts, parameters, positions, marks, _ = network(widths=(5, 9), rows=(7, 140), out=3)
    found = fused_mlp([*parts], parameters, shape, positions=positions, valid=marks)
    embed, bias, layers = shape.unpack(parameters)
    for b, p in ((0, 0), (1, 77), (1, 139)):
        x = torch.cat([parts[0][b, p // 20], parts[1][b, p]])
        h = embed @ positions[b, p] + bias
        for place, layer in enumerate(layers):
            h = layer.weight @ (h + layer.inject @ x + layer.inject_bias) + layer.bias
            h = h.relu() if place + 1 < len(layers) else h
        assert_close(found[b, p], h * marks[b, p])


def test_points_that_do_not_count_say_nothing(device):
    case = network(**CASES["a colour"], device=device)
    shape, parts, parameters, positions, marks, sigmoid = case
    spoilt = torch.where(marks[..., None], parts[1], float("nan"))
    poisoned = shape, [parts[0], spoilt, parts[2]], parameters, positions, marks, sigmoid
    found, expected = run(fused_mlp, poisoned), run(fused_mlp, case)
    assert_close(found, expected)
    assert not found[0][~marks].any()


@needs_kernels
def test_results_do_not_depend_on_the_number_of_threads(threads):
    case = network(widths=(5, 32), rows=(100, 7000), dtype=torch.float32)
    results = []
    for count in (1, 2, 4):
        threads(count)
        results.append(run(fused_mlp, case, torch.float32))
    assert_close(results[0], results[1], rtol=0, atol=0)
    assert_close(results[0], results[2], rtol=0, atol=0)


def test_finite_differences_twice(device):
    sizes = {"hidden": 3, "out": 2, "blocks": 1, "widths": (2, 3), "rows": (2, 4), "device": device}
    case = network(activation="silu", sigmoid=True, **sizes)
    shape, parts, parameters, positions, marks, _ = case
    leaves = [x.requires_grad_() for x in (*parts, parameters, positions)]

    def values(a, b, flat, places):
        return fused_mlp([a, b], flat, shape, positions=places, valid=marks, sigmoid=True)

    assert torch.autograd.gradcheck(values, leaves)
    assert torch.autograd.gradgradcheck(values, leaves)


@pytest.mark.parametrize("size", [(0, 3), (2, 0)])
def test_nothing_comes_from_nothing(size, device):
    shape = InjectedShape(4, 5, 3, 1, 0)
    sizes = (*size, 4), (shape.num_parameters,)
    leaves = [torch.ones(shape, device=device, requires_grad=True) for shape in sizes]
    out = fused_mlp(leaves[:1], leaves[1], shape)
    assert out.shape == (*size, 3)
    assert not any(grad.any() for grad in torch.autograd.grad(out.sum(), leaves))


@needs_kernels
def test_only_the_inputs_are_kept():
    shape, parts, parameters, positions, marks, _ = network(widths=(5, 9), rows=(7, 140))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        leaves = [x.requires_grad_() for x in (*parts, parameters)]
        fused_mlp(leaves[:2], leaves[2], shape, positions=positions, valid=marks)
    assert sum(kept) == sum(x.numel() for x in (*parts, parameters, positions, marks))


def test_pytorch_finds_the_operators_sound(check_operator, device):
    if not ops.has_native(device.type):
        pytest.skip("the kernels were not built")
    sizes = {"hidden": 4, "out": 2, "widths": (2, 3), "rows": (2, 4), "device": device}
    case = network(activation="silu", dtype=torch.float32, **sizes)
    shape, parts, parameters, positions, marks, _ = case
    call = parameters, positions, marks, *parts, None, None, shape.code(), 1.0, True
    check_operator("fused_mlp", call)
    check_operator(
        "fused_mlp_backward", (torch.randn(2, 4, 2, device=device), *call, [True, True, True, False, False])
    )


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"inputs": []}, "inputs: expected one to 4 parts, got 0"),
        ({"inputs": [torch.zeros(2, 6, 1)] * 5}, "inputs: expected one to 4 parts, got 5"),
        ({"inputs": [torch.zeros(2, 6, 4)]}, "inputs: expected 5 channels in all, got 4"),
        ({"inputs": [torch.zeros(2, 4, 5)]}, r"inputs\[0\]: expected rows that 6 points share, got 4"),
        ({"inputs": [torch.zeros(1, 6, 5)]}, "positions: expected"),
        ({"positions": None}, "positions: expected 3 channels, got None"),
        ({"positions": torch.zeros(2, 6, 2)}, "positions: expected"),
        ({"valid": torch.ones(2, 5, dtype=torch.bool)}, "valid: expected"),
        ({"parameters": torch.zeros(7)}, "parameters: expected"),
    ],
)
def test_what_does_not_fit_the_network_is_said_in_one_line(change, line):
    shape = InjectedShape(5, 4, 3, 1)
    given = {
        "inputs": [torch.zeros(2, 6, 5)],
        "parameters": torch.zeros(shape.num_parameters),
        "positions": torch.zeros(2, 6, 3),
        "valid": None,
    }
    given |= change
    with pytest.raises(ValueError, match=line):
        fused_mlp(given.pop("inputs"), given.pop("parameters"), shape, **given)
