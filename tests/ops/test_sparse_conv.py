"""Sparse convolution: by hand, against its reference and dense ones, at every width, on any threads."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain import ops

needs_kernels = pytest.mark.skipif(not ops.has_native("cpu"), reason="looks at the compiled kernels")
SHAPE = (2, 5, 6, 7)
WIDTHS = [1, 3, 5, 16, 17, 32, 64, 80, 512]
FUNCTIONS = pytest.mark.parametrize("function", [ops.sparse_conv3d, ops.sparse_conv3d_reference])


def occupied(fill=0.3, device="cpu", shape=SHAPE):
    coords = (torch.rand(shape) < fill).nonzero()
    return coords[torch.randperm(len(coords))].int().to(device)


def tables(kind, coords, shape=SHAPE):
    """Inputs and outputs of a 3x3x3 convolution."""
    if kind == "submanifold":
        return ops.submanifold_neighbors(coords, shape, (3, 3, 3)), None
    _, inputs, outputs = ops.strided_neighbors(coords, shape, (3, 3, 3), (2, 2, 2), (1, 1, 1))
    return (inputs, outputs) if kind == "strided" else (outputs, inputs)


def operands(kind, widths, device="cpu", dtype=torch.float32, fill=0.3):
    """Features, kernel and tables; of an inverse convolution the features are on the coarse voxels."""
    inputs, outputs = tables(kind, occupied(fill, device))
    num_in = inputs.shape[1] if outputs is None else outputs.shape[1]
    features = torch.randn(num_in, widths[0], device=device, dtype=dtype)
    kernel = torch.randn(27, *widths, device=device, dtype=dtype) / (27 * widths[0]) ** 0.5
    return features.requires_grad_(), kernel.requires_grad_(), inputs, outputs


def results(function, arguments, upstream=None):
    """Value and both gradients."""
    out = function(*arguments)
    upstream = (
        torch.cos(torch.arange(out.numel(), device=out.device)).view_as(out) if upstream is None else upstream
    )
    return out, *torch.autograd.grad(out, arguments[:2], upstream.to(out.dtype))


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        # Up to 27 * 512 float32 products in another order, with and without fused multiply-adds.
        scale = float(b.detach().abs().max()) if b.numel() else 0.0
        assert_close(a, b, rtol=0, atol=(1e-5 if b.dtype == torch.float32 else 1e-13) * scale)


@FUNCTIONS
def test_by_hand(function, device):
    """Two cells: the first reads the other row, the second no row and then the first."""
    features = torch.tensor([[1.0, 2.0], [10.0, 20.0]], device=device)
    kernel = torch.tensor([[[1.0], [1.0]], [[0.0], [-1.0]]], device=device)
    inputs = torch.tensor([[1, 0], [-1, 0]], dtype=torch.int32, device=device)
    assert function(features, kernel, inputs).tolist() == [[30.0], [3.0 - 2.0]]


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
@pytest.mark.parametrize(
    "widths", [(c, d) for c in WIDTHS for d in (5, 32, 80)] + [(3, d) for d in WIDTHS], ids=str
)
def test_kernel_equals_reference(kind, widths, device):
    arguments = operands(kind, widths, device)
    assert_same(results(ops.sparse_conv3d, arguments), results(ops.sparse_conv3d_reference, arguments))


@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
@pytest.mark.parametrize("fill", [0.0, 0.005, 1.0])
def test_no_voxels_one_and_all(kind, fill, device):
    arguments = operands(kind, (6, 7), device, torch.float64, fill)
    assert_same(results(ops.sparse_conv3d, arguments), results(ops.sparse_conv3d_reference, arguments))


def test_many_tiles_equal_the_reference(device):
    """Thousands of rows: several tiles and slabs, the last of each not full."""
    shape = (1, 20, 40, 30)
    inputs = ops.submanifold_neighbors(occupied(0.2, device, shape), shape, (3, 3, 3))
    features = torch.randn(inputs.shape[1], 16, device=device, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(27, 16, 40, device=device, dtype=torch.float64, requires_grad=True)
    arguments = features, kernel, inputs, None
    assert_same(results(ops.sparse_conv3d, arguments), results(ops.sparse_conv3d_reference, arguments))


@FUNCTIONS
def test_it_is_dense_convolution_at_the_occupied_voxels(function, device):
    coords = occupied(device=device)
    features = torch.randn(len(coords), 4, device=device, dtype=torch.float64)
    kernel = torch.randn(27, 4, 6, device=device, dtype=torch.float64)
    b, z, y, x = coords.long().unbind(1)
    volume = features.new_zeros(2, 4, *SHAPE[1:])
    volume[b, :, z, y, x] = features
    weight = kernel.permute(2, 1, 0).reshape(6, 4, 3, 3, 3)
    dense = torch.nn.functional.conv3d(volume, weight, padding=1)
    assert_close(function(features, kernel, *tables("submanifold", coords)), dense[b, :, z, y, x])
    out_coords, inputs, outputs = ops.strided_neighbors(coords, SHAPE, (3, 3, 3), (2, 2, 2), (1, 1, 1))
    dense = torch.nn.functional.conv3d(volume, weight, stride=2, padding=1)
    b, z, y, x = out_coords.long().unbind(1)
    assert_close(function(features, kernel, inputs, outputs), dense[b, :, z, y, x])


@FUNCTIONS
@pytest.mark.parametrize("kind", ["submanifold", "strided", "inverse"])
def test_gradients_are_those_of_finite_differences(function, kind, device):
    shape = (1, 3, 3, 3)
    inputs, outputs = tables(kind, occupied(0.4, device, shape), shape)
    num_in = inputs.shape[1] if outputs is None else outputs.shape[1]
    features = torch.randn(num_in, 2, device=device, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(27, 2, 3, device=device, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda f, k: function(f, k, inputs, outputs), (features, kernel))


def test_only_the_gradient_that_is_asked_for(device):
    features, kernel, inputs, outputs = operands("strided", (4, 5), device)
    both = results(ops.sparse_conv3d, (features, kernel, inputs, outputs))
    for wanted, expected in ((features, both[1]), (kernel, both[2])):
        other = kernel.detach() if wanted is features else features.detach()
        pair = (wanted, other) if wanted is features else (other, wanted)
        out = ops.sparse_conv3d(*pair, inputs, outputs)
        upstream = torch.cos(torch.arange(out.numel(), device=out.device)).view_as(out)
        assert torch.equal(torch.autograd.grad(out, wanted, upstream)[0], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype, device):
    features, kernel, inputs, outputs = operands("strided", (17, 20), device)
    half = features.detach().to(dtype).requires_grad_()
    value, by_features, by_kernel = results(ops.sparse_conv3d, (half, kernel, inputs, outputs))
    wide = (half.detach().float().requires_grad_(), kernel, inputs, outputs)
    expected = results(ops.sparse_conv3d, wide)
    assert value.dtype == torch.float32
    assert by_features.dtype == dtype
    assert torch.equal(value, expected[0])
    assert torch.equal(by_features, expected[1].to(dtype))
    assert torch.equal(by_kernel, expected[2])


def test_any_memory_layout(device):
    features, kernel, inputs, outputs = operands("strided", (17, 20), device)
    expected = results(ops.sparse_conv3d, (features, kernel, inputs, outputs))

    def moved(tensor):
        """The same numbers one element behind the start of a block, columns first."""
        block = tensor.new_empty(tensor.numel() + 1)[1:].view(tensor.shape[::-1])
        return block.permute(*range(tensor.ndim)[::-1]).copy_(tensor.detach())

    strange = [moved(tensor) for tensor in (features, kernel, inputs, outputs)]
    assert not strange[0].is_contiguous()
    upstream = moved(torch.cos(torch.arange(expected[0].numel(), device=device)).view_as(expected[0]))
    value = results(ops.sparse_conv3d, [t.requires_grad_(t.is_floating_point()) for t in strange], upstream)
    assert all(torch.equal(a, b) for a, b in zip(value, expected, strict=True))


@FUNCTIONS
def test_a_missing_neighbour_adds_nothing_whatever_the_weights_are(function, device):
    features = torch.ones(1, 2, device=device)
    kernel = torch.full((2, 2, 3), torch.inf, device=device)
    kernel[1] = 1.0
    inputs = torch.tensor([[-1], [0]], dtype=torch.int32, device=device)
    assert function(features, kernel, inputs).tolist() == [[2.0, 2.0, 2.0]]


@FUNCTIONS
def test_a_row_that_does_not_exist_is_none(function, device):
    features = torch.ones(2, 1, device=device, requires_grad=True)
    kernel = torch.ones(2, 1, 1, device=device, requires_grad=True)
    inputs = torch.tensor([[2, -7], [1, 2**31 - 1]], dtype=torch.int32, device=device)
    outputs = torch.tensor([[-1, -1], [-1, 0]], dtype=torch.int32, device=device)
    out = function(features, kernel, inputs, outputs)
    assert out.tolist() == [[1.0], [0.0]]
    out.sum().backward()
    assert features.grad.tolist() == [[0.0], [1.0]]
    assert kernel.grad.flatten().tolist() == [0.0, 1.0]


@needs_kernels
def test_the_number_of_threads_does_not_change_a_bit(threads):
    shape = (1, 20, 40, 30)
    coords, found = occupied(0.2, shape=shape), set()
    for count in (1, 2, 4):
        threads(count)
        for kind in ("submanifold", "strided"):
            inputs, outputs = tables(kind, coords, shape)
            generator = torch.Generator().manual_seed(0)
            features = torch.randn(len(coords), 20, generator=generator, requires_grad=True)
            kernel = torch.randn(27, 20, 40, generator=generator, requires_grad=True)
            values = results(ops.sparse_conv3d, (features, kernel, inputs, outputs))
            found.add((kind, b"".join(value.detach().numpy().tobytes() for value in values)))
    assert len(found) == 2


@needs_kernels
@pytest.mark.parametrize("kind", ["submanifold", "strided"])
def test_the_operators_hold_together(kind, check_operator, device):
    features, kernel, *tables = (
        tensor if tensor is None else tensor.detach()
        for tensor in operands(kind, (3, 4), device, torch.float64)
    )
    check_operator("sparse_conv3d", (features, kernel, *tables))
    grad = torch.randn(tables[0].shape[1], 4, device=device, dtype=torch.float64)
    for needed in ([True, True], [True, False], [False, True]):
        arguments = (grad, features, kernel, *tables, needed)
        check_operator("sparse_conv3d_backward", arguments)


@pytest.mark.untyped
def test_errors_name_the_argument():
    features, kernel, inputs, outputs = (
        tensor.detach() for tensor in operands("strided", (3, 4), dtype=torch.float32)
    )
    with pytest.raises(ValueError, match=r"kernel: expected \(K C D\) with .*C=3, got \(27, 2, 4\)"):
        ops.sparse_conv3d(features, kernel[:, :2], inputs, outputs)
    with pytest.raises(ValueError, match=r"inputs: expected \(K N\) with K=26, got \(27, "):
        ops.sparse_conv3d(features, kernel[1:], inputs, outputs)
    with pytest.raises(ValueError, match=r"outputs: expected a table, for \d+ outputs of \d+ inputs"):
        ops.sparse_conv3d(features, kernel, inputs)
    with pytest.raises(ValueError, match=r"outputs: expected \(K M\) with .*, got \(27, 0\)"):
        ops.sparse_conv3d(features, kernel, inputs, outputs[:, :0])
    with pytest.raises(ValueError, match=r"inputs: expected torch\.int32 on cpu, got torch\.int64 on cpu"):
        ops.sparse_conv3d(features, kernel, inputs.long(), outputs)
