"""Depth-weighted view lifting: a slow loop, and the numbers of UniPAD's own Uni3DViewTrans."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras, VoxelGrid
from renderpretrain.lifters import (
    ViewLifter,
    depth_log_likelihood,
    lift_points,
    lift_views,
    lift_voxels,
    pose_coordinates,
    view_coordinates,
)


def ring(count, size=(24, 40)):
    """Cameras at the origin looking outwards, evenly around the z axis."""
    poses = []
    for k in range(count):
        angle = torch.tensor(2 * torch.pi * k / count)
        forward = torch.stack([angle.cos(), angle.sin(), torch.tensor(0.0)])
        down = torch.tensor([0.0, 0.0, -1.0])
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward], 1)
        poses.append(pose)
    k = torch.tensor([[20.0, 0, size[1] / 2], [0, 20.0, size[0] / 2], [0, 0, 1]])
    return Cameras(k.expand(1, count, 3, 3), torch.stack(poses)[None], size)


def read(image, u, v):
    """Bilinear reading at continuous indices, zero outside."""
    total = torch.zeros(image.shape[0])
    for i in (int(v // 1), int(v // 1) + 1):
        for j in (int(u // 1), int(u // 1) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total += image[:, i, j] * (1 - abs(v - i)) * (1 - abs(u - j))
    return total


def test_it_equals_a_slow_loop():
    cameras, grid = ring(3), VoxelGrid((-8.0, -8.0, -2.0, 8.0, 8.0, 2.0), (4.0, 4.0, 2.0))
    features, bins = torch.randn(1, 3, 5, 6, 10), torch.rand(1, 3, 8, 6, 10)
    centers = grid.centers().reshape(-1, 3)
    coordinates, valid = view_coordinates(cameras, centers, (0.0, 16.0))
    lifted = lift_views(features, bins, coordinates, valid)
    expected = torch.zeros(5, len(centers))
    for n in range(3):
        pixels, z, seen = cameras[0, n].project(centers)
        for p in range(len(centers)):
            if seen[p] and z[p] < 16:
                u, v, d = pixels[p, 0].item() / 4 - 0.5, pixels[p, 1].item() / 4 - 0.5, z[p].item() / 2 - 0.5
                low = int(d // 1)
                share = d - low
                likely = sum(
                    w * read(bins[0, n, k, None], u, v)
                    for k, w in ((low, 1 - share), (low + 1, share))
                    if 0 <= k < 8
                )
                expected[:, p] += read(features[0, n], u, v) * likely
    assert valid.any() and not valid.all()
    # Sixteen products in float32.
    assert_close(lifted[0], expected, rtol=1e-4, atol=1e-5)


def test_it_agrees_with_unipad(golden):
    """Voxels at lower corners, image and depth corner-aligned; the frustum test is theirs as given."""
    g = golden("unipad_view_lifter.npz")
    (height, width), (near, far) = g["image_size_h_w"].tolist(), g["depth_range"].tolist()
    points = g["reference_points"].reshape(-1, 3).double()  # (Z, Y, X) order
    homogeneous = torch.cat([points, torch.ones_like(points[:, :1])], 1)
    projected = torch.einsum("nij,pj->npi", g["lidar2img"], homogeneous)
    d = projected[..., 2]
    uv = projected[..., :2] / d[..., None].clamp(min=1e-5)
    # index = u / W * (w - 1) read edge to edge is 2 (index + 0.5) / w - 1.
    h, w, bins = g["features_n_c_h_w"].shape[2], g["features_n_c_h_w"].shape[3], int(g["depth_bins"])
    u = 2 * (uv[..., 0] / width * (w - 1) + 0.5) / w - 1
    v = 2 * (uv[..., 1] / height * (h - 1) + 0.5) / h - 1
    k = 2 * ((d - near) / (far - near) * (bins - 1) + 0.5) / bins - 1
    valid = g["mask_n_x_y_z"].permute(0, 3, 2, 1).reshape(1, len(uv), -1)
    features, depth = (
        g[n][None].clone().requires_grad_() for n in ("features_n_c_h_w", "depth_prob_n_d_h_w")
    )
    lifted = lift_views(features, depth, torch.stack([u, v, k], -1)[None].float(), valid)
    expected = g["out_c_z_y_x"]
    lifted = lifted[0].view_as(expected)
    assert_close(lifted, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    lifted.backward(g["grad_out"])
    for got, name in ((features.grad[0], "grad_features"), (depth.grad[0], "grad_depth_prob")):
        assert_close(got, g[name], rtol=1e-4, atol=1e-5 * g[name].abs().max().item())


def test_a_certain_depth_lifts_the_feature_to_its_voxel():
    """A camera looking along +x that is sure of 6 m writes at 6 m and nowhere else."""
    cameras, grid = ring(1), VoxelGrid((0.0, -1.0, -1.0, 16.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    lifter = ViewLifter(grid, 4, depth_bins=8, depth_range=(0.0, 16.0))
    with torch.no_grad():
        lifter.depth_head.weight.zero_()
        lifter.depth_head.bias.zero_()
        lifter.depth_head.bias[3] = 100.0  # [6, 8) m, centre 7 m = the centre of voxel 3
        volume = lifter([torch.ones(1, 1, 4, 6, 10)], cameras, torch.ones(1, 1, dtype=torch.bool))
    assert_close(volume[0, 0, 0, 0], torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 0]), rtol=0, atol=1e-6)


def test_a_padded_camera_lifts_nothing():
    cameras, grid = ring(2), VoxelGrid((-8.0, -8.0, -2.0, 8.0, 8.0, 2.0), (4.0, 4.0, 2.0))
    lifter = ViewLifter(grid, 4)
    none = lifter([torch.rand(1, 2, 4, 6, 10)], cameras, torch.zeros(1, 2, dtype=torch.bool))
    assert not none.any()


@pytest.mark.parametrize(("reduce", "first"), [("sum", 4.0), ("mean", 2.0), ("max", 3.0)])
def test_points_land_in_their_voxel(reduce, first):
    grid = VoxelGrid((0.0, 0.0, 0.0, 2.0, 2.0, 2.0), (1.0, 1.0, 1.0))
    points = torch.tensor(
        [[[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [1.5, 0.5, 0.5], [-0.01, 0.5, 0.5], [0.5, 0.5, 0.5]]]
    )
    values = torch.tensor([[[1.0], [3.0], [5.0], [7.0], [100.0]]])
    valid = torch.tensor([[True, True, True, True, False]])
    volume = lift_points(values, points, valid, grid, reduce=reduce)
    assert volume[0, 0, 0, 0].tolist() == [first, 5.0]
    assert volume.sum() == first + 5.0


def test_the_likelihood_of_a_depth_by_hand():
    """Half of the mass in [6, 8) m, half in [8, 10) m: 8 m lies between their centres."""
    cameras = ring(1)
    probabilities = torch.zeros(1, 1, 8, 6, 10)
    probabilities[0, 0, 3:5] = 0.5
    points = torch.tensor([[[[8.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-5.0, 0.0, 0.0]]]])
    coordinates, valid = view_coordinates(cameras, points, (0.0, 16.0))
    likelihood = depth_log_likelihood(probabilities, coordinates, valid)
    assert valid[0, 0].tolist() == [True, True, False]
    assert_close(likelihood[0, 0].exp(), torch.tensor([0.5, 1e-6, 1.0]), rtol=1e-4, atol=1e-7)


def test_coordinates_for_poses_are_those_for_lifting():
    cameras, points = ring(3), 10 * torch.randn(1, 3, 200, 3)
    expected, seen = view_coordinates(cameras, points, (0.5, 12.0))
    coordinates, valid = pose_coordinates(cameras, points, (0.5, 12.0))
    assert torch.equal(valid, seen) and 10 < valid.sum() < 500
    # Two ways to compute in float32; far outside the image the coordinates grow without bound.
    assert_close(coordinates[valid], expected[valid], rtol=0, atol=1e-5)


def test_the_likelihood_says_where_the_camera_should_be():
    """Its gradient by the pose against differences, in float64."""
    still, points = ring(1), torch.tensor([[[[3.0, 0.4, 0.2], [5.0, -1.0, 0.3], [7.0, 0.9, -1.0]]]]).double()
    bins = torch.rand(1, 1, 8, 6, 10, dtype=torch.float64)

    def likelihood(shift):
        pose = still.camera_to_world.double() + torch.nn.functional.pad(shift[:, None], (3, 0, 0, 1))
        cameras = Cameras(still.intrinsics.double(), pose, still.image_size)
        coordinates, valid = pose_coordinates(cameras, points, (0.0, 12.0))
        assert valid.all()
        return depth_log_likelihood(bins, coordinates, valid)

    assert torch.autograd.gradcheck(likelihood, torch.zeros(3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_voxels_are_gathered_in_the_coarser_voxel_of_their_centre(reduce):
    fine = VoxelGrid((-2.0, -2.0, -1.0, 2.0, 2.0, 1.0), (0.25, 0.5, 0.5))
    grid = VoxelGrid((-1.0, -2.0, -1.0, 2.0, 2.0, 1.0), (1.0, 1.0, 2.0))  # the fine box reaches over it
    coords = torch.nonzero(torch.rand(2, *fine.shape) < 0.3).int()
    features = torch.randn(len(coords), 3)
    cells = {}
    for row, (b, z, y, x) in enumerate(coords.tolist()):
        center = fine.centers()[z, y, x]
        if grid.contains(center):
            cells.setdefault((b, *grid.cells(center).tolist()), []).append(features[row])
    want = torch.zeros(2, 3, *grid.shape)
    for (b, z, y, x), rows in cells.items():
        stacked = torch.stack(rows)
        want[b, :, z, y, x] = stacked.amax(0) if reduce == "max" else getattr(stacked, reduce)(0)
    # Sums of about ten float32 numbers in another order.
    assert_close(lift_voxels(features, coords, fine, grid, 2, reduce=reduce), want, rtol=1e-5, atol=1e-6)
