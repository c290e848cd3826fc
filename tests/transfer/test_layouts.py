"""Kernel layouts against what convolutions compute: real spconv, dense convolutions, and known numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from renderpretrain.transfer.layouts import (
    Layout,
    convert_kernel,
    convert_shape,
    guess_kernels,
    kernel_size,
)

LAYOUTS = [Layout(kernels, axes) for kernels in ("KRSC", "RSCK") for axes in ("zyx", "xyz")]
needs_spconv = pytest.mark.spconv


@given(
    source=st.sampled_from(LAYOUTS),
    target=st.sampled_from(LAYOUTS),
    cells=st.sampled_from([(1, 1, 1), (3, 3, 3), (3, 1, 1), (1, 2, 3), (5, 5, 5)]),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_there_and_back_is_exact(source, target, cells, channels):
    shape = convert_shape((channels[1], *cells, channels[0]), Layout(), source)
    weight = torch.randn(shape)
    there = convert_kernel(weight, source, target)
    assert there.shape == convert_shape(shape, source, target)
    assert there.is_contiguous() and there.dtype == weight.dtype
    assert torch.equal(convert_kernel(there, target, source), weight)
    assert kernel_size(tuple(there.shape), target) == kernel_size(shape, source)


def test_every_number_lands_where_its_axes_say():
    weight = torch.arange(2 * 3 * 4 * 5 * 6).view(2, 3, 4, 5, 6)  # out, z, y, x, in
    rsck = convert_kernel(weight, Layout("KRSC", "zyx"), Layout("RSCK", "zyx"))
    turned = convert_kernel(weight, Layout("KRSC", "zyx"), Layout("RSCK", "xyz"))
    for out, z, y, x, channel in ((0, 0, 0, 0, 0), (1, 2, 3, 4, 5), (1, 0, 3, 1, 2)):
        assert rsck[z, y, x, channel, out] == weight[out, z, y, x, channel]
        assert turned[x, y, z, channel, out] == weight[out, z, y, x, channel]


@needs_spconv
@pytest.mark.parametrize("size", [1, 3])
def test_rsck_is_the_matrix_that_spconv_multiplies_with(size):
    """``(k, k, k, in, out)`` says it plainly, and spconv 2 computes that, with one cell too."""
    from spconv import pytorch as spconv

    conv = spconv.SubMConv3d(3, 5, size, padding=size // 2, bias=False, algo=spconv.ConvAlgo.Native)
    coords = torch.ones(1, 4, 4, 4).nonzero().int().contiguous()
    features = torch.randn(len(coords), 3)
    with torch.no_grad():
        theirs = conv(spconv.SparseConvTensor(features, coords, [4, 4, 4], 1)).features
    plain = convert_kernel(conv.weight.detach(), Layout("KRSC"), Layout("RSCK"))
    dense = torch.nn.functional.conv3d(
        features.T.reshape(1, 3, 4, 4, 4), plain.permute(4, 3, 0, 1, 2), padding=size // 2
    )
    assert_close(dense.flatten(2)[0].T, theirs)  # the cells are in order
    naive = conv.weight.detach().permute(1, 2, 3, 4, 0)  # what hosts do
    assert torch.equal(naive, plain) == (size == 3)


def test_the_layout_is_guessed_from_shapes():
    assert guess_kernels([(16, 3, 3, 3, 5), (32, 1, 1, 1, 64)], "RSCK") == "KRSC"
    assert guess_kernels([(3, 3, 3, 5, 16), (3, 3, 3, 16, 3)], "KRSC") == "RSCK"
    assert guess_kernels([(3, 3, 3, 3, 3)], "RSCK") == "RSCK"
    assert guess_kernels([], "KRSC") == "KRSC"
    with pytest.raises(ValueError, match=r"expected sparse kernels .* got \(16, 9, 9, 9, 5\)"):
        guess_kernels([(16, 9, 9, 9, 5)], "KRSC")


def test_other_tensors_are_refused():
    with pytest.raises(
        ValueError, match=r"weight: expected a sparse kernel of five dimensions, got \(3, 3\)"
    ):
        convert_kernel(torch.ones(3, 3), Layout(), Layout("RSCK"))
