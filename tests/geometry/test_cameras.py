import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.geometry import invert_pose, pose_from_yaw, rotate, transform

LENS = (-0.28, 0.07, 0.0004, -0.0003, 0.002)  # a typical automotive lens: k1 k2 p1 p2 k3


def random_rotation(*batch):
    q, r = torch.linalg.qr(torch.randn(*batch, 3, 3, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[..., None, :]
    q[..., 0] *= torch.linalg.det(q)[..., None]
    return q


def cameras(*batch, distorted=False, dtype=torch.float64):
    pose = torch.eye(4, dtype=torch.float64).repeat(*batch, 1, 1)
    pose[..., :3, :3] = random_rotation(*batch)
    pose[..., :3, 3] = torch.randn(*batch, 3, dtype=torch.float64) * 3
    intrinsics = torch.tensor(
        [[420.0, 0.7, 322.0], [0.0, 410.0, 175.0], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    lens = torch.tensor(LENS, dtype=torch.float64).expand(*batch, 5) if distorted else None
    lens = lens.to(dtype) if lens is not None else None
    return Cameras(intrinsics.expand(*batch, 3, 3).to(dtype), pose.to(dtype), (360, 640), lens)


def random_pixels(*batch, count=200):
    return torch.rand(*batch, count, 2, dtype=torch.float64) * torch.tensor([640.0, 360.0])


@pytest.mark.parametrize("distorted", [False, True])
def test_a_point_on_a_ray_projects_back_to_its_pixel(distorted):
    cams, pixels = cameras(2, 3, distorted=distorted), random_pixels(2, 3)
    rays = cams.rays(pixels)
    points = rays.origins + rays.directions * (1 + 50 * torch.rand(2, 3, 200, 1, dtype=torch.float64))
    again, z_depth, valid = cams.project(points)
    assert_close(again, pixels, rtol=0, atol=1e-5)
    assert valid.all() and (z_depth > 0).all()


def test_directions_are_unit():
    directions = cameras(3).rays(random_pixels(3)).directions
    assert_close(directions.norm(dim=-1), torch.ones(3, 200, dtype=torch.float64))


def test_the_principal_ray_of_an_identity_camera_is_z():
    cam = Cameras(torch.tensor([[100.0, 0, 32.0], [0, 100.0, 24.0], [0, 0, 1]]), torch.eye(4), (48, 64))
    assert_close(cam.rays(torch.tensor([[32.0, 24.0]])).directions, torch.tensor([[0.0, 0.0, 1.0]]))
    # One focal length to the right is 45 degrees.
    assert_close(
        cam.rays(torch.tensor([[132.0, 24.0]])).directions, torch.tensor([[1.0, 0.0, 1.0]]) / math.sqrt(2)
    )


def test_distortion_is_opencvs_formula():
    """The formula written out for one point, in numpy."""
    cam = Cameras(torch.eye(3).double(), torch.eye(4).double(), (1, 1), torch.tensor(LENS).double())
    x, y = 0.3, -0.2
    k1, k2, p1, p2, k3 = LENS
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    expected = np.array(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ]
    )
    pixels, _, _ = cam.project(torch.tensor([[2 * x, 2 * y, 2.0]]).double())
    # float32 lens constants.
    assert_close(pixels[0].numpy(), expected, rtol=0, atol=1e-7)


def test_a_point_far_outside_a_folding_lens_is_not_visible():
    """With k1 = -0.28 the radius folds back at r = 1.09: r = 2 would land inside the image."""
    cam = Cameras(
        torch.tensor([[300.0, 0, 320.0], [0, 300.0, 180.0], [0, 0, 1]]),
        torch.eye(4),
        (360, 640),
        torch.tensor([-0.28, 0.0, 0.0, 0.0, 0.0]),
    )
    pixels, _, valid = cam.project(torch.tensor([[2.0, 0.0, 1.0]]))
    assert 0 < pixels[0, 0] < 640 and not valid[0]


def test_points_behind_and_beside_are_not_visible():
    cam = Cameras(torch.tensor([[100.0, 0, 32.0], [0, 100.0, 24.0], [0, 0, 1]]), torch.eye(4), (48, 64))
    _, _, valid = cam.project(
        torch.tensor([[0.0, 0.0, -1.0], [5.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    )
    assert valid.tolist() == [False, False, True, False]


def test_lidar2img_is_recovered():
    cams = cameras(2, 6)
    viewpad = torch.eye(4, dtype=torch.float64).repeat(2, 6, 1, 1)
    viewpad[..., :3, :3] = cams.intrinsics
    viewpad[..., 0, 2] -= 0.5
    viewpad[..., 1, 2] -= 0.5
    again = Cameras.from_lidar2img(viewpad @ cams.world_to_camera, cams.image_size)
    assert_close(again.intrinsics, cams.intrinsics, rtol=0, atol=1e-9)
    assert_close(again.camera_to_world, cams.camera_to_world, rtol=0, atol=1e-9)


def test_a_scaled_projection_matrix_means_the_same_camera():
    cams = cameras(1)
    matrix = torch.eye(4, dtype=torch.float64)[None].clone()
    matrix[:, :3] = 0.01 * (cams.intrinsics @ cams.world_to_camera[:, :3])
    again = Cameras.from_lidar2img(matrix, cams.image_size, integer_centers=False)
    assert_close(again.intrinsics, cams.intrinsics, rtol=0, atol=1e-8)


@pytest.mark.parametrize("entry", [float("nan"), 0.0])
def test_a_useless_projection_matrix_is_refused(entry):
    matrix = torch.eye(4)
    matrix[1, 1] = entry
    with pytest.raises(ValueError, match="lidar2img: expected finite matrices"):
        Cameras.from_lidar2img(matrix, (4, 4))


def test_resizing_scales_pixels_edge_to_edge():
    cams = cameras(3, distorted=True)
    points = cams.rays(random_pixels(3)).at(torch.full((3, 200, 1), 7.0, dtype=torch.float64))[..., 0, :]
    before, _, _ = cams.project(points)
    after, _, _ = cams.resize((90, 320)).project(points)
    assert_close(after, before * torch.tensor([0.5, 0.25], dtype=torch.float64))


def test_resizing_keeps_full_precision_under_autocast():
    cams = Cameras(
        torch.tensor([[733.3, 0.1, 401.7], [0, 729.1, 223.3], [0, 0, 1]]), torch.eye(4), (448, 800)
    )
    with torch.autocast("cpu", torch.bfloat16):
        mixed = cams.resize((56, 100)).intrinsics
    assert torch.equal(mixed, cams.resize((56, 100)).intrinsics)


def test_cropping_shifts_pixels():
    cams = cameras(3)
    points = cams.rays(random_pixels(3)).at(torch.full((3, 200, 1), 7.0, dtype=torch.float64))[..., 0, :]
    before, _, _ = cams.project(points)
    after, _, _ = cams.crop(40, -16, (200, 500)).project(points)
    assert_close(after, before - torch.tensor([-16.0, 40.0], dtype=torch.float64))


@pytest.mark.parametrize("distorted", [False, True])
def test_flipping_mirrors_pixels_and_keeps_the_world(distorted):
    cams = cameras(3, distorted=distorted)
    pixels = random_pixels(3)
    points = cams.rays(pixels).at(torch.full((3, 200, 1), 7.0, dtype=torch.float64))[..., 0, :]
    mirrored = torch.stack([640 - pixels[..., 0], pixels[..., 1]], -1)
    assert_close(cams.flip().project(points)[0], mirrored, rtol=0, atol=1e-5)
    assert_close(cams.flip().rays(mirrored).directions, cams.rays(pixels).directions, rtol=0, atol=1e-7)


@pytest.mark.parametrize("lens", ["pinhole", "distorted", "fisheye"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turning_moves_pixels_about_the_middle_and_keeps_the_world(lens, mirrored):
    cams = cameras(3, distorted=lens != "pinhole")
    if lens == "fisheye":
        cams = replace(cams, distortion=0.1 * cams.distortion, fisheye=torch.ones(3, dtype=torch.bool))
    cams = cams.flip() if mirrored else cams
    pixels, angle = random_pixels(3), math.radians(20)
    points = cams.rays(pixels).at(torch.full((3, 200, 1), 7.0, dtype=torch.float64))[..., 0, :]
    height, width = cams.image_size
    right, down = pixels[..., 0] - width / 2, pixels[..., 1] - height / 2
    turned = torch.stack(
        [
            math.cos(angle) * right - math.sin(angle) * down + width / 2,
            math.sin(angle) * right + math.cos(angle) * down + height / 2,
        ],
        -1,
    )
    after = cams.turn(20)
    assert_close(after.project(points)[0], turned, rtol=0, atol=1e-5)
    assert_close(after.rays(turned).directions, cams.rays(pixels).directions, rtol=0, atol=1e-7)
    assert_close(after.project(points)[1], cams.project(points)[1])  # depth is along the same axis
    assert not after.intrinsics.tril(-1).any()
    assert_close(after.turn(-20).project(points)[0], cams.project(points)[0], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="degrees: expected less than 90"):
        cams.turn(90)


def test_float32_round_trips_to_a_hundredth_of_a_pixel():
    """1e-5 of the image width: float32 keeps 7 digits of a point 50 m away."""
    cams, pixels = cameras(4, dtype=torch.float32), random_pixels(4).float()
    rays = cams.rays(pixels)
    again, _, _ = cams.project(rays.origins + 50 * rays.directions)
    assert_close(again / 640, pixels / 640, rtol=0, atol=1e-5)


def test_poses_compose_and_invert():
    a_to_b = pose_from_yaw(0.3, (1.0, 2.0, 3.0)).double()
    points = torch.randn(5, 3, dtype=torch.float64)
    assert_close(transform(invert_pose(a_to_b), transform(a_to_b, points)), points)
    assert_close(
        transform(pose_from_yaw(math.pi / 2), torch.tensor([[1.0, 0, 0]])), torch.tensor([[0.0, 1.0, 0.0]])
    )
    assert_close(rotate(a_to_b, points).norm(dim=-1), points.norm(dim=-1))


def test_cameras_of_two_sizes_do_not_stack():
    with pytest.raises(ValueError, match="expected one image size"):
        Cameras.stack([cameras(1), cameras(1).resize((10, 10))])


@pytest.mark.untyped
def test_a_batch_mismatch_is_named():
    with pytest.raises(ValueError, match="expected one batch shape"):
        Cameras(torch.eye(3).expand(2, 3, 3), torch.eye(4), (4, 4))
