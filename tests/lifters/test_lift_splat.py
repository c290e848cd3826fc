"""Lift-splat lifting: a slow loop over pixels and depths, a certain depth by hand, absent cameras."""

import math

import torch
from torch.testing import assert_close

from renderpretrain import Cameras, VoxelGrid
from renderpretrain.lifters import LiftSplat, frustum_points

GRID = VoxelGrid((-8.0, -8.0, -2.0, 8.0, 8.0, 2.0), (2.0, 4.0, 2.0))


def looking_out(*angles, image_size=(24, 40)):
    """Cameras near the origin that look away from it, one per angle around the z axis; two batch elements."""
    poses = torch.eye(4).repeat(2, len(angles), 1, 1)
    for n, angle in enumerate(angles):
        forward = torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        down = torch.tensor([0.0, 0.0, -1.0])
        poses[:, n, :3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward], 1)
    poses[1, :, :3, 3] = torch.tensor([0.3, -0.2, 0.1])
    intrinsics = torch.tensor([[20.0, 0.0, 19.0], [0.0, 18.0, 13.0], [0.0, 0.0, 1.0]])
    return Cameras(intrinsics.expand(2, len(angles), 3, 3), poses, image_size)


def test_frustum_points_project_back_to_their_pixels_and_depths():
    cameras = looking_out(0.3, 2.0)
    points = frustum_points(cameras, torch.tensor([1.0, 7.0]), (6, 10))
    pixels, z_depth, _ = cameras.project(points.flatten(2, 4))
    expected_v, expected_u = torch.meshgrid(
        4 * torch.arange(6) + 2.0, 4 * torch.arange(10) + 2.0, indexing="ij"
    )
    for depth, at in zip((1.0, 7.0), (slice(0, 60), slice(60, 120)), strict=True):
        # Pixels of size 40 in float32, there and back.
        assert_close(pixels[..., at, 0], expected_u.flatten().expand(2, 2, -1), rtol=0, atol=1e-4)
        assert_close(pixels[..., at, 1], expected_v.flatten().expand(2, 2, -1), rtol=0, atol=1e-4)
        assert_close(z_depth[..., at], torch.full((2, 2, 60), depth))


def test_it_equals_a_slow_loop():
    cameras, lifter = looking_out(0.3, 2.0), LiftSplat(GRID, 5, depth_bins=3, depth_range=(1.0, 10.0))
    features = torch.randn(2, 2, 5, 3, 4)
    valid = torch.tensor([[True, True], [True, False]])
    volume, (probabilities,) = lifter.lift([features], cameras, valid)
    context = lifter.context(features.flatten(0, 1)).unflatten(0, (2, 2))
    expected = torch.zeros(2, 5, *GRID.shape)
    for b, n in valid.nonzero().tolist():
        to_plane = torch.linalg.inv(cameras.intrinsics[b, n])
        for d, i, j in torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(4)).tolist():
            plane = to_plane @ torch.tensor([(j + 0.5) * 10.0, (i + 0.5) * 8.0, 1.0])
            point = cameras.camera_to_world[b, n] @ torch.cat([plane * (2.5 + 3.0 * d), torch.ones(1)])
            if GRID.contains(point[:3]):
                z, y, x = GRID.cells(point[:3]).tolist()
                expected[b, :, z, y, x] += probabilities[b, n, d, i, j] * context[b, n, :, i, j]
    assert expected.any(1).sum() > 10
    # Sums of a few products in float32.
    assert_close(volume, expected, rtol=1e-5, atol=1e-6)


def test_a_certain_depth_puts_all_of_a_pixel_into_one_voxel():
    """A camera looking along +x that is sure of 3 m writes every feature at x = 3 m and none elsewhere."""
    grid = VoxelGrid((0.0, -8.0, -8.0, 8.0, 8.0, 8.0), (2.0, 16.0, 16.0))
    lifter = LiftSplat(grid, 4, depth_bins=4, depth_range=(0.0, 8.0))
    with torch.no_grad():
        lifter.depth_head.weight.zero_()
        lifter.depth_head.bias.copy_(torch.tensor([0.0, 100.0, 0.0, 0.0]))
        features = torch.randn(2, 1, 4, 3, 5)
        volume = lifter([features], looking_out(0.0), torch.ones(2, 1, dtype=torch.bool))
        total = lifter.context(features[:, 0]).sum((2, 3))
    assert_close(volume[:, :, 0, 0, 1], total, rtol=1e-5, atol=1e-6)  # fifteen terms in float32
    assert_close(volume.sum((2, 3, 4)), total, rtol=1e-5, atol=1e-6)


def test_levels_are_summed_and_everything_learns():
    cameras, lifter = looking_out(0.3, 2.0), LiftSplat(GRID, 4, depth_bins=6, depth_range=(1.0, 10.0))
    levels = [torch.randn(2, 2, 4, 6, 10), torch.randn(2, 2, 4, 3, 5)]
    valid = torch.ones(2, 2, dtype=torch.bool)
    volume = lifter(levels, cameras, valid)
    assert_close(volume, sum(lifter([level], cameras, valid) for level in levels))
    assert volume.is_contiguous(memory_format=torch.channels_last_3d)
    volume.square().sum().backward()
    assert all(parameter.grad.any() for parameter in lifter.parameters())


def test_without_cameras_the_volume_is_empty():
    volume = LiftSplat(GRID, 4)([torch.randn(2, 1, 4, 3, 5)], looking_out(0.0), torch.zeros(2, 1) > 0)
    assert volume.shape == (2, 4, *GRID.shape)
    assert not volume.any()
