"""Sparse encoders against OpenPCDet's numbers, and where their outputs lie in the world."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain.encoders import (
    RowBatchNorm,
    SparseConv3d,
    SparseEncoder,
    SparseTensor,
    SubMConv3d,
    VoxelBackBone8x,
)
from renderpretrain.geometry import VoxelGrid

needs_spconv = pytest.mark.spconv
BACKENDS = pytest.mark.parametrize("backend", ["builtin", pytest.param("spconv", marks=needs_spconv)])
TINY = {"channels": ((8, 8), (8, 16), (16, 16)), "strides": ((2, 2, 2),) * 2, "paddings": ((1, 1, 1),) * 2}


def tiny(backend="auto"):
    return SparseEncoder(4, 12, backend=backend, **TINY)


def scattered(shape, count=300):
    coords = torch.randperm(2 * shape[0] * shape[1] * shape[2])[:count]
    b, z, y, x = torch.unravel_index(coords, (2, *shape))
    return SparseTensor(torch.randn(count, 4), torch.stack([b, z, y, x], 1), shape, 2)


@BACKENDS
def test_voxelbackbone8x_is_openpcdets(golden, backend):
    numbers = golden("openpcdet_voxelbackbone8x.npz")
    encoder = VoxelBackBone8x(4, backend=backend).eval()
    encoder.load_state_dict({k[6:]: v.float() for k, v in numbers.items() if k.startswith("state:")})
    grid = (24, 48, 64)  # the golden's 25 slices are these and the appended one
    x = SparseTensor(numbers["features"], numbers["coords_batch_z_y_x"], grid, 2)
    with torch.no_grad():
        results = encoder.levels(x)
    for i, result in enumerate(results[:4], 1):
        coords = numbers[f"out_x_conv{i}_coords"]
        theirs = SparseTensor(numbers[f"out_x_conv{i}"], coords, result.spatial_shape, 2).dense()
        assert len(result.coords) == len(coords)
        assert_close(result.dense(), theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))  # float32
    dense = numbers["out_dense_b_c_z_y_x"]
    assert_close(results[4].dense(), dense, rtol=0, atol=1e-5 * float(dense.abs().max()))
    assert_close(encoder(x), results[4].dense())


def test_sparse_encoder_keys_are_mmdetection3ds():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in SparseEncoder(5).state_dict().items()}
    assert shapes["conv_input.0.weight"] == (16, 3, 3, 3, 5)
    assert shapes["conv_input.1.running_mean"] == (16,)
    assert shapes["encoder_layers.encoder_layer1.0.conv1.weight"] == (16, 3, 3, 3, 16)
    assert shapes["encoder_layers.encoder_layer1.1.bn2.bias"] == (16,)
    assert shapes["encoder_layers.encoder_layer1.2.0.weight"] == (32, 3, 3, 3, 16)
    assert shapes["encoder_layers.encoder_layer3.2.1.num_batches_tracked"] == ()
    assert shapes["encoder_layers.encoder_layer4.1.conv2.weight"] == (128, 3, 3, 3, 128)
    assert shapes["conv_out.0.weight"] == (256, 1, 1, 1, 128)
    assert len(shapes) == 6 * (1 + 8 * 2 + 3 + 1)  # a weight and five entries of a norm per convolution


def test_published_grid_gives_the_published_volume():
    """108 m x 108 m x 8 m in 1440 x 1440 x 40 voxels become 180 x 180 x 5 cells of 0.6 m x 0.6 m x 1.6 m."""
    fine = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.075, 0.075, 0.2))
    with torch.device("meta"):
        coarse = SparseEncoder(5).output_grid(fine)
    assert coarse.shape == (5, 180, 180)
    assert_close(torch.tensor(coarse.voxel_size), torch.tensor([0.6, 0.6, 1.6]))
    # Output 0 is centred on fine voxel 0 along x and y, on fine voxel 4 along z: padded thrice, padded twice.
    first = coarse.to_world(torch.zeros(3))
    assert_close(first, fine.to_world(torch.tensor([0.0, 0.0, 4.0])))
    # BEVFusion's last convolution makes two slices of the five; its first reads those at 4, 12 and 20.
    with torch.device("meta"):
        flat = SparseEncoder(5, 128, out_geometry=((3, 1, 1), (2, 1, 1), 0)).output_grid(fine)
    assert flat.shape == (2, 180, 180)
    assert_close(flat.to_world(torch.zeros(3)), fine.to_world(torch.tensor([0.0, 0.0, 12.0])))


@pytest.mark.parametrize(
    "build",
    [
        tiny,
        lambda: VoxelBackBone8x(4),
        lambda: SparseEncoder(4, 8, channels=((8, 8), (8,)), strides=((1, 2, 2),), paddings=((1, 0, 1),)),
    ],
    ids=["tiny", "voxelbackbone8x", "anisotropic"],
)
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
def test_an_outputs_centre_is_the_centroid_of_what_it_sees(build, axis):
    """With all weights one an output's gradient is its receptive field; the output lies at its centroid.

    Along the other axes the box is short and cuts the field, which, being a product, does not care.
    """
    encoder = build().double().eval()
    for module in encoder.modules():
        if isinstance(module, (SubMConv3d, SparseConv3d)):
            nn.init.ones_(module.weight)
        if isinstance(module, RowBatchNorm):
            module.eps = 0.0  # then the norm is the identity
    size, cells = (0.5, 0.25, 0.2), [24, 24, 24]
    cells[axis] = 136
    upper = [low + n * s for low, n, s in zip((-3.0, 5.0, -1.0), cells, size, strict=True)]
    grid = VoxelGrid((-3.0, 5.0, -1.0, *upper), size)
    coords = torch.ones(1, *grid.shape).nonzero()
    features = torch.ones(len(coords), 4, dtype=torch.float64, requires_grad=True)
    volume = encoder(SparseTensor(features, coords, grid.shape, 1))
    coarse = encoder.output_grid(grid)
    assert coarse.shape == tuple(volume.shape[2:])
    z, y, x = (n // 2 for n in coarse.shape)
    volume[0, 0, z, y, x].backward()
    seen = features.grad.sum(1)
    where = grid.to_world(coords[:, 1:].flip(1).double())[:, axis]
    assert seen[(where == where.min()) | (where == where.max())].sum() == 0  # the whole field is inside
    expected = coarse.to_world(torch.tensor([x, y, z], dtype=torch.float64))[axis]
    # Half a voxel is 0.1 m or more; voxel_size 0.2 is inexact in binary at 1e-17.
    assert_close((seen * where).sum() / seen.sum(), expected, rtol=0, atol=1e-9)


@BACKENDS
def test_training_reaches_every_weight(backend):
    encoder = tiny(backend)
    x = scattered((9, 16, 20))
    volume = encoder(x)
    assert volume.shape == (
        2,
        12,
        *encoder.output_grid(VoxelGrid((0.0, 0.0, 0.0, 20.0, 16.0, 9.0), (1.0, 1.0, 1.0))).shape,
    )
    volume.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
    assert all((p.grad != 0).any() for p in encoder.parameters())


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_no_voxels_or_one_give_a_finite_volume(count, training):
    volume = tiny().train(training)(scattered((9, 16, 20), count))
    volume.sum().backward()
    assert torch.isfinite(volume).all()
    assert (volume == 0).all() or count


def test_a_sample_does_not_depend_on_its_batch_in_evaluation():
    encoder, x = tiny().eval(), scattered((9, 16, 20))
    second = x.coords[:, 0] == 1
    alone = SparseTensor(
        x.features[second], x.coords[second] - torch.tensor([1, 0, 0, 0]), x.spatial_shape, 1
    )
    assert_close(encoder(alone)[0], encoder(x)[1], rtol=1e-5, atol=1e-6)  # float32, order of summation


def test_layers_on_the_same_voxels_share_one_search():
    x = VoxelBackBone8x(4).levels(scattered((24, 16, 20)))[-1]
    assert set(x.rulebooks["builtin"]) == {
        *("subm1", "subm2", "subm3", "subm4"),
        *("spconv2", "spconv3", "spconv4", "spconv_down2"),
    }


def test_widths_that_a_residual_block_cannot_keep_are_refused():
    with pytest.raises(
        ValueError, match=r"channels: expected residual blocks of width 16 in stage 2, got \(32, 32\)"
    ):
        SparseEncoder(4, channels=((16, 16), (32, 32)), strides=((2, 2, 2),), paddings=((1, 1, 1),))
    with pytest.raises(
        ValueError, match="strides, paddings: expected 1 each for 2 stages of channels, got 2 and 1"
    ):
        SparseEncoder(4, channels=((16, 16), (16, 16)), strides=((2, 2, 2),) * 2, paddings=((1, 1, 1),))
