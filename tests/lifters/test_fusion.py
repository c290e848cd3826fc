"""Points through a pillar network, and volumes of several sensors to one."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import VoxelGrid
from renderpretrain.lifters import ConcatFusion, PillarFeatureNet, sum_volumes

GRID = VoxelGrid((-4.0, -4.0, -1.0, 4.0, 4.0, 3.0), (2.0, 2.0, 4.0))


def cloud(count=150):
    """Points in and around the grid, with an intensity; the last are padding."""
    points = torch.cat([torch.rand(2, count, 3) * 10 - 5, torch.rand(2, count, 1)], -1)
    valid = torch.arange(count).expand(2, count) < torch.tensor([[count - 4], [count - 9]])
    return torch.where(valid[..., None], points, torch.nan), valid


def test_a_pillar_is_the_maximum_of_its_points_features():
    """Slowly: per pillar the mean, per point the ten numbers, the layer, the maximum."""
    net = PillarFeatureNet(GRID, 4, 6).eval()
    layer = net.pfn_layers[0]
    layer.norm.running_mean.normal_(), layer.norm.running_var.uniform_(0.5, 2)
    points, valid = cloud()
    volume = net(points, valid)
    expected = torch.zeros(2, 6, 1, 4, 4)
    for b in range(2):
        kept = points[b][valid[b]]
        kept = kept[GRID.contains(kept[:, :3])]
        cells = GRID.cells(kept[:, :3])
        for cell in cells.unique(dim=0):
            mine = kept[(cells == cell).all(1)]
            z, y, x = cell.tolist()
            center = torch.tensor([-4 + 2 * (x + 0.5), -4 + 2 * (y + 0.5), 1.0])
            place = mine[:, :3]
            described = torch.cat([mine, place - place.mean(0), place - center], 1)
            expected[b, :, z, y, x] = layer.norm(layer.linear(described)).relu().amax(0)
    assert (expected.amax(1) > 0).sum() > 20
    assert_close(volume, expected, rtol=1e-5, atol=1e-5)  # the mean of a few points in float32


def test_the_pillar_network_learns_and_padding_does_not_reach_it():
    net, (points, valid) = PillarFeatureNet(GRID, 4, 6), cloud()
    volume = net(points, valid)
    volume.square().sum().backward()
    assert torch.isfinite(volume).all()
    assert all(p.grad.any() and torch.isfinite(p.grad).all() for p in net.parameters())
    assert set(net.state_dict()) >= {"pfn_layers.0.linear.weight", "pfn_layers.0.norm.running_var"}


def test_an_empty_cloud_is_an_empty_volume():
    net, (points, valid) = PillarFeatureNet(GRID, 4, 6).eval(), cloud()
    volume = net(points, torch.zeros_like(valid))
    assert volume.shape == (2, 6, 1, 4, 4) and not volume.any()


@pytest.mark.parametrize("count", [0, 1])
def test_so_few_points_train_with_the_running_statistics_and_leave_them_alone(count):
    """One point has no variance; PyTorch's own layer refuses it in training."""
    net, (points, valid) = PillarFeatureNet(GRID, 4, 6), cloud()
    net.pfn_layers[0].norm.running_mean.normal_()
    before = {name: value.clone() for name, value in net.pfn_layers[0].norm.state_dict().items()}
    inside = (valid & GRID.contains(points[..., :3].nan_to_num(99.0))).nonzero()[:count]
    valid = torch.zeros_like(valid)
    valid[tuple(inside.T)] = True
    volume = net(points, valid)
    volume.square().sum().backward()
    assert (volume != 0).any() == bool(count)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    assert all(torch.equal(before[n], v) for n, v in net.pfn_layers[0].norm.state_dict().items())
    assert torch.equal(volume, net.eval()(points, valid))


def test_the_sum_of_volumes():
    volumes = [torch.randn(2, 3, 1, 4, 5) for _ in range(3)]
    assert_close(sum_volumes(volumes), volumes[0] + volumes[1] + volumes[2])
    assert_close(sum_volumes(volumes[:1]), volumes[0])


def test_concatenation_is_bevfusions_convolution():
    """On a BEV map, with the weights of a 2D fuser."""
    flat = torch.nn.Sequential(
        torch.nn.Conv2d(5, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
    )
    fuser = ConcatFusion((3, 2), 4, kernel_size=(1, 3, 3))
    state = flat.state_dict()
    fuser.load_state_dict(state | {"0.weight": state["0.weight"][:, :, None]})
    volumes = [torch.randn(2, 3, 1, 6, 5), torch.randn(2, 2, 1, 6, 5)]
    expected = flat(torch.cat(volumes, 1)[:, :, 0])[:, :, None]
    # Sums of 45 products in float32, normalised.
    assert_close(fuser(volumes), expected, rtol=1e-4, atol=1e-5)


def test_a_fused_volume_stays_on_its_grid():
    fuser = ConcatFusion((3, 2), 4)
    volume = fuser([torch.randn(1, 3, 5, 6, 7), torch.randn(1, 2, 5, 6, 7)])
    assert volume.shape == (1, 4, 5, 6, 7)


@pytest.mark.untyped
def test_volumes_that_do_not_fit_are_named():
    one, wide = torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 2, 2, 4, 8)
    with pytest.raises(
        ValueError, match=r"volumes: expected at least one, all of one \(B, Z, Y, X\), got \[\]"
    ):
        sum_volumes([])
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 4, 4\), \(1, 2, 4, 8\)\]"):
        ConcatFusion((3, 2), 4)([one, wide])
    with pytest.raises(ValueError, match=r"volumes: expected one shape, got \[\(1, 3, 2, 4, 4\), \(1, 2, 2"):
        sum_volumes([one, one[:, :2]])
    with pytest.raises(ValueError, match=r"volumes: expected \(3, 2\) channels, got \(3, 3\)"):
        ConcatFusion((3, 2), 4)([one, one])
    with pytest.raises(ValueError, match=r"kernel_size: expected odd sizes, got \(2, 3, 3\)"):
        ConcatFusion((3,), 4, kernel_size=(2, 3, 3))
