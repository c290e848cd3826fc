import pytest
import torch
from torch.testing import assert_close

from renderpretrain.encoders import voxelize
from renderpretrain.geometry import VoxelGrid

GRID = VoxelGrid((0.0, 0.0, 0.0, 4.0, 2.0, 2.0), (1.0, 1.0, 1.0))


def everything(points):
    return torch.ones(points.shape[:2], dtype=torch.bool)


def test_by_hand():
    points = torch.tensor(
        [[[0.2, 0.5, 0.5, 1.0], [3.9, 1.5, 0.1, 5.0], [0.8, 0.1, 0.9, 3.0], [9.0, 0.0, 0.0, 7.0]]]
    )
    voxels = voxelize(points, everything(points), GRID)
    assert voxels.coords.tolist() == [[0, 0, 0, 0], [0, 0, 1, 3]]
    assert voxels.counts.tolist() == [2, 1]
    assert voxels.point_to_voxel.tolist() == [[0, 1, 0, -1]]
    assert_close(voxels.features, torch.tensor([[0.5, 0.3, 0.7, 2.0], [3.9, 1.5, 0.1, 5.0]]))


def test_a_slow_loop_agrees():
    points, valid = torch.rand(2, 200, 5) * 5 - 0.5, torch.rand(2, 200) < 0.8
    points[~valid] = float("nan")
    voxels = voxelize(points, valid, GRID)
    boxes = {}
    for b in range(2):
        for p in range(200):
            x, y, z = points[b, p, :3].tolist()
            if valid[b, p] and 0 <= x < 4 and 0 <= y < 2 and 0 <= z < 2:
                boxes.setdefault((b, int(z), int(y), int(x)), []).append(p)
    assert [tuple(c) for c in voxels.coords.tolist()] == sorted(boxes)
    for row, (cell, members) in enumerate(sorted(boxes.items())):
        assert voxels.counts[row] == len(members)
        assert_close(voxels.features[row], points[cell[0], members].mean(0))
        assert (voxels.point_to_voxel[cell[0], members] == row).all()
    assert (voxels.point_to_voxel >= 0).sum() == sum(map(len, boxes.values()))


def test_the_limit_keeps_each_samples_earliest_voxels():
    x = torch.tensor([[3.5, 0.5, 3.5, 1.5, 0.5], [2.5, 2.5, 2.5, 2.5, 1.5]])
    points = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.5)], dim=-1)
    voxels = voxelize(points, everything(points), GRID, max_voxels=2)
    assert voxels.coords.tolist() == [[0, 0, 0, 0], [0, 0, 0, 3], [1, 0, 0, 1], [1, 0, 0, 2]]
    assert voxels.counts.tolist() == [2, 2, 1, 4]
    assert voxels.point_to_voxel.tolist() == [[1, 0, 1, -1, 0], [3, 3, 3, 3, 2]]
    whole = voxelize(points, everything(points), GRID)
    assert_close(voxels.features, whole.features[[0, 2, 3, 4]])


def test_no_points_give_no_voxels():
    points = torch.zeros(2, 3, 4)
    for limit in (None, 5):
        voxels = voxelize(points, torch.zeros(2, 3, dtype=torch.bool), GRID, max_voxels=limit)
        assert voxels.features.shape == (0, 4)
        assert voxels.to_sparse().dense().shape == (2, 4, 2, 2, 4)


def test_hidden_voxels_are_left_out():
    points = torch.rand(1, 50, 3)
    points[..., 0] *= 4
    voxels = voxelize(points, everything(points), GRID)
    hidden = voxels.coords[:, 3] < 2
    x = voxels.to_sparse(hidden)
    assert x.coords[:, 3].min() == 2
    assert len(x.coords) == (~hidden).sum()


def test_rows_of_voxels_are_points_again():
    points = torch.rand(2, 200, 4) * 3 - 0.5  # some lie outside
    valid = torch.rand(2, 200) < 0.8
    voxels = voxelize(points, valid, GRID)
    rows = torch.rand(len(voxels.coords)) < 0.5
    chosen = voxels.points_of(rows)
    left = voxelize(points, valid & ~chosen, GRID)
    assert torch.equal(left.coords, voxels.coords[~rows]) and torch.equal(
        left.features, voxels.features[~rows]
    )
    assert rows.any() and not chosen[~valid].any()
    assert not chosen[~GRID.contains(points[..., :3])].any()


def test_gradient_of_a_mean():
    points = torch.tensor([[[0.5, 0.5, 0.5], [0.6, 0.5, 0.5], [2.5, 0.5, 0.5]]], requires_grad=True)
    voxelize(points, everything(points), GRID).features.sum().backward()
    assert points.grad[0, :, 0].tolist() == [0.5, 0.5, 1.0]


@pytest.mark.gpu
def test_cuda_finds_the_same_voxels():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    points = torch.rand(2, 500, 4) * 4
    here, there = (voxelize(p, everything(p).to(p.device), GRID) for p in (points, points.cuda()))
    assert torch.equal(here.coords, there.coords.cpu())
    assert_close(here.features, there.features.cpu())


@pytest.mark.untyped
def test_the_mask_must_fit_the_points():
    with pytest.raises(ValueError, match=r"valid: expected torch\.bool of shape \(1, 4\) on cpu, got .*3\)"):
        voxelize(torch.zeros(1, 4, 3), torch.ones(1, 3, dtype=torch.bool), GRID)
    with pytest.raises(ValueError, match=r"points: expected \(B P C\), got \(4, 3\)"):
        voxelize(torch.zeros(4, 3), torch.ones(4, dtype=torch.bool), GRID)
