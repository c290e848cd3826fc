"""Under ``torch.compile`` what depends on the number of voxels ends a graph, once, and runs as it is."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from renderpretrain import ops
from renderpretrain.encoders import SparseConv3d, SparseEncoder, SparseUNet, VoxelBackBone8x, voxelize
from renderpretrain.geometry import VoxelGrid
from renderpretrain.masking import voxel_candidates

pytestmark = [
    pytest.mark.untyped,  # the compiler cannot trace the hook's wrappers
    pytest.mark.filterwarnings("ignore"),  # where a graph ends the compiler warns in many words of its own
]

GRID = VoxelGrid((0.0, 0.0, 0.0, 32.0, 32.0, 32.0), (1.0, 1.0, 1.0))
WIDTHS = [[4, 4], [4, 4]]


def encoded(encoder):
    """A step that does something before its voxels, with them and after."""

    def step(points, valid):
        voxels = voxelize(points * 1.5, valid, GRID)
        return encoder(voxels.to_sparse()).cos()

    return step


def candidates(points, valid):
    voxels = voxelize(points * 1.5, valid, GRID)
    found, places = voxel_candidates(voxels.coords, len(points))
    return found.sum(1).cos() + places.sum().cos()


def cells(points, valid):
    """An operator whose result's size depends on numbers, itself."""
    index = ops.voxel_index(points * 1.5, valid, GRID.shape, GRID.lower, GRID.upper, GRID.scale, GRID.offset)
    return ops.occupied_cells(index.flatten(), GRID.num_voxels).cells.cos()


class Features(nn.Module):
    """A sparse network's features."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).features


STEPS = {
    "SparseEncoder": lambda: encoded(SparseEncoder(3, 4, channels=WIDTHS, strides=[2], paddings=[1])),
    "VoxelBackBone8x": lambda: encoded(VoxelBackBone8x(3)),
    "SparseUNet": lambda: encoded(Features(SparseUNet(3, channels=(4, 4), depths=(1, 1), stem_channels=4))),
    "SparseConv3d": lambda: encoded(Features(SparseConv3d(3, 4, (3, 2, 1)))),
    "voxel_candidates": lambda: candidates,
    "occupied_cells": lambda: cells,
}


@pytest.mark.parametrize("name", STEPS)
def test_there_is_a_graph_before_and_one_after(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    step, counter = STEPS[name](), CompileCounter()
    compiled = torch.compile(step, backend=counter)
    for count in (300, 170):  # other numbers of points and voxels: once more, with sizes that may change
        points, valid = torch.rand(1, count, 3) * 20, torch.ones(1, count, dtype=torch.bool)
        assert torch.equal(compiled(points, valid), step(points, valid))
    graphs = counter.frame_count
    points, valid = torch.rand(1, 211, 3) * 20, torch.ones(1, 211, dtype=torch.bool)
    assert torch.equal(compiled(points, valid), step(points, valid))
    assert graphs == counter.frame_count <= 4
