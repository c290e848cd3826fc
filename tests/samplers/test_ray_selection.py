import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.samplers import LidarBeams, LidarGuidedRays, in_range, pixel_grid
from renderpretrain.samplers.pixels import colours_at, draw

SEEDS = torch.tensor([7, 8])
EXACT = "donot_use_mm_for_euclid_dist"  # the matrix-product form loses three digits


def camera(batch=2):
    """One camera at the origin looking along +y, z up."""
    pose = torch.eye(4)
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    intrinsics = torch.tensor([[40.0, 0, 32.0], [0, 40.0, 24.0], [0, 0, 1]])
    return Cameras(intrinsics.expand(batch, 1, 3, 3), pose.expand(batch, 1, 4, 4), (48, 64))


def inputs(count=100):
    points = torch.rand(2, count, 3) * torch.tensor([10.0, 40.0, 4.0]) + torch.tensor([-5.0, 0.0, -2.0])
    images = torch.rand(2, 1, 3, 48, 64)
    return (
        points,
        torch.ones(2, count, dtype=torch.bool),
        camera(),
        torch.ones(2, 1, dtype=torch.bool),
        images,
    )


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
    points, valid, cameras, camera_valid, images = inputs()
    targets = LidarGuidedRays(num_rays=16)(points, valid, cameras, camera_valid, images, SEEDS)
    ends = targets.rays.at(targets.depth[..., None])[..., 0, :]
    for b in range(2):
        distance = torch.cdist(ends[b][targets.hit[b]], points[b], compute_mode=EXACT).min(1).values
        # float32 at 40 m.
        assert_close(distance, torch.zeros_like(distance), rtol=0, atol=1e-4)
    assert targets.hit.all()


def test_rays_carry_the_colour_of_their_pixel():
    points, valid, cameras, camera_valid, images = inputs()
    targets = LidarGuidedRays(num_rays=16)(points, valid, cameras, camera_valid, images, SEEDS)
    for r in range(16):
        u, v = targets.pixels[1, r].floor().long().tolist()
        assert torch.equal(targets.rgb[1, r], images[1, 0, :, v, u])


def test_too_few_returns_are_filled_with_ground_pixels():
    points, valid, cameras, camera_valid, images = inputs(count=3)
    selection = LidarGuidedRays(num_rays=16)
    targets = selection(points, valid, cameras, camera_valid, images, SEEDS)
    fill = ~targets.hit
    assert fill.sum() >= 26 and targets.rgb_valid.all()
    assert (targets.pixels[fill][:, 1] >= 0.4 * 48 - 1).all()
    assert_close(targets.rays.directions.norm(dim=-1), torch.ones(2, 16))


def test_no_point_in_any_camera_leaves_no_depth():
    points, valid, cameras, camera_valid, images = inputs()
    behind = LidarGuidedRays(num_rays=16)(
        points * torch.tensor([1.0, -1, 1]), valid, cameras, camera_valid, images, SEEDS
    )
    assert not behind.hit.any() and not behind.rays.directions.isnan().any()


def test_a_padded_camera_supervises_nothing():
    points, valid, cameras, camera_valid, images = inputs()
    targets = LidarGuidedRays(num_rays=16)(points, valid, cameras, ~camera_valid, images, SEEDS)
    assert not targets.hit.any() and not targets.rgb_valid.any()


def test_the_own_car_and_the_far_field_are_out_of_range():
    points = torch.tensor([[[0.0, 2.9, 1.0], [0.0, 3.1, 0.0], [30.0, 41.0, 0.0], [2.0, 49.0, 9.0]]])
    assert in_range(points, torch.zeros(1, 3), 3.0, 50.0).tolist() == [[False, True, False, True]]


def test_beams_start_at_the_sensor():
    points, valid, *_ = inputs()
    origins = torch.tensor([[0.0, 0.0, 1.8], [1.0, 0.0, 0.5]])
    targets = LidarBeams(num_rays=150)(points, valid, origins, SEEDS)
    assert targets.hit.sum(1).tolist() == [100, 100]
    assert (targets.camera == -1).all() and not targets.rgb_valid.any()
    ends = targets.rays.at(targets.depth[..., None])[..., 0, :]
    assert torch.cdist(ends[1][targets.hit[1]], points[1], compute_mode=EXACT).min(1).values.max() < 1e-4
    assert torch.equal(targets.rays.origins[0], origins[0].expand(150, 3))


def test_a_samples_rays_do_not_depend_on_its_batch():
    points, valid, cameras, camera_valid, images = inputs()
    select = LidarGuidedRays(num_rays=16)
    both = select(points, valid, cameras, camera_valid, images, SEEDS)
    one = select(points[1:], valid[1:], cameras[1:], camera_valid[1:], images[1:], SEEDS[1:])
    assert torch.equal(both.rays.directions[1:], one.rays.directions)


def test_the_pixel_grid_skips_the_sky():
    grid, shape = pixel_grid(camera(), 4, top=0.5)
    assert shape == (6, 16) and len(grid) == 96
    assert grid[0].tolist() == [0.5, 24.5]


def test_colours_outside_read_the_border():
    images = torch.rand(1, 1, 3, 4, 5)
    assert torch.equal(colours_at(images, torch.tensor([[[[9.0, -3.0]]]]))[0, 0, 0], images[0, 0, :, 0, 4])


def test_empty_sweeps_give_rays_without_depth():
    _, _, cameras, camera_valid, images = inputs()
    none, valid = torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.bool)
    guided = LidarGuidedRays(num_rays=8)(none, valid, cameras, camera_valid, images, SEEDS)
    beams = LidarBeams(num_rays=8)(none, valid, torch.zeros(2, 3), SEEDS)
    for targets in (guided, beams):
        assert targets.depth.shape == (2, 8) and not targets.hit.any()
        assert_close(targets.rays.directions.norm(dim=-1), torch.ones(2, 8))
    assert guided.rgb_valid.all()


def test_padding_does_not_change_a_samples_rays():
    points, valid, cameras, camera_valid, images = inputs(count=2000)
    select = LidarGuidedRays(num_rays=300)
    padded = (
        torch.cat([points, torch.zeros(2, 999, 3)], 1),
        torch.cat([valid, torch.zeros(2, 999, dtype=torch.bool)], 1),
    )
    a = select(points, valid, cameras, camera_valid, images, SEEDS)
    b = select(*padded, cameras, camera_valid, images, SEEDS)
    assert torch.equal(a.rays.directions, b.rays.directions) and torch.equal(a.depth, b.depth)


def test_rays_carry_the_class_of_their_return():
    points, valid, cameras, camera_valid, images = inputs(40)
    valid[1, 20:] = False
    classes = torch.arange(80).view(2, 40)
    guided = LidarGuidedRays(num_rays=64)(
        points, valid, cameras, camera_valid, images, SEEDS, point_labels=classes
    )
    beams = LidarBeams(num_rays=64)(points, valid, torch.zeros(2, 3), SEEDS, point_labels=classes)
    for targets in (guided, beams):
        assert targets.hit.any() and (targets.labels[~targets.hit] == -1).all()
        met = points.flatten(0, 1)[targets.labels[targets.hit]]
        # Metres, after adding and subtracting the sensor's place in float32.
        assert_close(met, targets.ends[targets.hit], atol=1e-4, rtol=0)
    assert LidarBeams(num_rays=4)(points, valid, torch.zeros(2, 3), SEEDS).labels is None
