"""What is known of voxels is not looked at again, and what is known too little of is."""

import pytest
import torch

from renderpretrain import VoxelGrid, ops
from renderpretrain.encoders import SubMConv3d, voxelize
from renderpretrain.encoders.sparse_unet import SparseUNet
from renderpretrain.ops import _sorted_voxels, neighbor_search
from renderpretrain.ops.known_voxels import known_order, remember_voxels

GRID = VoxelGrid((0.0, 0.0, 0.0, 8.0, 6.0, 4.0), (0.5, 0.5, 0.5))


def made(batch=2):
    torch.manual_seed(0)
    points = torch.rand(batch, 200, 4) * torch.tensor([8.0, 6.0, 4.0, 1.0])
    return voxelize(points, torch.ones(batch, 200, dtype=torch.bool), GRID)


def test_facts_hold_in_larger_volumes_until_the_voxels_are_written_to():
    coords = (torch.rand(2, 3, 4, 5) < 0.5).nonzero()
    assert known_order(coords, (2, 3, 4, 5)) is None
    remember_voxels(coords, (2, 3, 4, 5), ordered=False)
    assert known_order(coords, (2, 3, 4, 5)) is False and known_order(coords, (2, 4, 4, 5)) is False
    assert known_order(coords, (2, 3, 4, 4)) is None and known_order(coords.clone(), (2, 3, 4, 5)) is None
    coords[0, 0] += 1
    assert known_order(coords, (2, 3, 4, 5)) is None


def test_nothing_is_known_in_inference_mode_where_nobody_counts_writes():
    with torch.inference_mode():
        coords = (torch.rand(2, 3, 4, 5) < 0.5).nonzero()
        remember_voxels(coords, (2, 3, 4, 5), ordered=True)
        assert known_order(coords, (2, 3, 4, 5)) is None


def test_voxels_of_points_are_what_is_said_of_them():
    voxels = made()
    for sparse in (voxels.to_sparse(), voxels.to_sparse(torch.rand(len(voxels.coords)) < 0.5)):
        shape = (2, *GRID.shape)
        assert known_order(sparse.coords, shape) is True
        neighbor_search.check_inside(sparse.coords, shape)
        keys = neighbor_search.linear_keys(sparse.coords, GRID.shape)
        assert bool((keys[1:] > keys[:-1]).all())


@pytest.fixture
def looks(monkeypatch):
    """Counts the looks at voxels, for each of which the host of an accelerator waits."""
    seen = []
    look = _sorted_voxels._looked_at
    monkeypatch.setattr(_sorted_voxels, "_looked_at", lambda *given: seen.append(1) or look(*given))
    return seen


@pytest.mark.skipif(not ops.has_native("cpu"), reason="the references look themselves")
@pytest.mark.parametrize("net", [SubMConv3d(4, 8), SparseUNet(4, channels=(8, 8, 8, 8), depths=(1, 1, 1, 1))])
def test_networks_look_at_no_voxels_of_points_and_once_at_others(net, looks):
    sparse = made().to_sparse(torch.rand(len(made().coords)) < 0.5)
    of_points = net(sparse).features
    assert not looks
    others = type(sparse)(sparse.features, sparse.coords.clone(), sparse.spatial_shape, 2)
    assert torch.equal(net(others).features, of_points)
    # The network of several tables turns the axes, and looks at the turned voxels once.
    assert len(looks) == 1


def test_lists_of_a_plan_that_is_trusted_are_the_same():
    points = torch.rand(1, 2, 3, 4, 5, 3) * 9 - 0.5
    cells = ops.frustum_cells(points, GRID.shape, GRID.scale, GRID.offset).flatten(0, 1)
    looked, trusted = (ops.lss_plan(cells, GRID.num_voxels, trusted=trust) for trust in (False, True))
    assert all(torch.equal(getattr(looked, k), getattr(trusted, k)) for k in ("cells", "pixels", "bins"))
