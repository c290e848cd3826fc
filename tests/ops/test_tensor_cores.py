"""Sparse convolution on tensor cores: every type and width beside float64, with bounds from its rounding."""

import sys

import pytest
import torch

from renderpretrain import ops
from renderpretrain.ops import _tensor_cores

KINDS = ("submanifold", "strided", "inverse")
EXACT, ROUNDED = "float32", "tf32"
TYPES = {EXACT: torch.float32, ROUNDED: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUNDING = {EXACT: 0.0, ROUNDED: 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}
"""Of one number that is not in this type yet, at most, as a part of it."""

SUMS = 2.0**-16
"""Of what is added up, in float32: 27 times 80 products and their sums, which hardware cuts off, and what
two numbers of 10 bits leave out of one of 23 (2^-20)."""


@pytest.fixture(params=TYPES)
def precision(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", request.param == ROUNDED)
    return request.param


def tables(kind, fill, shape, device):
    """Inputs and outputs of a 3x3x3 convolution."""
    coords = (torch.rand(shape) < fill).nonzero()
    coords = coords[torch.randperm(len(coords))].int().to(device)
    if kind == "submanifold":
        return ops.submanifold_neighbors(coords, shape, (3, 3, 3)), None
    _, inputs, outputs = ops.strided_neighbors(coords, shape, (3, 3, 3), (2, 2, 2), (1, 1, 1))
    return (inputs, outputs) if kind == "strided" else (outputs, inputs)


def results(features, kernel, inputs, outputs, upstream):
    """Value and both gradients."""
    features, kernel = features.detach().requires_grad_(), kernel.detach().requires_grad_()
    out = ops.sparse_conv3d(features, kernel, inputs, outputs)
    return [out.detach(), *torch.autograd.grad(out, (features, kernel), upstream.to(out.dtype))]


def in_double(features, kernel, inputs, outputs, upstream):
    """The same in plain PyTorch, in float64 and on the CPU, and the same of all numbers' sizes: by how much
    rounded products may be off."""
    found = []
    for change in (torch.Tensor.double, lambda tensor: tensor.double().abs()):
        given = [change(tensor.detach().cpu()).requires_grad_() for tensor in (features, kernel)]
        out = ops.sparse_conv3d_reference(*given, inputs.cpu(), None if outputs is None else outputs.cpu())
        grads = torch.autograd.grad(out, given, change(upstream.cpu()))
        found.append([out.detach(), *grads])
    return zip(*found, strict=True)


def assert_within(precision, found, expected):
    """What is stored in half precision is rounded once more in the end, as PyTorch's gradients are."""
    # Features and weights are in their type already, unless that is TF32; the gradient that comes in is not.
    one, stored = ROUNDING[precision], found[1].dtype != torch.float32
    of_operands = [2 * one * (precision == ROUNDED), one * (1 + (precision == ROUNDED)), 0.0]
    of_operands[2] = of_operands[1]
    for place, (value, (true, size)) in enumerate(zip(found, expected, strict=True)):
        bound = (of_operands[place] + SUMS) * size + stored * (place > 0) * one * (true.abs() + size)
        assert value.shape == true.shape
        assert bool(((value.cpu().double() - true).abs() <= 1.01 * bound + 1e-7).all())


def operands(kind, widths, precision, device, fill=0.3, shape=(2, 5, 6, 7)):
    inputs, outputs = tables(kind, fill, shape, device)
    num_in = inputs.shape[1] if outputs is None else outputs.shape[1]
    features = torch.randn(num_in, widths[0], device=device).to(TYPES[precision])
    kernel = (torch.randn(27, *widths, device=device) / (27 * widths[0]) ** 0.5).to(TYPES[precision])
    upstream = torch.randn(inputs.shape[1], widths[1], device=device)
    return features, kernel, inputs, outputs, upstream


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("widths", [(1, 1), (3, 5), (4, 16), (16, 33), (17, 8), (24, 72), (80, 64)], ids=str)
def test_every_type_and_width_is_as_near_as_it_can_be(kind, widths, precision, device):
    given = operands(kind, widths, precision, device)
    assert_within(precision, results(*given), in_double(*given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [0.0, 0.003, 1.0])
def test_no_voxels_few_and_all(kind, fill, precision, device):
    given = operands(kind, (6, 7), precision, device, fill)
    assert_within(precision, results(*given), in_double(*given))


def test_many_tiles_and_slabs(precision, device):
    """Hundreds of rows, the last of each tile, group and slab not full."""
    given = operands("submanifold", (16, 24), precision, device, 0.2, (1, 8, 20, 20))
    assert given[0].shape[0] > 512
    assert_within(precision, results(*given), in_double(*given))


def test_more_cells_than_bits_in_a_word(precision, device):
    """125 cells share the 62 bits that rows are sorted by."""
    shape = (1, 6, 7, 8)
    coords = (torch.rand(shape) < 0.4).nonzero().int().to(device)
    inputs = ops.submanifold_neighbors(coords, shape, (5, 5, 5))
    features = torch.randn(len(coords), 8, device=device).to(TYPES[precision])
    kernel = (torch.randn(125, 8, 8, device=device) / 30).to(TYPES[precision])
    given = features, kernel, inputs, None, torch.randn(len(coords), 8, device=device)
    assert_within(precision, results(*given), in_double(*given))


def test_a_row_without_neighbours_is_zero(precision, device):
    inputs = torch.full((3, 70), -1, dtype=torch.int32, device=device)
    inputs[1, ::2] = torch.arange(35, dtype=torch.int32, device=device)
    features = torch.ones(70, 16, device=device, dtype=TYPES[precision])
    kernel = torch.full((3, 16, 8), torch.nan, device=device, dtype=TYPES[precision])
    kernel[1] = 0.5  # those of the other cells are nobody's
    out = ops.sparse_conv3d(features, kernel, inputs)
    assert bool((out[::2] == 8).all()) and bool((out[1::2] == 0).all())


def test_the_same_bits_every_time_and_in_every_order_of_the_rows(precision, device):
    """A row's sum is over its cells in their order, wherever the row lies."""
    features, kernel, inputs, _, upstream = operands("submanifold", (24, 40), precision, device)
    outputs = inputs.flip(0)
    first, again = (results(features, kernel, inputs, outputs, upstream) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    order = torch.randperm(inputs.shape[1], device=device)
    moved = ops.sparse_conv3d(features, kernel, inputs[:, order], outputs)
    assert torch.equal(moved, first[0][order])


@pytest.mark.parametrize("inference", [False, True])
def test_rows_are_arranged_once_and_anew_after_the_table_was_written_to(inference, device):
    """In inference mode nobody knows that it was written to, so nothing is kept there."""
    with torch.inference_mode(inference):
        features, kernel, inputs, _, _ = operands("submanifold", (8, 8), EXACT, device)
        before = ops.sparse_conv3d(features, kernel, inputs)
        if _tensor_cores.has_tensor_cores(features):
            rows = _tensor_cores.arranged_rows(inputs, len(features))
            kept = _tensor_cores.arranged_rows(inputs, len(features)).table is rows.table
            assert kept != inference
            assert _tensor_cores.arranged_rows(inputs, len(features) - 1).table is not rows.table
        inputs[13] = -1  # nobody reads itself
        after = ops.sparse_conv3d(features, kernel, inputs)
        torch.testing.assert_close(after, before - features @ kernel[13], rtol=0, atol=1e-5)


def test_tf32_is_what_pytorch_lets_convolutions_be(monkeypatch):
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        assert _tensor_cores.rounds_to_tf32() == allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_card_without_them_multiplies_in_float32(dtype, monkeypatch, device):
    for module in (_tensor_cores, sys.modules["renderpretrain.ops.sparse_conv"]):
        monkeypatch.setattr(module, "has_tensor_cores", lambda tensor: False)
    given = operands("submanifold", (17, 40), EXACT, device)
    given = [value.to(dtype) if value is not None and value.is_floating_point() else value for value in given]
    found = results(*given)
    assert found[0].dtype == torch.float32 and found[1].dtype == dtype
    assert_within("bf16" if dtype == torch.bfloat16 else EXACT, found, in_double(*given))
