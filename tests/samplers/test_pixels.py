"""Drawing pixels, the nearest return of each pixel, and rays through pixels."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.data import Batch
from renderpretrain.geometry import Points, Views
from renderpretrain.masking import RandomMask
from renderpretrain.samplers import (
    LidarBeams,
    LidarGuidedRays,
    PixelRays,
    add_depth,
    depth_pictures,
    draw_pixels,
    nearest_per_pixel,
    pixel_candidates,
    pixel_grid,
    z_buffer,
)

SEEDS = torch.tensor([7, 8])
SIZE = (24, 32)


def cameras(batch=2, count=2):
    """Cameras at random places looking in random directions."""
    pose = torch.eye(4).repeat(batch, count, 1, 1)
    pose[..., :3, :3] = torch.linalg.qr(torch.randn(batch, count, 3, 3))[0]
    pose[..., :3, 0] *= torch.linalg.det(pose[..., :3, :3])[..., None]
    pose[..., :3, 3] = torch.randn(batch, count, 3)
    intrinsics = torch.tensor([[20.0, 0, 16.0], [0, 22.0, 11.0], [0, 0, 1]]).expand(batch, count, 3, 3)
    return Cameras(intrinsics, pose, SIZE)


def seen_by(cameras, images, valid, z_depths=None, z_valid=None):
    """A batch of two samples without points."""
    nothing = Points.from_table(torch.zeros(2, 0, 3))
    return Batch(("a", "b"), nothing, SEEDS, Views(images, cameras, valid, z_depths, z_valid))


def test_drawn_pixels_are_centres_of_candidate_cells(device):
    candidates = (torch.rand(2, 3, 6, 8) < 0.2).to(device)
    pixels, found = draw_pixels(candidates, SIZE, 40, SEEDS.to(device))
    assert found.all() and torch.equal(pixels % 1, torch.full_like(pixels, 0.5))
    cells = (pixels / 4).long()
    for b in range(2):
        for n in range(3):
            assert candidates[b, n][cells[b, n, :, 1], cells[b, n, :, 0]].all()
            assert len({tuple(p) for p in pixels[b, n].tolist()}) >= 38  # borders of shares may meet
    cpu = draw_pixels(candidates.cpu(), SIZE, 40, SEEDS)
    assert torch.equal(pixels.cpu(), cpu[0]) and torch.equal(found.cpu(), cpu[1])


def test_every_candidate_pixel_is_equally_likely():
    candidates = torch.tensor([[[[True, False], [True, True]]]]).expand(20000, 1, 2, 2)
    pixels, _ = draw_pixels(candidates, (4, 2), 4, torch.arange(20000))
    u, v = pixels[:, 0].long().unbind(-1)
    share = torch.bincount((v * 2 + u).flatten(), minlength=8) / 20000
    # Four of six pixels; four standard deviations of a binomial: 4 sqrt(2/3 * 1/3 / 20000) = 0.0133.
    expected = torch.tensor([1.0, 0, 1, 0, 1, 1, 1, 1]) * 2 / 3
    assert_close(share, expected, rtol=0, atol=0.0134)


def test_fewer_candidates_than_slots_are_all_taken_once():
    candidates = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    candidates[0, 0, 3, 5] = candidates[0, 0, 20, 31] = True
    pixels, found = draw_pixels(candidates, SIZE, 4, SEEDS)
    assert found.tolist() == [[[True, True, False, False]], [[False] * 4]]
    assert pixels[0, 0, :2].tolist() == [[5.5, 3.5], [31.5, 20.5]]
    assert ((pixels >= 0) & (pixels < torch.tensor([32.0, 24.0]))).all()


@pytest.mark.untyped
def test_cells_that_do_not_tile_the_image_are_refused():
    with pytest.raises(
        ValueError, match=r"candidates: expected cells that tile \(24, 32\) pixels, got \(5, 8"
    ):
        draw_pixels(torch.ones(2, 1, 5, 8, dtype=torch.bool), SIZE, 4, SEEDS)


def test_the_candidate_picture_is_the_pixel_grid():
    picture = pixel_candidates(cameras(), stride=5, top=0.4)
    grid, _ = pixel_grid(cameras(), 5, top=0.4)
    assert picture.shape == (2, 2, *SIZE)
    assert torch.equal(picture[1, 1].nonzero().flip(1) + 0.5, grid)


def test_the_nearest_return_of_each_pixel():
    """Against a loop that keeps the nearest so far in a dictionary."""
    pixels = torch.rand(2, 3, 300, 2) * torch.tensor([8.0, 6.0])
    depth = torch.randint(1, 6, (2, 3, 300)).float()  # many ties
    visible = torch.rand(2, 3, 300) < 0.7
    pixels[~visible] = torch.nan
    nearest = nearest_per_pixel(pixels, depth, visible, (6, 8))
    for b in range(2):
        for n in range(3):
            best = {}
            for p in visible[b, n].nonzero()[:, 0].tolist():
                cell = tuple(pixels[b, n, p].floor().tolist())
                if cell not in best or depth[b, n, p] < depth[b, n, best[cell]]:
                    best[cell] = p
            assert nearest[b, n].nonzero()[:, 0].tolist() == sorted(best.values())


def test_a_z_buffer_holds_the_smallest_distance():
    pixels, distance = torch.rand(3, 40, 2) * torch.tensor([4.0, 3.0]), torch.rand(3, 40)
    visible = torch.rand(3, 40) < 0.8
    pixels[~visible] = torch.nan
    nearest, cells = z_buffer(pixels, distance, visible, (3, 4))
    expected = torch.full((3, 13), torch.inf)
    for n in range(3):  # a slow loop
        for (u, v), t, seen, cell in zip(pixels[n], distance[n], visible[n], cells[n], strict=True):
            place = int(v) * 4 + int(u) if seen else 12
            assert cell == place
            if seen:
                expected[n, place] = min(expected[n, place], t)
    assert torch.equal(nearest, expected)


def test_guided_rays_can_keep_to_the_nearest_returns():
    """Two walls of returns behind each other: the far one is not seen."""
    one = cameras(1, 1)
    grid, _ = pixel_grid(one, 1)
    rays = one.rays(grid[None, None])
    points = torch.cat([rays.at(torch.tensor([t]).expand(1, 1, len(grid), 1)) for t in (9.0, 5.0)], 2)
    points = points[:, 0, :, 0]
    views = Views(torch.zeros(1, 1, 3, *SIZE), one, torch.ones(1, 1).bool())
    batch = Batch(("walls",), Points.from_table(points), SEEDS[:1], views)
    near = LidarGuidedRays(200, nearest=True)(batch)
    any_return = LidarGuidedRays(200)(batch)
    assert near.hit.all()
    assert_close(near.depth, torch.full_like(near.depth, 5.0))
    assert 60 < (any_return.depth > 8).sum() < 140


def test_rays_of_masked_pixels_only():
    many = cameras()
    images, valid = torch.rand(2, 2, 3, *SIZE), torch.tensor([[True, True], [True, False]])
    mask = RandomMask(0.25)(torch.ones(4, 6, 8, dtype=torch.bool), torch.arange(4)).unflatten(0, (2, 2))
    targets = PixelRays(50, mask)(seen_by(many, images, valid))
    assert targets.rgb_valid.view(2, 2, 50).all(-1).tolist() == valid.tolist() and not targets.hit.any()
    for b in range(2):
        for r in range(100):
            u, v = targets.pixels[b, r].floor().long().tolist()
            n = r // 50
            assert targets.camera[b, r] == n and mask[b, n, v // 4, u // 4]
            assert torch.equal(targets.rgb[b, r], images[b, n, :, v, u])
    points = targets.rays.at(torch.ones(2, 100, 1))[:, :, 0].unflatten(1, (2, 50))
    # float32 of random poses.
    assert_close(many.project(points)[0].flatten(1, 2), targets.pixels, rtol=0, atol=1e-3)


def test_a_samples_pixels_do_not_depend_on_its_batch():
    mask = torch.rand(2, 2, 6, 8) < 0.5
    pixels, found = draw_pixels(mask, SIZE, 9, SEEDS)
    one = draw_pixels(mask[1:], SIZE, 9, SEEDS[1:])
    assert torch.equal(pixels[1:], one[0]) and torch.equal(found[1:], one[1])


def test_a_measured_ray_ends_at_the_pixels_depth():
    """The end of a ray has the depth image's z in its camera."""
    many, images, valid = cameras(), torch.rand(2, 2, 3, *SIZE), torch.tensor([[True, True], [True, False]])
    z_depths = 1 + 5 * torch.rand(2, 2, *SIZE)
    z_valid = torch.rand(2, 2, *SIZE) < 0.5
    z_depths[~z_valid] = torch.nan
    everywhere = pixel_candidates(many)
    targets = PixelRays(60, everywhere)(seen_by(many, images, valid, z_depths, z_valid))
    z = many.project(targets.ends.unflatten(1, (2, 60)))[1].flatten(1)
    for b in range(2):
        for r in range(120):
            n, (u, v) = r // 60, targets.pixels[b, r].floor().long().tolist()
            assert targets.hit[b, r] == (z_valid[b, n, v, u] and valid[b, n])
            if targets.hit[b, r]:
                assert_close(z[b, r], z_depths[b, n, v, u], rtol=1e-5, atol=1e-5)
    assert not targets.depth.isnan().any() and 60 < targets.hit.sum() < 120


def test_rays_among_measured_pixels_all_hit():
    many, z_valid = cameras(), torch.rand(2, 2, *SIZE) < 0.1
    valid, images = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, 3, *SIZE)
    assert PixelRays(20)(seen_by(many, images, valid, torch.ones(2, 2, *SIZE), z_valid)).hit.all()
    colours = PixelRays(20)(seen_by(many, images, valid))  # without a depth camera all pixels are drawn from
    assert colours.rgb_valid.all() and not colours.hit.any()


def test_beams_get_no_depth_from_a_camera():
    points = torch.rand(2, 30, 3) + 1
    beams = LidarBeams(8)(Batch(("a", "b"), Points.from_table(points), SEEDS))
    z_depths = torch.ones(2, 2, *SIZE)
    assert not add_depth(beams, z_depths, z_depths > 0, cameras()).hit.any()


def test_depth_pictures_hold_the_nearest_point_of_every_pixel(device):
    """Looped over; coarser pictures are those of resized cameras."""
    points, valid = torch.randn(2, 300, 3) * 4, torch.rand(2, 300) < 0.8
    for cams in (cameras(), cameras().resize((6, 8))):
        ours = depth_pictures(points.to(device), valid.to(device), cams.to(device)).cpu()
        expected = torch.zeros(2, 2, *cams.image_size)
        pixels, z_depth, inside = cams.project(points[:, None])
        for b, n, p in (inside & valid[:, None]).nonzero().tolist():
            u, v = pixels[b, n, p].long().tolist()
            known = expected[b, n, v, u]
            if known == 0 or z_depth[b, n, p] < known:
                expected[b, n, v, u] = z_depth[b, n, p]
        assert (expected > 0).any()
        assert_close(ours, expected)
