import pytest
import torch
from torch.testing import assert_close

from renderpretrain import VoxelGrid

GRID = VoxelGrid((-54.0, -54.0, -5.0, 54.0, 54.0, 3.0), (0.6, 0.6, 1.6))


def test_unipads_grid_has_180_180_5_voxels():
    assert GRID.shape == (5, 180, 180)
    assert GRID.num_voxels == 162000


def test_the_first_centre_is_half_a_voxel_in():
    assert_close(GRID.centers()[0, 0, 0], torch.tensor([-53.7, -53.7, -4.2]))


def test_centres_have_integer_indices():
    index = GRID.to_index(GRID.centers())
    # float32 at 54 m has steps of 4e-6 m; times 1/0.6.
    assert_close(index, index.round(), rtol=0, atol=2e-5)
    assert_close(index[4, 3, 2], torch.tensor([2.0, 3.0, 4.0]), rtol=0, atol=2e-5)


def test_world_and_index_are_inverse():
    points = (torch.rand(100, 3, dtype=torch.float64) - 0.5) * 100
    assert_close(GRID.to_world(GRID.to_index(points)), points)


def test_every_centre_lies_in_its_own_cell():
    z, y, x = GRID.shape
    expected = torch.stack(
        torch.meshgrid(torch.arange(z), torch.arange(y), torch.arange(x), indexing="ij"), -1
    )
    assert torch.equal(GRID.cells(GRID.centers()), expected)


def test_cells_round_down_and_never_leak_across_the_lower_face():
    grid = VoxelGrid((0.0, 0.0, 0.0, 4.0, 4.0, 4.0), (1.0, 1.0, 1.0))
    points = torch.tensor(
        [[0.0, 0.5, 0.99], [-0.01, 0.5, 0.5], [3.999, 0.0, 0.0], [4.0, 0.0, 0.0], [float("nan"), 0, 0]]
    )
    assert grid.contains(points).tolist() == [True, False, True, False, False]
    assert grid.cells(points)[0].tolist() == [0, 0, 0]
    assert grid.cells(points)[2].tolist() == [0, 0, 3]


def test_corner_aligned_is_align_corners_true():
    """A volume read with align_corners=True over the range equals ours on the grown box."""
    box = (-54.0, -54.0, -5.0, 54.0, 54.0, 3.0)
    grid = VoxelGrid.corner_aligned(box, (5, 180, 180))
    points = (torch.rand(50, 3, dtype=torch.float64) - 0.5) * torch.tensor([108.0, 108.0, 8.0]).double()
    lower, upper = torch.tensor(box[:3]).double(), torch.tensor(box[3:]).double()
    theirs = (points - lower) / (upper - lower) * torch.tensor([179.0, 179.0, 4.0]).double()
    assert_close(grid.to_index(points), theirs, rtol=0, atol=1e-10)
    assert grid.shape == (5, 180, 180)


def test_a_coarsened_grid_covers_the_same_box():
    coarse = GRID.coarsened((2, 2, 5))
    assert coarse.shape == (1, 90, 90)
    assert coarse.point_cloud_range == GRID.point_cloud_range


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("box", "size", "message"),
    [
        ((0, 0, 0, 1, 1, 1), (0.3, 0.5, 0.5), r"voxel_size: 0.3 m does not divide the x extent \[0, 1\] m"),
        ((0, 0, 0, 1, 0, 1), (0.5, 0.5, 0.5), "y: expected max > min"),
        ((0, 0, 0, 1, 1, 1), (0.5, 0.5, -0.5), "z: expected max > min and a positive voxel size"),
    ],
)
def test_an_impossible_grid_is_refused(box, size, message):
    with pytest.raises(ValueError, match=message):
        VoxelGrid(box, size)


def test_a_volume_is_read_where_the_grid_lies():
    """A volume of its own centres gives every point back, as far as the outermost centres."""
    grid = VoxelGrid((-2.0, 1.0, 0.0, 4.0, 5.0, 3.0), (0.5, 1.0, 0.75))
    volume = grid.centers().permute(3, 0, 1, 2)[None]
    points = torch.tensor([-1.75, 1.5, 0.375]) + torch.rand(1, 50, 3) * torch.tensor([5.5, 3.0, 2.25])
    assert_close(grid.read(volume, points), points)
    assert not grid.read(volume, points + 10.0).any()


def test_voxels_are_numbered_over_the_batch():
    grid = VoxelGrid((-2.0, 1.0, 0.0, 4.0, 5.0, 3.0), (0.5, 1.0, 0.75))
    points = grid.centers().view(1, -1, 3).expand(2, -1, -1).clone()
    valid = torch.ones(2, grid.num_voxels, dtype=torch.bool)
    points[0, 3, 0], valid[1, 5] = 9.0, False
    expected = torch.arange(2 * grid.num_voxels).view(2, -1)
    expected[0, 3] = expected[1, 5] = -1
    assert torch.equal(grid.voxel_index(points, valid).long(), expected)
