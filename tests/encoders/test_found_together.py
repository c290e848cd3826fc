"""What an encoder's strided convolutions make of its voxels, found for all before the first one runs."""

import importlib
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import SparseEncoder, SparseTensor, SparseUNet, VoxelBackBone8x
from renderpretrain.encoders import sparse_blocks as blocks
from renderpretrain.ops.known_voxels import remember_voxels

backend = importlib.import_module("renderpretrain.encoders.sparse_backend")  # also the name of a function
SHAPE = (24, 32, 40)
BUILD = {
    "SparseEncoder": lambda: SparseEncoder(
        *(4, 12),
        channels=((8, 8), (8, 16), (16, 16)),
        strides=((2, 2, 2),) * 2,
        paddings=((1, 1, 1),) * 2,
        backend="builtin",
    ),
    "VoxelBackBone8x": lambda: VoxelBackBone8x(4, backend="builtin"),
    "SparseUNet": lambda: SparseUNet(
        4, channels=(8,) * 6, depths=(1,) * 6, stem_channels=8, backend="builtin"
    ),
}


def scattered(device="cpu"):
    """Voxels in order, as voxelisation makes them, and known to be."""
    coords = (torch.rand(2, *SHAPE) < 0.01).nonzero().int().contiguous()
    x = SparseTensor(torch.randn(len(coords), 4).to(device), coords.to(device), SHAPE, 2)
    remember_voxels(x.coords, (2, *SHAPE), ordered=True)
    return x


def values(out):
    return out.features if isinstance(out, SparseTensor) else out


@pytest.mark.parametrize("name", BUILD)
def test_layers_use_what_was_found_in_advance_and_give_the_same(name, monkeypatch):
    encoder, x = BUILD[name](), scattered()
    expected = values(encoder(x))

    def together(x, convs):
        return backend.with_rulebooks(x, [spec for spec, _ in convs if not spec.pointwise])

    def alone(x, spec):
        raise AssertionError(f"{spec.indice_key} was found again")

    monkeypatch.setattr(blocks, "with_strided", together)
    monkeypatch.setattr(backend, "strided_rulebook", alone)
    assert torch.equal(values(encoder(x)), expected)


def test_what_was_found_for_other_voxels_is_not_used():
    encoder, x = BUILD["VoxelBackBone8x"](), scattered()
    other = backend.with_rulebooks(scattered(), [layer.spec for layer in (encoder.conv2[0][0],)])
    with_other = replace(x, rulebooks=other.rulebooks)
    layer = encoder.conv2[0][0]
    x, with_other = (y.with_features(torch.ones(len(y.coords), 16)) for y in (x, with_other))
    assert torch.equal(layer(with_other).features, layer(x).features)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUILD)
def test_the_host_waits_once_for_all_levels(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    encoder, there = BUILD[name]().eval(), scattered("cuda")
    here = SparseTensor(there.features.cpu(), there.coords.cpu(), SHAPE, 2)
    with torch.no_grad():
        expected = values(encoder(here))
        encoder.cuda()(there)  # constants are made once
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                found = values(encoder(there))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename}:{w.lineno}" for w in seen if "called a synchronizing" in str(w.message)]
    # The pretended device makes constants again each time, and torch reports some waits of a card twice.
    waits = [place for place in waits if "ops/constant.py" not in place]
    assert len(waits) <= (1 if "pretended_cuda" in sys.modules else 2), waits
    # Tensor cores may multiply in TF32: 10 bits of mantissa, a dozen layers deep.
    assert_close(found.cpu(), expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
