from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.data import Batch
from renderpretrain.geometry import Points, Views
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, in_range, pixel_grid, read_returns
from renderpretrain.samplers.pixels import colors_at, draw

SEEDS = torch.tensor([7, 8])
EXACT = "donot_use_mm_for_euclid_dist"  # the matrix-product form loses three digits


def camera(batch=2):
    """One camera at the origin looking along +y, z up."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    intrinsics = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]])
    return Cameras(intrinsics.expand(batch, 1, 3, 3), pose.expand(batch, 1, 4, 4), (48, 64))


def batch_of(count=100):
    """Returns in front of one camera."""
    points = torch.rand(2, count, 3) * torch.tensor([10.0, 40.0, 4.0]) + torch.tensor([-5.0, 0.0, -2.0])
    views = Views(torch.rand(2, 1, 3, 48, 64), camera(), torch.ones(2, 1, dtype=torch.bool))
    return Batch(("a", "b"), Points.from_table(points), SEEDS, views)


def with_points(batch, **changes):
    return replace(batch, points=replace(batch.points, **changes))


def test_draw_takes_each_candidate_at_most_once():
    candidates = torch.rand(2, 3, 50) < 0.3
    index, found = draw(candidates, 10, SEEDS)
    for b in range(2):
        for n in range(3):
            chosen = index[b, n][found[b, n]].tolist()
            assert len(set(chosen)) == len(chosen) == min(10, int(candidates[b, n].sum()))
            assert candidates[b, n][chosen].all()


def test_draw_from_nothing_finds_nothing():
    index, found = draw(torch.zeros(2, 3, 0, dtype=torch.bool), 4, SEEDS)
    assert index.shape == (2, 3, 4) and not found.any()


def test_a_lidar_ray_meets_its_point():
    batch = batch_of()
    targets = LidarGuidedRays(num_rays=16)(batch)
    ends = targets.rays.at(targets.depth[..., None])[..., 0, :]
    for b in range(2):
        distance = torch.cdist(ends[b][targets.hit[b]], batch.points.xyz[b], compute_mode=EXACT).min(1).values
        # float32 at 40 m.
        assert_close(distance, torch.zeros_like(distance), rtol=0, atol=1e-4)
    assert targets.hit.all()


def test_rays_carry_the_colour_of_their_pixel():
    batch = batch_of()
    targets = LidarGuidedRays(num_rays=16)(batch)
    for r in range(16):
        u, v = targets.pixels[1, r].floor().long().tolist()
        assert torch.equal(targets.rgb[1, r], batch.views.images[1, 0, :, v, u])


def test_too_few_returns_are_filled_with_ground_pixels():
    targets = LidarGuidedRays(num_rays=16)(batch_of(3))
    fill = ~targets.hit
    assert fill.sum() >= 26 and targets.rgb_valid.all()
    assert (targets.pixels[fill][:, 1] >= 0.4 * 48 - 1).all()
    assert_close(targets.rays.directions.norm(dim=-1), torch.ones(2, 16))


def test_no_point_in_any_camera_leaves_no_depth():
    batch = batch_of()
    batch = with_points(batch, xyz=batch.points.xyz * torch.tensor([1.0, -1, 1]))
    behind = LidarGuidedRays(num_rays=16)(batch)
    assert not behind.hit.any() and not behind.rays.directions.isnan().any()


def test_a_padded_camera_supervises_nothing():
    batch = batch_of()
    batch = replace(batch, views=replace(batch.views, valid=~batch.views.valid))
    targets = LidarGuidedRays(num_rays=16)(batch)
    assert not targets.hit.any() and not targets.rgb_valid.any()


def test_the_own_car_and_the_far_field_are_out_of_range():
    points = torch.tensor([[[0.0, 2.9, 1.0], [0.0, 3.1, 0.0], [30.0, 41.0, 0.0], [2.0, 49.0, 9.0]]])
    assert in_range(Points.from_table(points), 3.0, 50.0).tolist() == [[False, True, False, True]]


def test_beams_start_at_the_sensor():
    origins = torch.tensor([[0.0, 0.0, 1.8], [1.0, 0.0, 0.5]])
    batch = with_points(batch_of(), origin=origins)
    targets = LidarBeams(num_rays=150)(batch)
    assert targets.hit.sum(1).tolist() == [100, 100]
    assert (targets.camera == -1).all() and not targets.rgb_valid.any()
    ends = targets.rays.at(targets.depth[..., None])[..., 0, :]
    assert (
        torch.cdist(ends[1][targets.hit[1]], batch.points.xyz[1], compute_mode=EXACT).min(1).values.max()
        < 1e-4
    )
    assert torch.equal(targets.rays.origins[0], origins[0].expand(150, 3))


def test_a_samples_rays_do_not_depend_on_its_batch():
    batch, select = batch_of(), LidarGuidedRays(num_rays=16)
    points, views = batch.points, batch.views
    later = Views(views.images[1:], views.cameras[1:], views.valid[1:])
    both = select(batch)
    one = select(Batch(("b",), Points.from_table(points.xyz[1:]), SEEDS[1:], later))
    assert torch.equal(both.rays.directions[1:], one.rays.directions)


def test_the_pixel_grid_skips_the_sky():
    grid, shape = pixel_grid(camera(), 4, top=0.5)
    assert shape == (6, 16) and len(grid) == 96
    assert grid[0].tolist() == [0.5, 24.5]


def test_colours_outside_read_the_border():
    images = torch.rand(1, 1, 3, 4, 5)
    assert torch.equal(colors_at(images, torch.tensor([[[[9.0, -3.0]]]]))[0, 0, 0], images[0, 0, :, 0, 4])


def test_empty_sweeps_give_rays_without_depth():
    empty = batch_of(0)
    guided, beams = LidarGuidedRays(num_rays=8)(empty), LidarBeams(num_rays=8)(empty)
    for targets in (guided, beams):
        assert targets.depth.shape == (2, 8) and not targets.hit.any()
        assert_close(targets.rays.directions.norm(dim=-1), torch.ones(2, 8))
    assert guided.rgb_valid.all()


def test_padding_does_not_change_a_samples_rays():
    batch, select = batch_of(2000), LidarGuidedRays(num_rays=300)
    xyz, valid = batch.points.xyz, batch.points.valid
    padded = Points.from_table(
        torch.cat([xyz, torch.zeros(2, 999, 3)], 1),
        torch.cat([valid, torch.zeros(2, 999, dtype=torch.bool)], 1),
    )
    a, b = select(batch), select(replace(batch, points=padded))
    assert torch.equal(a.rays.directions, b.rays.directions) and torch.equal(a.depth, b.depth)


def test_rays_know_their_return_and_its_class():
    batch = batch_of(40)
    valid = batch.points.valid.clone()
    valid[1, 20:] = False
    batch = with_points(batch, valid=valid, labels=torch.arange(80).view(2, 40))
    xyz = batch.points.xyz
    for targets in (LidarGuidedRays(num_rays=64)(batch), LidarBeams(num_rays=64)(batch)):
        hit = targets.hit
        assert hit.any() and (targets.labels[~hit] == -1).all() and (targets.returns[~hit] == -1).all()
        met, found = read_returns(xyz, targets.returns)
        # Metres, after adding and subtracting the sensor's place in float32.
        assert_close(met[hit], targets.ends[hit], atol=1e-4, rtol=0)
        assert torch.equal(found, hit) and (met[~hit] == 0).all()
        assert torch.equal(xyz.flatten(0, 1)[targets.labels[hit]], met[hit])
        numbers, _ = read_returns(batch.points.labels, targets.returns)
        assert torch.equal(numbers[hit], targets.labels[hit])
    assert LidarBeams(num_rays=4)(batch_of()).labels is None


def test_rays_go_to_the_key_sweep_alone():
    batch = batch_of()
    older = torch.arange(100).expand(2, 100) % 2 == 1
    batch = with_points(batch, lag=0.5 * older)
    for targets in (LidarGuidedRays(num_rays=60)(batch), LidarBeams(num_rays=60)(batch)):
        assert targets.hit.any() and (targets.returns[targets.hit] % 2 == 0).all()


def test_other_seeds_draw_other_rays():
    batch, select = batch_of(), LidarBeams(num_rays=10)
    assert torch.equal(select(batch).returns, select(batch, SEEDS).returns)
    assert not torch.equal(select(batch).returns, select(batch, SEEDS + 1).returns)


def test_rays_of_cameras_need_cameras():
    alone = replace(batch_of(), views=None)
    with pytest.raises(ValueError, match="LidarGuidedRays draws rays of cameras, got no views; LidarBeams"):
        LidarGuidedRays(num_rays=4)(alone)
    with pytest.raises(ValueError, match=r"batch\.views\.valid: expected"):
        LidarGuidedRays(num_rays=4)(replace(batch_of(), points=Points.from_table(torch.rand(1, 9, 3))))
