"""Networks of one's own as encoders: the adapters say where outputs are, and refuse what does not fit."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain import VoxelGrid
from renderpretrain.encoders import (
    ConvNeXt,
    FlatEncoder,
    ImageEncoder,
    ImageMaps,
    PointEncoder,
    ResNet,
    SparseEncoder,
    VolumeEncoder,
    VoxelBackBone8x,
    voxelize,
)

GRID = VoxelGrid((0.0, -2.0, 0.0, 6.0, 2.0, 2.0), (0.5, 0.5, 0.5))  # 4 x 8 x 12


def voxels(count=300):
    points = torch.rand(2, count, 4) * torch.tensor([6.0, 4.0, 2.0, 1.0]) - torch.tensor([0.0, 2.0, 0.0, 0.0])
    return voxelize(points, torch.ones(2, count, dtype=torch.bool), GRID)


@pytest.mark.parametrize(
    ("layer", "first"),
    [
        (nn.Conv3d(1, 1, 3, stride=2, padding=1, bias=False), 0.0),
        (nn.Conv3d(1, 1, 2, stride=2, bias=False), None),
        (nn.Conv3d(1, 1, 2, stride=2, bias=False), 0.5),
        (nn.Conv3d(1, 1, 3, padding=1, bias=False), None),
    ],
    ids=["centred", "pooling", "said", "dense"],
)
def test_outputs_are_where_the_grid_says(layer, first):
    """Each output is the mean of its window, so that coordinates come out as the grid's centres."""
    nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    stride = layer.stride[0]
    encoder = VolumeEncoder(layer, 1, stride=stride, **({} if first is None else {"first": first}))
    full = voxelize(GRID.centers().reshape(1, -1, 3), torch.ones(1, GRID.num_voxels, dtype=torch.bool), GRID)
    out = encoder.output_grid(GRID)
    for axis in range(3):
        sparse = full.to_sparse().with_features(full.features[:, axis : axis + 1])
        got = encoder(sparse)[0, 0]
        assert got.shape == out.shape
        inner = got[1:-1, 1:-1, 1:-1] if stride == 1 else got[1:, 1:, 1:]  # borders see padding
        wanted = out.centers()[..., axis]
        wanted = wanted[1:-1, 1:-1, 1:-1] if stride == 1 else wanted[1:, 1:, 1:]
        assert_close(inner, wanted, atol=1e-5, rtol=0)


def test_a_network_on_lists_is_averaged_in_cells():
    class Features(nn.Module):
        def forward(self, positions, features, sample):
            return torch.cat([positions, sample[:, None].float()], 1)

    found = voxels(4000)
    encoder = FlatEncoder(Features(), 4, stride=(2, 2, 3))
    volume = encoder(found.to_sparse())
    out = encoder.output_grid(GRID)
    assert volume.shape == (2, 4, *out.shape) and out.shape == (2, 4, 4)
    expected, counts = torch.zeros_like(volume), torch.zeros(2, *out.shape)
    for b, z, y, x in found.coords.tolist():  # a slow loop
        cell = b, slice(None), z // 2, y // 2, x // 3
        expected[cell] += torch.tensor([x + 0.5, y + 0.5, z + 0.5, b])
        counts[b, z // 2, y // 2, x // 3] += 1
    assert_close(volume, expected / counts.clamp(min=1)[:, None])
    full = counts == 12  # in a full cell positions average to its centre
    assert full.any()
    centers = (out.centers() - torch.tensor(GRID.lower)) / torch.tensor(GRID.voxel_size)
    for b in range(2):
        assert_close(volume[b, :3].permute(1, 2, 3, 0)[full[b]], centers[full[b]])


def test_gradients_reach_networks_of_lists():
    encoder = FlatEncoder(PointMLP(), 8)
    encoder(voxels().to_sparse()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


class PointMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 8)

    def forward(self, positions, features, sample):
        return self.layer(torch.cat([positions, features], 1))


class Answers(nn.Module):
    """Says the same of everything."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *_):
        return self.answer


def test_hidden_patches_do_not_reach_an_image_network():
    encoder = ImageMaps(nn.Conv2d(3, 6, 4, stride=4), [6])
    images, hidden = torch.randn(2, 3, 16, 24), torch.rand(2, 1, 4, 6) < 0.5
    changed = torch.where(hidden.repeat_interleave(4, -1).repeat_interleave(4, -2), 9.0, images)
    assert torch.equal(encoder(images, hidden)[0], encoder(changed, hidden)[0])
    assert not torch.equal(encoder(images)[0], encoder(changed)[0])


def test_our_encoders_meet_the_contract():
    points = [SparseEncoder(4, 8, channels=((8, 8), (8,)), strides=((2, 2, 2),), paddings=((1, 1, 1),))]
    points += [VoxelBackBone8x(4), VolumeEncoder(nn.Identity(), 4), FlatEncoder(PointMLP(), 8)]
    assert all(isinstance(encoder, PointEncoder) for encoder in points)
    images = [ConvNeXt((1, 1), (8, 16), out_indices=(0, 1)), ResNet((1, 1, 1, 1), width=8)]
    images += [ImageMaps(nn.Identity(), [3])]
    assert all(isinstance(encoder, ImageEncoder) for encoder in images)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: VolumeEncoder(nn.Conv3d(4, 8, 3, stride=2, padding=1), 8)(voxels().to_sparse()),
            r"encoder: expected a volume \(2, 8, 4, 8, 12\).*stride=\(1, 1, 1\) say, got \(2, 8, 2, 4, 6\)",
        ),
        (
            lambda: VolumeEncoder(nn.Conv3d(4, 8, 3, padding=1), 16)(voxels().to_sparse()),
            r"encoder: expected a volume \(2, 16, .* got \(2, 8,",
        ),
        (lambda: FlatEncoder(PointMLP(), 9)(voxels().to_sparse()), r"encoder: expected features \(\d+, 9\)"),
        (
            lambda: ImageMaps(nn.Conv2d(3, 6, 4, stride=4), [8])(torch.zeros(1, 3, 8, 8)),
            r"encoder: expected maps \(B, C, h, w\) with C of \(8,\), got \(1, 6, 2, 2\)",
        ),
        (lambda: FlatEncoder(Answers(None), 8)(voxels().to_sparse()), r"expected features .* got NoneType"),
        (lambda: ImageMaps(Answers({"p3": 1}), [8])(torch.zeros(1, 3, 8, 8)), "expected maps .* got dict"),
        (lambda: ImageMaps(Answers([1]), [8])(torch.zeros(1, 3, 8, 8)), "expected maps .* got int"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.untyped  # our own words for what the hook refuses
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VolumeEncoder(nn.Conv3d, 8), r"network: expected a network, got the class Conv3d; hand in"),
        (lambda: FlatEncoder(PointMLP, 8), "network: expected a network, got the class PointMLP"),
        (lambda: ImageMaps(nn.Conv2d, [8]), "network: expected a network, got the class Conv2d"),
        (lambda: FlatEncoder("own:net", 8), "network: expected a network, got str 'own:net'"),
        (lambda: VolumeEncoder(nn.Identity(), 8, stride=0), "stride: expected whole voxels per cell, at lea"),
        (
            lambda: VolumeEncoder(nn.Identity(), 8, stride=(2, 2)),
            "stride: expected one number or three",
        ),
        (lambda: VolumeEncoder(nn.Identity(), 8, first=(0, 0)), "first: expected one number or three"),
        (lambda: ImageMaps(nn.Identity(), 3), "channels: expected a list, the width of every map, got 3"),
    ],
)
def test_adapters_are_told_what_they_hold(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_lists_say_as_much_as_tuples():
    """Settings of a file arrive as lists."""
    encoder = VolumeEncoder(nn.Identity(), 4, stride=[1, 2, 2], first=[0, 0, 0])
    assert encoder.stride == (1, 2, 2) and encoder.first == (0, 0, 0)
