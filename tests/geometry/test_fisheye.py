"""Fisheye cameras beside a slow loop, beside numbers that OpenCV computed, and in a rig with pinholes."""

import math
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.geometry import pose_from_vectors

SIZE = (960, 1280)
LENSES = {
    "typical": (-0.013, 0.0065, -0.0031, 0.0004),
    "no distortion": (0.0, 0.0, 0.0, 0.0),
    "growing": (0.05, 0.01, 0.0, 0.0),
    "folds back at 93 degrees": (-0.08, 0.0, -0.003, 0.0),
}


def fisheye(lens=LENSES["typical"], focal=331.5, pose=None, dtype=torch.float64):
    intrinsics = torch.tensor([[focal, 0.663, 640.2], [0, 0.99 * focal, 480.7], [0, 0, 1]], dtype=dtype)
    pose = torch.eye(4, dtype=dtype) if pose is None else pose.to(dtype)
    return Cameras(intrinsics, pose, SIZE, torch.tensor([*lens, 0.0], dtype=dtype), torch.tensor(True))


def pinhole(pose=None, lens=(-0.28, 0.07, 0.0004, -0.0003, 0.002)):
    return replace(fisheye(pose=pose), distortion=torch.tensor(lens).double(), fisheye=None)


def everywhere(step=37.0):
    """Pixels all over the image, its corners, its edges and next to its middle."""
    u, v = torch.arange(0.5, SIZE[1], step), torch.arange(0.5, SIZE[0], step)
    grid = torch.stack(torch.meshgrid(u, v, indexing="ij"), -1).reshape(-1, 2).double()
    special = [[0.01, 0.01], [1279.9, 959.9], [640.2, 480.7], [640.2 + 1e-4, 480.7], [640.2, 481.7]]
    return torch.cat([grid, torch.tensor(special, dtype=torch.float64)])


def bent(theta, lens):
    """OpenCV's documented formula."""
    return theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(lens)))


def widest_angle(lens):
    widest = 0.0
    while widest < math.pi and bent(widest + 1e-3, lens) > bent(widest, lens):
        widest = min(widest + 1e-3, math.pi)
    return widest


def by_bisection(u, v, lens, widest):
    """The direction of a pixel of :func:`fisheye`, and how far it lies beyond what the lens sees."""
    y = (v - 480.7) / (0.99 * 331.5)
    x = (u - 640.2 - 0.663 * y) / 331.5
    r, low, high = math.hypot(x, y), 0.0, widest
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if bent(middle, lens) < r else (low, middle)
    side = math.sin(low) / r if r else 0.0
    return (side * x, side * y, math.cos(low)), r - bent(widest, lens)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_rays_are_those_of_a_slow_loop(lens):
    camera, pixels, widest = fisheye(lens), everywhere(61.0), widest_angle(lens)
    rays, known = camera.rays(pixels).directions, camera.in_lens(pixels)
    told = [by_bisection(u, v, lens, widest) for u, v in pixels.tolist()]
    wanted = torch.tensor([direction for direction, _ in told], dtype=torch.float64)
    beyond = torch.tensor([over for _, over in told])
    # Where a lens folds back is known to the step of angles that are tried: 0.35 degrees.
    assert bool(known[beyond < -1e-3].all()) and not bool(known[beyond > 1e-4].any())
    inside = beyond < -1e-3
    assert inside.sum() > 100 and bool(known[inside].all())
    assert_close(rays[inside], wanted[inside], rtol=0, atol=1e-8)
    assert_close(rays.norm(dim=-1), torch.ones_like(rays[:, 0]))


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
@pytest.mark.parametrize("focal", [331.5, 215.0], ids=["to 150 degrees", "to 180 degrees off the axis"])
def test_project_and_rays_are_inverse_over_the_whole_image(lens, focal):
    pose = pose_from_vectors(*torch.tensor([[0.3, -1.2, 2.0], [4.0, -2.0, 1.0]]).double())
    camera, pixels = fisheye(lens, focal, pose), everywhere()
    pixels = pixels[camera.in_lens(pixels)]
    t = torch.linspace(0.1, 80, len(pixels), dtype=torch.float64)
    rays = camera.rays(pixels)
    again, depth, valid = camera.project(rays.origins + t[:, None] * rays.directions)
    assert_close(again, pixels, rtol=0, atol=1e-4)
    assert valid.all()
    assert_close(depth, t, rtol=0, atol=1e-9)  # along the ray, also where z is negative
    z = rays.directions @ camera.camera_to_world[:3, 2]
    assert (z < -0.1).any() == (lens != LENSES["folds back at 93 degrees"])


def test_a_float32_camera_is_inverse_to_its_precision():
    camera = fisheye(dtype=torch.float32)
    pixels = everywhere().float()
    rays = camera.rays(pixels)
    again, _, valid = camera.project(rays.origins + 20 * rays.directions)
    assert valid.all()
    # A pixel of 1280 is kept to 1.2e-4, an angle of 2.6 to 2.4e-7 and thus 1e-4 pixels: a few of each.
    assert_close(again, pixels, rtol=0, atol=2e-3)


def test_projections_are_opencvs():
    """``cv2.fisheye.projectPoints`` 5.0.0, alpha=0.002, whose pixel centres are integers."""
    points = [[0, 0, 1.0], [0.4, -0.3, 1.0], [3.0, 1.0, 0.5], [-6.0, 2.0, 0.3], [0.0, -1.0, 0.05]]
    numbers = [
        [640.2, 480.7],
        [762.6650029264322, 389.10174862743156],
        [1076.9928856384688, 625.5861458366705],
        [172.1078462074201, 636.175414949263],
        [639.214074649965, -10.180781367342604],
    ]
    camera = fisheye()
    focal = camera.intrinsics.clone()
    focal[1, 1] = 330.1
    camera = replace(camera, intrinsics=focal)
    pixels, _, valid = camera.project(torch.tensor(points, dtype=torch.float64))
    assert_close(pixels, torch.tensor(numbers, dtype=torch.float64), rtol=0, atol=1e-6)
    assert valid.tolist() == [True, True, True, True, False]


def test_what_lies_behind_a_narrow_lens_and_in_its_centre_is_not_seen():
    points = torch.tensor([[0.0, 0, -1], [0, 0, 0], [1.0, 0, -2], [1.0, 0, 0.01]], dtype=torch.float64)
    _, depth, valid = fisheye(LENSES["folds back at 93 degrees"]).project(points)
    assert valid.tolist() == [False, False, False, True]
    assert (depth >= 0).all()
    wide = fisheye(LENSES["no distortion"], focal=150.0)
    assert wide.project(points)[2].tolist() == [False, False, True, True]


def test_gradients_are_those_of_finite_differences():
    camera, points = (
        fisheye(),
        torch.tensor(
            [[0.4, -0.3, 1.0], [3.0, 1.0, -0.5], [1e-3, 0, 1.0], [0.0, 0.0, 2.0]], dtype=torch.float64
        ),
    )

    def project(points, pose, intrinsics, lens):
        moved = replace(camera, camera_to_world=pose, intrinsics=intrinsics, distortion=lens)
        return moved.project(points)[:2]

    def rays(pixels, intrinsics, lens):
        return replace(camera, intrinsics=intrinsics, distortion=lens).rays(pixels).directions

    of_camera = (camera.intrinsics, camera.distortion)
    inputs = [t.clone().requires_grad_() for t in (points, camera.camera_to_world, *of_camera)]
    assert torch.autograd.gradcheck(project, inputs)
    pixels = torch.tensor([[100.0, 40.0], [640.3, 480.0], [1270.0, 900.0]], dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (pixels, *of_camera)]
    inputs[1] = torch.triu(inputs[1].detach()).requires_grad_()
    assert torch.autograd.gradcheck(rays, inputs)


def test_a_rig_of_both_has_the_numbers_of_each():
    pose = pose_from_vectors(*torch.tensor([[0.3, -1.2, 2.0], [4.0, -2.0, 1.0]]).double())
    alone = [pinhole(pose), fisheye(pose=pose), replace(pinhole(pose), distortion=None)]
    rig, pixels = Cameras.stack(alone), everywhere(200.0)
    points = torch.randn(50, 3, dtype=torch.float64) * 10
    directions = rig.rays(pixels.expand(3, -1, 2)).directions
    projected, depths, valid = rig.project(points)
    for n, camera in enumerate(alone):
        assert_close(directions[n], camera.rays(pixels).directions, rtol=0, atol=1e-12)
        one = camera.project(points)
        assert_close(projected[n][one[2]], one[0][one[2]], rtol=0, atol=1e-9)
        assert_close(depths[n], one[1], rtol=0, atol=1e-12)
        assert torch.equal(valid[n], one[2])
    assert rig[1].fisheye and not rig[0].fisheye and rig[[2, 1]].fisheye.tolist() == [False, True]
    per_metre = rig.depth_per_meter(directions)
    assert_close(per_metre[1], torch.ones_like(per_metre[1]))
    assert_close(per_metre[0], directions[0] @ pose.double()[:3, 2], rtol=0, atol=1e-12)


def test_gradients_of_a_rig_of_both_are_finite():
    rig = Cameras.stack([pinhole(), fisheye()])
    points = torch.tensor([[0.0, 0, 1], [0, 0, 0], [3, 1, -0.5], [0, 0, -2], [1e4, 0, 1e-2]]).double()
    points = points.expand(2, -1, 3).clone().requires_grad_()
    pose = rig.camera_to_world.clone().requires_grad_()
    pixels, depth, _ = replace(rig, camera_to_world=pose).project(points)
    (pixels.sum() + depth.sum()).backward()
    assert points.grad.isfinite().all() and pose.grad.isfinite().all()


def test_resizing_cropping_flipping_and_moving_keep_what_a_fisheye_sees():
    camera, pixels = fisheye(), everywhere(91.0)
    rays = camera.rays(pixels).directions
    factors = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert_close(camera.resize((240, 640)).rays(pixels * factors).directions, rays, rtol=0, atol=1e-9)
    shifted = pixels - torch.tensor([7.0, -20.0], dtype=torch.float64)
    assert_close(camera.crop(-20, 7, (1000, 900)).rays(shifted).directions, rays, rtol=0, atol=1e-9)
    mirrored = torch.stack([1280 - pixels[:, 0], pixels[:, 1]], -1)
    assert_close(camera.flip().rays(mirrored).directions, rays, rtol=0, atol=1e-9)
    turn = pose_from_vectors(*torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]).double())
    assert_close(camera.moved(turn).rays(pixels).directions, rays @ turn[:3, :3].T, rtol=0, atol=1e-9)


@pytest.mark.untyped
def test_a_fisheye_without_coefficients_or_of_another_shape_is_refused():
    for changed in ({"distortion": None}, {"fisheye": torch.tensor([True])}):
        with pytest.raises(ValueError, match=r"Cameras\.fisheye: expected \(\) and distortion"):
            replace(fisheye(), **changed)
    with pytest.raises(ValueError, match=r"Cameras\.fisheye: expected torch\.bool"):
        replace(fisheye(), fisheye=torch.tensor(1.0))


def test_nothing_waits_for_a_number():
    """Of tensors without numbers none can be looked at: a device would have had to be waited for."""
    with FakeTensorMode():
        rig = Cameras(
            torch.eye(3).expand(2, 3, 3),
            torch.eye(4).expand(2, 4, 4),
            SIZE,
            torch.zeros(2, 5),
            torch.tensor([True, False]),
        )
        rays = rig.rays(torch.rand(2, 7, 2))
        pixels, depth, valid = rig.project(rays.origins + 3 * rays.directions)
        shapes = [pixels.shape, depth.shape, valid.shape, rig.in_lens(pixels).shape]
    assert shapes == [(2, 7, 2), (2, 7), (2, 7), (2, 7)]
