"""Sparse convolutions against dense ones and against spconv."""

import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders import (
    RowBatchNorm,
    SparseConv3d,
    SparseInverseConv3d,
    SparseSequential,
    SparseTensor,
    SubMConv3d,
    agree_on,
    sparse_backend,
    spconv_status,
)
from renderpretrain.encoders.sparse_backend import self_test

SHAPE = (6, 7, 9)
sparse_backend_module = sys.modules[self_test.__module__]  # whose name a function of the package has, too
needs_spconv = pytest.mark.spconv
BACKENDS = pytest.mark.parametrize("backend", ["builtin", pytest.param("spconv", marks=needs_spconv)])


def scattered(channels, fill=0.3, device="cpu"):
    """Random voxels of a batch of two, in random order."""
    coords = (torch.rand(2, *SHAPE) < fill).nonzero()
    coords = coords[torch.randperm(len(coords))].int()
    return SparseTensor(torch.randn(len(coords), channels).to(device), coords.to(device), SHAPE, 2)


def occupancy(x):
    return x.with_features(torch.ones_like(x.features[:, :1])).dense()


def dense_weight(layer):
    """``(out, in, kz, ky, kx)``: a view that shares the layer's gradient."""
    if layer.spec.pointwise:
        channels_out, channels_in = layer.weight.shape[0], layer.weight.shape[4]
        return layer.weight.view(channels_in, channels_out).t()[..., None, None, None]
    return layer.weight.permute(0, 4, 1, 2, 3)


@BACKENDS
@pytest.mark.parametrize("kernel", [1, 3, (3, 1, 3), (1, 5, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_submanifold_is_dense_convolution_on_the_occupied_voxels(backend, kernel, training):
    x = scattered(4)
    layer = SubMConv3d(4, 5, kernel, backend=backend).train(training)
    padding = [k // 2 for k in layer.spec.kernel_size]
    dense = nn.functional.conv3d(x.dense(), dense_weight(layer), layer.bias, padding=padding)
    out = layer(x)
    assert torch.equal(out.coords, x.coords)
    assert_close(
        out.dense(), dense * occupancy(x), rtol=1e-4, atol=1e-5
    )  # sums of up to 108 float32 products


@BACKENDS
@pytest.mark.parametrize(
    "geometry",
    [
        (3, 2, 1),
        (3, 2, 0),
        (2, 2, 0),
        ((3, 1, 1), (2, 1, 1), 0),
        (3, 1, 1),
        (1, 1, 0),
        (1, 2, 0),
        (3, 2, (0, 1, 1)),
    ],
)
def test_strided_is_dense_convolution_where_the_kernel_reaches(backend, geometry):
    x = scattered(4, fill=0.1)
    layer = SparseConv3d(4, 5, geometry, bias=False, backend=backend)
    spec = layer.spec
    dense = nn.functional.conv3d(x.dense(), dense_weight(layer), stride=spec.stride, padding=spec.padding)
    ones = torch.ones(1, 1, *spec.kernel_size)
    reached = nn.functional.conv3d(occupancy(x), ones, stride=spec.stride, padding=spec.padding) > 0
    out = layer(x)
    assert out.spatial_shape == tuple(dense.shape[2:])
    assert torch.equal(occupancy(out) > 0, reached)
    assert_close(out.dense(), dense, rtol=1e-4, atol=1e-5)  # as above


@BACKENDS
def test_inverse_is_transposed_convolution_on_the_voxels_before(backend):
    x = scattered(4)
    down = SparseConv3d(4, 6, (3, 2, 1), indice_key="down", backend=backend)
    up = SparseInverseConv3d(6, 3, 3, indice_key="down", bias=False)
    coarse = down(x)
    fine = up(coarse)
    assert torch.equal(fine.coords, x.coords)
    assert fine.spatial_shape == SHAPE
    weight = up.weight.permute(4, 0, 1, 2, 3)  # transposed convolutions count (in, out)
    odd = [(n - 1) % 2 for n in SHAPE]  # cells that (n - 1) // 2 * 2 + 1 leaves over
    dense = nn.functional.conv_transpose3d(coarse.dense(), weight, stride=2, padding=1, output_padding=odd)
    assert_close(fine.dense(), dense * occupancy(x), rtol=1e-4, atol=1e-5)  # as above


def u_net(backend):
    torch.manual_seed(1)
    return nn.ModuleList(
        [
            SubMConv3d(4, 6, 3, indice_key="a", backend=backend),
            SubMConv3d(6, 6, 3, indice_key="a", backend=backend),
            SparseConv3d(6, 8, (3, 2, 1), indice_key="down", backend=backend),
            SubMConv3d(8, 8, 3, indice_key="b", backend=backend),
            SparseConv3d(8, 8, (1, 1, 0), backend=backend),
            SparseInverseConv3d(8, 5, 3, indice_key="down"),
            SubMConv3d(5, 2, 1, backend=backend),
        ]
    )


@needs_spconv
def test_spconv_and_builtin_agree_in_value_and_gradient():
    x = scattered(4)
    values, gradients = [], []
    for backend in ("builtin", "spconv"):
        layers, features = u_net(backend), x.features.clone().requires_grad_()
        out = x.with_features(features)
        for layer in layers:
            out = layer(out)
        out.features.sin().sum().backward()
        values.append(out.features)
        gradients.append([features.grad, *(p.grad for p in layers.parameters())])
    assert_close(values[0], values[1], rtol=1e-5, atol=1e-5)  # float32, other order of summation
    for a, b in zip(*gradients, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-5 * float(a.abs().max()))


@pytest.mark.parametrize("geometry", [None, (3, 2, 1)])
def test_gradients_are_those_of_finite_differences(geometry):
    coords = (torch.rand(1, 3, 3, 3) < 0.5).nonzero()
    layer = SubMConv3d(2, 2, 3) if geometry is None else SparseConv3d(2, 2, geometry)
    layer.double()

    def run(features, weight, bias):
        x = SparseTensor(features, coords, (3, 3, 3), 1)
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,)).features

    inputs = (torch.randn(len(coords), 2, dtype=torch.float64), layer.weight.detach(), layer.bias.detach())
    assert torch.autograd.gradcheck(run, [v.clone().requires_grad_() for v in inputs])


def test_twice_the_same_is_bitwise_the_same():
    x = scattered(4)
    layers = u_net("builtin")
    results = []
    for _ in range(2):
        out = x
        for layer in layers:
            out = layer(out)
        results.append(out.features)
    assert torch.equal(*results)


def test_the_order_of_voxels_does_not_matter():
    x, layer = scattered(4), SparseConv3d(4, 5, (3, 2, 1))
    order = torch.randperm(len(x.coords))
    shuffled = SparseTensor(x.features[order], x.coords[order], SHAPE, 2)
    assert_close(
        layer(shuffled).dense(), layer(x).dense(), rtol=1e-5, atol=1e-6
    )  # float32, order of summation


@BACKENDS
def test_no_voxels_give_no_voxels_and_zero_gradients(backend):
    x = SparseTensor(torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 4, dtype=torch.int32), SHAPE, 2)
    layers = u_net(backend)
    out = x
    for layer in layers:
        out = layer(out)
    assert out.dense().shape == (2, 2, *SHAPE)
    out.dense().sum().backward()
    assert all((p.grad == 0).all() for p in layers.parameters())


@BACKENDS
def test_a_voxel_that_no_output_reaches_vanishes_and_comes_back_as_zero(backend):
    """Kernel 2, stride 3: the only output covers the cells 0 and 1, the voxel is at 2."""
    x = SparseTensor(torch.ones(1, 2), torch.tensor([[0, 2, 2, 2]]), (3, 3, 3), 1)
    down = SparseConv3d(2, 3, (2, 3, 0), indice_key="down", backend=backend)
    up = SparseInverseConv3d(3, 2, 2, indice_key="down", bias=False)
    assert len(down(x).features) == 0
    assert up(down(x)).features.tolist() == [[0.0, 0.0]]


def test_a_pointwise_weight_is_stored_input_first():
    """Two inputs, one output: memory (in, out), whatever the shape says."""
    layer = SubMConv3d(2, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 1, 1, 1, 2))
    x = SparseTensor(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 0, 0, 0]]), (1, 1, 1), 1)
    assert layer(x).features.tolist() == [[1.0, 2.0]]


@BACKENDS
def test_it_runs_in_float32_under_autocast(backend):
    x = scattered(4)
    layer = SubMConv3d(4, 4, 3, backend=backend)
    expected = layer(x).features
    features = x.features.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x.with_features(features)).features
    out.sum().backward()  # outside, as torch asks
    assert out.dtype == torch.float32
    assert features.grad.dtype == torch.bfloat16
    assert_close(out, expected, rtol=0.02, atol=0.02)  # the input was rounded to 8 bits


def test_neighbours_do_not_wrap_around_the_volume():
    """The last voxel of a row, slice or volume and the first of the next are adjacent in memory only."""
    coords = torch.tensor(
        [[0, 0, 0, 8], [0, 0, 1, 0], [0, 2, 6, 8], [0, 3, 0, 0], [0, 5, 6, 8], [1, 0, 0, 0]]
    )
    layer = SubMConv3d(1, 1, 3, bias=False)
    nn.init.ones_(layer.weight)
    assert layer(SparseTensor(torch.ones(6, 1), coords, SHAPE, 2)).features.flatten().tolist() == [1.0] * 6


@BACKENDS
def test_one_input_can_be_used_twice(backend):
    x, layer = scattered(4), SparseConv3d(4, 4, (3, 2, 1), indice_key="down", backend=backend)
    assert_close(layer(layer(x)).dense(), layer(layer(x)).dense())


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_survives_a_row_or_none(rows, training):
    norm = RowBatchNorm(3).train(training)
    x = torch.randn(rows, 3, requires_grad=True)
    norm(x).sum().backward()
    assert_close(norm(x), x / (1 + 1e-3) ** 0.5)  # running statistics at their start: mean 0, variance 1
    assert norm.num_batches_tracked == 0


def test_batch_norm_has_seconds_constants():
    x = torch.randn(50, 3)
    norm = RowBatchNorm(3)
    assert_close(norm(x), nn.functional.batch_norm(x, None, None, training=True, eps=1e-3))
    assert_close(norm.running_mean, 0.01 * x.mean(0))


def test_a_sequence_feeds_rows_to_dense_layers():
    x = scattered(4)
    layers = SparseSequential(SubMConv3d(4, 3), nn.ReLU())
    assert_close(layers(x).features, layers[0](x).features.relu())


def test_on_a_cpu_auto_is_the_builtin_and_cuda_answers_without_a_device():
    assert sparse_backend("cpu") == "builtin"
    if not torch.cuda.is_available():
        assert spconv_status("cuda") == {"ok": False, "why": "no CUDA device is visible to torch"}
        assert sparse_backend("cuda") == "builtin"
        assert spconv_status("cuda:1")["why"] == spconv_status("cuda")["why"]


def test_processes_that_train_together_take_one_word_for_all():
    agree_on("cuda:7", {"ok": True, "why": "spconv 2 works"})
    assert sparse_backend("cuda:7") == "spconv"
    agree_on("cuda:7", {"ok": False, "why": "no memory on the first GPU"})
    assert sparse_backend("cuda:7") == "builtin"


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["builtin", "auto"])
def test_cuda_agrees_with_the_cpu(backend):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    x, layers = scattered(4), u_net(backend)
    expected, out = x, SparseTensor(x.features.cuda(), x.coords.cuda(), SHAPE, 2)
    for layer in u_net("builtin"):
        expected = layer(expected)
    for layer in layers.cuda():
        out = layer(out)
    # spconv's implicit GEMM may use TF32: 10 bits of mantissa, a few layers deep.
    assert_close(out.dense().cpu(), expected.dense(), rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gpus_autocast_multiplies_in_its_type(dtype):
    """Products of rounded numbers, sums in float32: as exact as they are, and no more."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    x, layer = scattered(8), SubMConv3d(8, 16, bias=False, backend="builtin")
    rounded = x.with_features(x.features.to(dtype).float())
    with torch.no_grad():
        exact = layer(x).features
        layer.weight.copy_(layer.weight.to(dtype))
        expected = layer(rounded).features
    layer.cuda()
    given = x.features.cuda().requires_grad_()
    with torch.autocast("cuda", dtype):
        out = layer(SparseTensor(given, x.coords.cuda(), SHAPE, 2)).features
    out.sum().backward()
    assert out.dtype == given.grad.dtype == layer.weight.grad.dtype == torch.float32
    # 27 * 8 products are exact; a sum is cut off in float32 every eight of them.
    assert_close(out.cpu(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(out.cpu(), exact, rtol=1e-5, atol=1e-5)


def test_errors_name_what_was_wrong():
    x = scattered(4)
    with pytest.raises(ValueError, match="x: expected 3 channels, got 4"):
        SubMConv3d(3, 3)(x)
    with pytest.raises(ValueError, match=r"kernel_size: expected odd sizes .* got \(2, 2, 2\)"):
        SubMConv3d(4, 3, 2)(x)
    with pytest.raises(ValueError, match=r"indice_key: expected 'away' to name pairs .* got none"):
        SparseInverseConv3d(4, 3, 3, indice_key="away")(x)
    with pytest.raises(ValueError, match=r"geometry: expected no padding .* got \(1, 1, 1\)"):
        SparseConv3d(4, 3, (1, 1, 1))
    with pytest.raises(
        ValueError, match=r"spatial_shape: expected at least one output cell .* got \(6, 7, 9\)"
    ):
        SparseConv3d(4, 3, (11, 1, 0))(x)
    with pytest.raises(ValueError, match="kernel_size: expected more than one cell"):
        SparseInverseConv3d(4, 3, 1, indice_key="down")


@needs_spconv
def test_spconv_is_tried_with_gradients_even_where_there_are_none():
    with torch.no_grad():
        self_test("cpu")


@needs_spconv
@pytest.mark.parametrize("wrong", ["gradient by features", "gradient by weights"])
def test_spconv_with_a_wrong_gradient_is_refused(wrong, monkeypatch):
    """Its values are right, so that only who runs backward, too, finds out."""
    right = sparse_backend_module._run_spconv

    def run(x, weight, spec):
        if wrong.endswith("features"):
            x = x.with_features(2 * x.features - x.features.detach())
        else:
            weight = 2 * weight - weight.detach()
        return right(x, weight, spec)

    monkeypatch.setattr(sparse_backend_module, "_run_spconv", run)
    with pytest.raises(RuntimeError, match=rf"spconv disagrees .* \({wrong}, submanifold\)"):
        self_test("cpu")


@needs_spconv
@pytest.mark.parametrize("kind", ["submanifold", "strided"])
def test_an_evaluated_encoder_with_biases_is_spconvs(kind):
    x, layers = scattered(4), []
    for backend in ("builtin", "spconv"):
        torch.manual_seed(2)
        make = SubMConv3d if kind == "submanifold" else SparseConv3d
        layers.append(make(4, 6, backend=backend).eval())
    with torch.no_grad():
        # float32, other order of summation
        assert_close(layers[0](x).dense(), layers[1](x).dense(), rtol=1e-5, atol=1e-5)


def test_half_precision_weights_give_half_precision_features():
    x = scattered(4)
    layer = SubMConv3d(4, 6, 3, backend="builtin")
    expected = layer(x).features
    layer.bfloat16()
    out = layer(x.with_features(x.features.bfloat16())).features
    out.sum().backward()
    assert out.dtype == layer.weight.grad.dtype == torch.bfloat16
    assert_close(out.float(), expected, rtol=0.05, atol=0.05)  # inputs and result were rounded to 8 bits
