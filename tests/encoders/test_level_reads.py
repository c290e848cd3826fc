"""Levels are read where they lie: sparse ones against a slow loop, volumes and maps at their own centres."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import VoxelGrid
from renderpretrain.encoders import GridLevel, ImageLevel, SparseTensor
from renderpretrain.geometry import Cameras, Views
from renderpretrain.ops.known_voxels import remember_voxels

GRID = VoxelGrid((-4.0, -2.0, 0.0, 4.0, 3.0, 2.0), (1.0, 0.5, 0.5))


def voxels(channels=3, *, ordered, share=0.3):
    """A third of the cells of two samples, in the order of position or in none."""
    there = (torch.rand(2, *GRID.shape) < share).nonzero()
    if not ordered:
        there = there[torch.randperm(len(there))]
    coords = there.int()
    if ordered:
        remember_voxels(coords, (2, *GRID.shape), ordered=True)
    return SparseTensor(torch.randn(len(there), channels), coords, GRID.shape, 2)


def read_slowly(x, position, sample):
    """The voxels that there are among eight, by a search through all of them; weights that sum to 1."""
    index = GRID.to_index(position)
    total, read = 0.0, torch.zeros(x.features.shape[1])
    for corner in product((0, 1), repeat=3):
        cell = index.floor() + torch.tensor(corner)
        weight = float((1 - (index - cell).abs()).prod())
        wanted = torch.tensor([sample, *cell.flip(0).int().tolist()])
        rows = (x.coords == wanted).all(1).nonzero()
        if len(rows):
            total, read = total + weight, read + weight * x.features[rows[0, 0]]
    return read / total if total else read


@pytest.mark.parametrize("ordered", [True, False])
def test_sparse_reads_are_those_of_a_slow_loop(ordered):
    x = voxels(ordered=ordered)
    lower, upper = torch.tensor(GRID.lower), torch.tensor(GRID.upper)
    # A cell beyond every face, too, where neighbours in memory are none in space.
    positions = lower - 1.5 + torch.rand(2, 200, 3) * (upper - lower + 3.0)
    read = GridLevel("part/0", x, GRID).read(positions)
    slow = torch.stack(
        [torch.stack([read_slowly(x, p, b) for p in mine]) for b, mine in enumerate(positions)]
    )
    assert (slow.abs().sum(-1) == 0).sum() > 20
    assert_close(read, slow, rtol=0, atol=2e-5)  # float32 weights of about 1e-7, divided by their sum


def test_sparse_reads_at_centers_are_the_cells_own_and_elsewhere_nothing():
    x = voxels(ordered=False)
    level, centers = GridLevel("part/0", x, GRID), GRID.centers()
    read = level.read(centers.view(1, -1, 3).expand(2, -1, -1)).view(2, *GRID.shape, 3)
    assert_close(read[tuple(x.coords.long().unbind(1))], x.features)
    far = torch.tensor([[[100.0, 0.0, 0.0], [float("nan"), 0.0, 0.0], [0.0, 0.0, float("inf")]]])
    assert level.read(far.expand(2, -1, -1)).abs().sum() == 0
    nothing = SparseTensor(x.features[:0], x.coords[:0], GRID.shape, 2)
    assert GridLevel("part/0", nothing, GRID).read(centers.view(1, -1, 3).expand(2, -1, -1)).abs().sum() == 0


def test_gradients_of_sparse_reads():
    x = voxels(ordered=False)
    positions = torch.rand(2, 5, 3) * 2
    features = x.features.double().requires_grad_()

    def read(features):
        return GridLevel("part/0", x.with_features(features), GRID).read(positions)

    # Reads are float32: the gradient is that of a linear map, so it is known from reads of the unit vectors.
    cotangents = torch.randn(2, 5, 3)
    (gradient,) = torch.autograd.grad((read(features) * cotangents).sum(), features)
    shares = read(torch.eye(len(x.features)))
    assert_close(gradient.float(), torch.einsum("bpm,bpc->mc", shares, cotangents))
    assert_close(shares.sum(-1)[shares.sum(-1) > 0], torch.ones(int((shares.sum(-1) > 0).sum())))


def test_reads_of_volumes_and_of_an_axis_of_one_cell():
    volume, centers = torch.randn(2, 3, *GRID.shape), GRID.centers().view(1, -1, 3).expand(2, -1, -1)
    level = GridLevel("part/1", volume, GRID)
    assert_close(level.read(centers), volume.flatten(2).mT, rtol=0, atol=1e-5)
    assert level.rows().shape == (2 * GRID.num_voxels, 3) and level.channels == 3
    flat = VoxelGrid((*GRID.lower, *GRID.upper), (1.0, 0.5, 2.0))
    above = centers + torch.tensor([0.0, 0.0, 7.0])
    plane = torch.randn(2, 3, *flat.shape)
    for places in (centers, above):
        assert_close(
            GridLevel("lifter/0", plane, flat).read(places).mT.unflatten(2, GRID.shape),
            plane.expand(-1, -1, GRID.shape[0], -1, -1),
            rtol=0,
            atol=1e-5,
        )


def test_features_that_do_not_lie_on_their_grid_are_told():
    coarse = GRID.coarsened((2, 1, 1))
    with pytest.raises(ValueError, match="part/0: expected"):
        GridLevel("part/0", voxels(ordered=True), coarse)
    with pytest.raises(ValueError, match="part/1: expected"):
        GridLevel("part/1", torch.zeros(1, 3, *GRID.shape), coarse)


def test_reads_of_maps_are_means_over_the_cameras_that_see():
    pose = torch.eye(4).expand(1, 2, 4, 4).clone()
    pose[0, 1, :3, :3] = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])  # the second looks back
    pose[0, 1, 2, 3] = 8.0
    intrinsics = torch.tensor([[4.0, 0, 4], [0, 4, 4], [0, 0, 1]]).expand(1, 2, 3, 3)
    views = Views(
        torch.zeros(1, 2, 3, 8, 8), Cameras(intrinsics, pose, (8, 8)), torch.ones(1, 2, dtype=torch.bool)
    )
    maps = torch.randn(1, 2, 5, 4, 4)
    level = ImageLevel("image_neck/0", maps)
    # Pixel (5, 3) of the first camera is the centre of cell (1, 2); the second sees it mirrored at (3, 3).
    positions = torch.tensor([[[1.0, -1.0, 4.0], [2.5, -2.5, 10.0], [0.0, 0.0, -3.0], [99.0, 0.0, 4.0]]])
    read = level.read(positions, views)
    assert_close(read[0, 0], (maps[0, 0, :, 1, 2] + maps[0, 1, :, 1, 1]) / 2)
    assert_close(read[0, 1], maps[0, 0, :, 1, 2])
    assert_close(read[0, 2], maps[0, 1, :, 1:3, 1:3].mean((1, 2)))
    assert read[0, 3].abs().sum() == 0
    assert level.rows().shape == (2 * 16, 5) and level.channels == 5
