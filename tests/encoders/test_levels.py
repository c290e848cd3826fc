"""Encoders give all their levels: what a call gives is among them, and they lie where the encoder says."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from renderpretrain import VoxelGrid
from renderpretrain.encoders import (
    ENCODERS,
    ConvNeXt,
    GridLevels,
    ImageLevels,
    ResNet,
    SparseEncoder,
    SparseUNet,
    SwinTransformer,
    TimmBackbone,
    VolumeNeck,
    VolumeUNet,
    VoxelBackBone8x,
    voxelize,
)

SIZES = ((64, 96), (72, 116))
"""The second is not divisible by the coarsest stride."""


class LikeTimm(nn.Module):
    """What a network of timm has, of two convolutions."""

    class feature_info:
        channels, reduction = staticmethod(lambda: [8, 12]), staticmethod(lambda: [4, 8])

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)

    def forward(self, x):
        x = self.first(x)
        return [x, self.second(x)]


IMAGES = {
    "ResNet": lambda: ResNet((1, 1, 1, 1), width=8, out_indices=(1, 3)),
    "bottlenecks": lambda: ResNet((1, 1, 1), width=8, bottleneck=True, out_indices=(0, 1)),
    "ConvNeXt": lambda: ConvNeXt((1, 1, 1, 1), (8, 16, 16, 24), out_indices=(0, 2)),
    "SwinTransformer": lambda: SwinTransformer((1, 2, 1), 32, window=4, out_indices=(1,), mask_token=True),
    "TimmBackbone": lambda: TimmBackbone(LikeTimm(), out_indices=(1,)),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_levels_of_images(name, size):
    encoder = IMAGES[name]().eval()
    images, hidden = torch.randn(2, 3, *size), torch.rand(2, 1, 4, 6) < 0.5
    assert isinstance(encoder, ImageLevels)
    levels, called = encoder.levels(images, hidden), encoder(images, hidden)
    chosen = sorted(encoder.out_indices)
    assert all(torch.equal(levels[i], x) for i, x in zip(chosen, called, strict=True))
    assert [x.shape[1] for x in levels] == list(encoder.level_channels)
    whole = isinstance(encoder, ConvNeXt)  # it leaves an incomplete cell out, the others have one
    for x, stride in zip(levels, encoder.level_strides, strict=True):
        assert tuple(x.shape[2:]) == tuple(n // stride if whole else -(-n // stride) for n in size)


GRID = VoxelGrid((0.0, -2.0, 0.0, 6.5, 2.5, 3.5), (0.5, 0.5, 0.5))  # 7 x 9 x 13
SMALL = {
    "channels": ((8, 8, 12), (12, 16), (16,)),
    "strides": ((2, 2, 2),) * 2,
    "paddings": ((1, 1, 1), (0, 1, 1)),
}
POINTS = {
    "SparseEncoder": (lambda: SparseEncoder(4, 20, **SMALL), [(1, 1), (2, 2), (4, 4), (4, 4), (4, 4)]),
    "SECOND": (
        lambda: SparseEncoder(4, 20, **SMALL, out_geometry=((3, 1, 1), (2, 1, 1), (1, 0, 0))),
        [(1, 1), (2, 2), (4, 4), (4, 4), (8, 4)],
    ),
    "VoxelBackBone8x": (lambda: VoxelBackBone8x(4), [(1, 1), (2, 2), (4, 4), (8, 8), (16, 8)]),
    "SparseUNet": (
        lambda: SparseUNet(4, channels=(8, 12, 16, 12), depths=(1, 1, 1, 1), stem_channels=8),
        [(1, 1), (2, 2), (4, 4)],
    ),
}
"""And the strides of all levels, along z and horizontally."""


def check_grids(grids, strides):
    for grid, (z, y) in zip(grids, strides, strict=True):
        assert_close(grid.voxel_size, (0.5 * y, 0.5 * y, 0.5 * z))


@pytest.mark.parametrize("name", POINTS)
@torch.no_grad()
def test_levels_of_voxels(name):
    make, strides = POINTS[name]
    high = VoxelGrid((0.0, 0.0, 0.0, 12.0, 10.0, 12.0), (0.5, 0.5, 0.5))
    grid, encoder = high if name == "VoxelBackBone8x" else GRID, make().eval()
    lower, upper = torch.tensor(grid.lower), torch.tensor(grid.upper)
    points = torch.cat([lower + torch.rand(2, 60, 3) * (upper - lower), torch.rand(2, 60, 1)], -1)
    x = voxelize(points, torch.ones(2, 60, dtype=torch.bool), grid).to_sparse()
    assert isinstance(encoder, GridLevels)
    levels, grids, called = encoder.levels(x), encoder.level_grids(grid), encoder(x)
    if name == "SparseUNet":
        assert torch.equal(levels[0].features, called.features) and torch.equal(levels[0].coords, x.coords)
        for level, (step, _) in zip(levels, strides, strict=True):
            cells = torch.cat([x.coords[:, :1], x.coords[:, 1:] // step], 1).unique(dim=0)
            assert torch.equal(level.coords.unique(dim=0).long(), cells.long())
    else:
        assert torch.equal(levels[-1].dense(), called)
        assert grids[-1] == encoder.output_grid(grid)
    assert [level.features.shape[1] for level in levels] == list(encoder.level_channels)
    assert [level.spatial_shape for level in levels] == [one.shape for one in grids]
    check_grids(grids, strides)


VOLUMES = {
    "VolumeUNet": (lambda: VolumeUNet(4, 6, channels=(8, 12, 16)), [(1, 1), (2, 2), (4, 4), (1, 1)]),
    "VolumeNeck": (
        lambda: VolumeNeck(4, 6, channels=(8, 12), strides=(1, 2), num_blocks=1),
        [(1, 1), (1, 2), (1, 1)],
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
@torch.no_grad()
def test_levels_of_volumes(name):
    make, strides = VOLUMES[name]
    network, volume = make().eval(), torch.randn(2, 4, *GRID.shape)
    assert isinstance(network, GridLevels)
    levels, grids = network.levels(volume), network.level_grids(GRID)
    if name == "VolumeUNet":
        assert torch.equal(network.final_conv(levels[0]), levels[-1])
    else:
        ups = [up(x)[..., :9, :13] for up, x in zip(network.deblocks, levels[:-1], strict=True)]
        assert torch.equal(ups[0] + ups[1], levels[-1])
    assert torch.equal(levels[-1], network(volume))
    assert [x.shape[1] for x in levels] == list(network.level_channels)
    assert [tuple(x.shape[2:]) for x in levels] == [one.shape for one in grids]
    check_grids(grids, strides)


@torch.no_grad()
def test_levels_of_volumes_lie_where_their_grids_say():
    """A volume of coordinates, averaged or read at centres, comes out as the centres of the level's grid."""
    centers = GRID.centers().permute(3, 0, 1, 2)[None]
    pooled = nn.functional.avg_pool3d(centers, 2)[0].permute(1, 2, 3, 0)
    z, y, x, _ = pooled.shape  # without the windows that reach over
    assert_close(pooled, VolumeUNet(3, channels=(4, 4)).level_grids(GRID)[1].centers()[:z, :y, :x])
    neck = VolumeNeck(3, 3, channels=(3, 3), strides=(1, 2), num_blocks=0)
    conv = neck.blocks[1][0]
    conv.weight.zero_()
    conv.weight[range(3), range(3), 0, 1, 1] = 1.0
    assert_close(conv(centers)[0].permute(1, 2, 3, 0), neck.level_grids(GRID)[1].centers())


def test_every_encoder_has_levels():
    necks = {
        name for name, kind in ENCODERS.items() if kind.role.reads == "maps"
    }  # a call gives all of theirs
    assert set(ENCODERS) - necks <= {*IMAGES, *POINTS, *VOLUMES}
