"""Pictures that agree about a depth: with true depths they do, and with wrong ones the way back is known."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from variants import batch_of, build, scenes_for, street

from renderpretrain import losses
from renderpretrain.data import Batch, FollowedScenes, SyntheticStreet, collate
from renderpretrain.geometry import Cameras, Points, Views, pose_from_yaw
from renderpretrain.recipes.terms import ReprojectionTerm
from renderpretrain.samplers import PatchRays

LOOKING = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])
"""A camera that looks along +y, z up."""


def wall_batch(distance=8.0, *, following=True):
    """Two cameras before a smooth wall, and the same a step later: their pictures, from its formula."""
    intrinsics = torch.tensor([[60.0, 0, 48.0], [0, 60.0, 32.0], [0, 0, 1]])
    places = torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.0, 0.1]])
    poses = LOOKING.repeat(2, 1, 1)
    poses[:, :3, 3] = places
    cameras = Cameras(intrinsics.expand(1, 2, 3, 3), poses[None], (64, 96))
    step = pose_from_yaw(0.02, (0.2, 0.5, 0.0))

    def moment(world, name, after=()):
        v, u = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
        rays = cameras.rays(torch.stack([u, v], -1).reshape(1, 1, -1, 2).expand(1, 2, -1, -1))
        origins = rays.origins @ world[:3, :3].T + world[:3, 3]
        directions = rays.directions @ world[:3, :3].T
        t = (distance - origins[..., 1:2]) / directions[..., 1:2]
        x, z = (origins + t * directions)[..., [0, 2]].unbind(-1)
        colors = torch.stack([torch.sin(2.1 * x + 0.4), torch.sin(1.7 * z), torch.sin(1.3 * (x + z))], -1)
        images = (0.5 + 0.4 * colors).mT.reshape(1, 2, 3, 64, 96)
        views = Views(images, cameras, torch.ones(1, 2, dtype=torch.bool))
        points = Points.from_table(torch.zeros(1, 1, 3), torch.zeros(1, 1, dtype=torch.bool))
        return Batch(
            (name,), points, torch.tensor([3]), views, world_to_global=world[None], following=after
        ), t[..., 0]

    after, _ = moment(step, "after")
    return moment(torch.eye(4), "now", (after,) if following else ())


def true_depths(targets, depths):
    """Depths ``(N, H, W)`` at the pixels of rays."""
    u, v = targets.pixels[0].long().unbind(-1)
    return depths[targets.camera[0], v, u][None]


@pytest.mark.parametrize("following", [True, False])
def test_true_depths_agree_and_wrong_ones_are_pulled_back(following):
    batch, t = wall_batch(following=following)
    term = ReprojectionTerm(PatchRays(num_patches=12, size=8, stride=2, top=0.0))
    targets = term.sampler(batch)
    depth = true_depths(targets, t.reshape(2, 64, 96))
    opaque, found = torch.ones_like(depth, dtype=torch.bool), {}
    for factor in (0.8, 0.9, 1.0, 1.1, 1.25):
        asked = (factor * depth).requires_grad_()
        error = term.error(batch, targets, asked, opaque)
        (gradient,) = torch.autograd.grad(error, asked)
        found[factor] = error.item(), (gradient * depth).sum().item()
    # 1e-3: colors are read between pixels of a wall whose stripes are 30 pixels wide.
    assert found[1.0][0] < 1e-3 and found[0.9][0] > 3 * found[1.0][0]
    assert found[0.8][0] > found[0.9][0] and found[1.25][0] > found[1.1][0] > found[1.0][0]
    assert found[0.8][1] < 0 and found[0.9][1] < 0 < found[1.1][1] and found[1.25][1] > 0


def test_true_depths_of_streets_agree_best():
    """Things hide each other, move and are noisy: the least error is at the true depth all the same."""
    scene = FollowedScenes(SyntheticStreet(2, image_size=(64, 112), frames_per_street=2), images=True)[0]
    batch, term = batch_of([scene]), ReprojectionTerm(PatchRays(num_patches=48))
    targets = term.sampler(batch)
    depth, hit = (true_depths(targets, picture) for picture in (scene.truth.depth, scene.truth.hit))
    errors = [term.error(batch, targets, factor * depth, hit).item() for factor in (0.7, 0.9, 1.0, 1.1, 1.4)]
    assert errors[0] > errors[1] > 1.1 * errors[2] and errors[4] > errors[3] > 1.1 * errors[2]


def slow_error(x, y):
    """The photometric error of one pixel from the 3 x 3 squares around it, (3, 3, 3) each."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        mx, my = a.mean(), b.mean()
        vx, vy, cov = (a * a).mean() - mx**2, (b * b).mean() - my**2, (a * b).mean() - mx * my
        alike = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        total += 0.85 * ((1 - alike) / 2).clamp(0, 1) + 0.15 * (a[1, 1] - b[1, 1]).abs()
    return total / 3


def test_photometric_error_against_a_loop():
    x, y = torch.rand(2, 3, 5, 6), torch.rand(2, 3, 5, 6)
    errors = losses.photometric_errors(x, y)
    for m, v, u in ((0, 1, 1), (1, 3, 4), (0, 2, 3)):
        square = (m, slice(None), slice(v - 1, v + 2), slice(u - 1, u + 2))
        assert_close(errors[m, v, u], slow_error(x[square], y[square]), rtol=1e-3, atol=1e-5)
    mirrored = torch.nn.functional.pad(x[:1], (1, 1, 1, 1), mode="reflect")[0, :, :3, :3]
    other = torch.nn.functional.pad(y[:1], (1, 1, 1, 1), mode="reflect")[0, :, :3, :3]
    assert_close(errors[0, 0, 0], slow_error(mirrored, other), rtol=1e-3, atol=1e-5)
    assert not losses.photometric_errors(x, x).round(decimals=5).any()


def test_the_least_of_the_neighbors_counts_and_what_stands_still_does_not():
    target, warped = torch.rand(1, 1, 3, 6, 6), torch.rand(1, 2, 1, 3, 6, 6)
    valid, everywhere = torch.ones(1, 2, 1, 6, 6, dtype=torch.bool), torch.ones(1, 1, 6, 6, dtype=torch.bool)
    errors = losses.photometric_errors(warped[0, :, 0], target[0].expand(2, -1, -1, -1))
    assert_close(losses.reprojection(warped, valid, target, everywhere), errors.amin(0).mean())
    valid[0, 1] = False  # the second one sees nothing
    assert_close(losses.reprojection(warped, valid, target, everywhere), errors[0].mean())
    still = torch.full((1, 1, 6, 6), errors[0].median().item())
    below = errors[0][errors[0] < still[0, 0]]
    assert_close(losses.reprojection(warped, valid, target, everywhere, still=still), below.mean())
    valid[0, 0, 0, 3, 3] = False  # and the squares around what is not seen do not count
    around = torch.ones(6, 6, dtype=torch.bool)
    around[2:5, 2:5] = False
    warped[0, 0, 0, :, 3, 3] = math.nan
    assert_close(losses.reprojection(warped, valid, target, everywhere), errors[0][around].mean())


@pytest.mark.parametrize("fill", [0.0, math.nan])
def test_where_nobody_sees_it_the_error_is_0_with_gradient_0(fill):
    warped = torch.full((2, 2, 3, 3, 4, 4), fill, requires_grad=True)
    nothing = torch.zeros(2, 2, 3, 4, 4, dtype=torch.bool)
    target, counts = torch.full((2, 3, 3, 4, 4), fill), torch.ones(2, 3, 4, 4, dtype=torch.bool)
    loss = losses.reprojection(warped, nothing, target, ~counts)
    loss.backward()
    assert loss == 0 and not warped.grad.any()


def test_gradients_are_those_of_differences():
    warped = torch.rand(1, 2, 1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    target, valid = (
        torch.rand(1, 1, 3, 4, 4, dtype=torch.float64),
        torch.ones(1, 2, 1, 4, 4, dtype=torch.bool),
    )

    def loss(x):
        return losses.reprojection(x, valid, target, valid[:, 0])

    # Computed in float32: steps of 1e-3 are exact to 1e-3.
    assert torch.autograd.gradcheck(loss, warped, eps=1e-3, atol=2e-3, rtol=2e-2, nondet_tol=1e-6)


def test_it_trains_a_recipe_with_cameras_of_one_moment_or_two():
    recipe = build("unipad-camera", terms={"reprojection": 1.0})
    scenes = FollowedScenes(street((64, 96)), images=True)
    for batch in (batch_of([scenes[0]]), batch_of(scenes_for("unipad-camera"))):
        recipe.zero_grad()
        terms = recipe(batch)
        assert 0 < terms["reprojection"] < 1
        terms["reprojection"].backward()
        assert sum(p.grad.abs().sum() for p in recipe.camera.backbone.parameters() if p.grad is not None) > 0
    with pytest.raises(ValueError, match=r"^scene 'street-0-0' has no images: terms\.reprojection needs"):
        lidar = build("unipad-lidar", terms={"reprojection": 1.0})
        lidar(replace(batch_of([scenes[0]]), views=None))


def test_patches_are_squares_of_cameras_that_there_are():
    scene = SyntheticStreet(1, image_size=(32, 48), points_per_beam=20, with_truth=False)[0]
    valid = torch.tensor([True, False, True, True, False, True])
    batch = collate([replace(scene, camera_valid=valid)], torch.tensor([5]))
    targets = PatchRays(num_patches=30, size=4, stride=3, top=0.25)(batch)
    pixels, camera = targets.pixels.view(30, 4, 4, 2), targets.camera.view(30, 16)
    assert valid[camera].all() and (camera == camera[:, :1]).all() and len(set(camera[:, 0].tolist())) == 4
    assert (pixels[:, :, 1:, 0] - pixels[:, :, :-1, 0] == 3).all()
    assert (pixels[:, 1:, :, 1] - pixels[:, :-1, :, 1] == 3).all()
    assert pixels[..., 1].min() >= 8.5 and pixels[..., 1].max() <= 31.5 and pixels[..., 0].max() <= 47.5
    assert targets.rgb_valid.all() and not targets.hit.any()
    for r in (0, 77, 401):
        n, (u, v) = targets.camera[0, r], targets.pixels[0, r].long().tolist()
        assert torch.equal(targets.rgb[0, r], batch.views.images[0, n, :, v, u])
        alone = batch.views.cameras[0, n].rays(targets.pixels[0, r : r + 1])
        assert_close(targets.rays.directions[0, r], alone.directions[0])
    with pytest.raises(ValueError, match=r"^size, stride: expected patches that fit into 24 x 48 pixels"):
        PatchRays(size=8, stride=4, top=0.25)(batch)
    with pytest.raises(ValueError, match=r"^size, stride, top: expected at least 3, at least 1, and a share"):
        PatchRays(size=2)
