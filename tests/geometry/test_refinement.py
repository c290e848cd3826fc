"""Learned camera poses: what they are at the start, what they mean, and where their gradient comes from."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Cameras
from renderpretrain.geometry import PoseRefinement, invert_pose, pose_from_vectors, pose_from_yaw


def rig(*batch, num_cameras=3):
    """Cameras here and there, looking anywhere."""
    pose = pose_from_vectors(torch.randn(*batch, num_cameras, 3), 3 * torch.randn(*batch, num_cameras, 3))
    intrinsics = torch.tensor([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]).expand(*batch, num_cameras, 3, 3)
    return Cameras(intrinsics, pose, (48, 64))


def twist(rotation):
    """The matrix whose exponential is the rotation."""
    x, y, z = rotation.tolist()
    return torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=rotation.dtype)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.02, 1.0, math.pi, 5.0])
def test_rotations_are_the_matrix_exponential(angle):
    rotation = angle * torch.nn.functional.normalize(torch.randn(3, dtype=torch.float64), dim=0)
    translation = torch.randn(3, dtype=torch.float64)
    pose = pose_from_vectors(rotation, translation)
    # 1e-10: the series of torch.linalg.matrix_exp is cut.
    assert_close(pose[:3, :3], torch.linalg.matrix_exp(twist(rotation)), rtol=0, atol=1e-10)
    assert torch.equal(pose[:3, 3], translation) and pose[3].tolist() == [0, 0, 0, 1]


def test_a_turn_about_z_is_a_yaw():
    assert_close(
        pose_from_vectors(torch.tensor([0.0, 0.0, 0.3]), torch.tensor([1.0, 2.0, 3.0])),
        pose_from_yaw(0.3, (1.0, 2.0, 3.0)),
    )


@pytest.mark.parametrize("size", [0.0, 1e-8, 0.1, 2.0])
def test_the_gradient_is_right_also_without_a_turn(size):
    rotation = (size * torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    translation = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pose_from_vectors, (rotation, translation))


def test_a_fresh_refinement_changes_nothing_to_the_bit():
    cameras, refine = rig(4), PoseRefinement(3)
    refined = refine(cameras)
    assert torch.equal(refined.camera_to_world, cameras.camera_to_world)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(refine(cameras).camera_to_world, cameras.camera_to_world)
    assert refine.prior() == 0


def test_deviations_count_in_standard_deviations_and_in_the_cameras_axes():
    refine = PoseRefinement(2, rotation_std_deg=0.5, translation_std_m=0.1)
    with torch.no_grad():
        refine.deviations[1] = torch.tensor([0.0, 2.0, 0.0, 3.0, 0.0, 0.0])
    assert_close(refine.rotations[1], torch.tensor([0.0, math.radians(1.0), 0.0]))
    assert_close(refine.translations[1], torch.tensor([0.3, 0.0, 0.0]))
    # Half of the squares 4 and 9, mean over two cameras.
    assert_close(refine.prior(), torch.tensor(3.25))
    cameras = rig(num_cameras=2)
    refined = refine(cameras)
    assert torch.equal(refined.camera_to_world[0], cameras.camera_to_world[0])
    assert_close(refined.centers[1], cameras.centers[1] + 0.3 * cameras.camera_to_world[1, :3, 0])
    # A positive turn about the camera's y, which points down, moves the view to the right.
    along, right = cameras.camera_to_world[1, :3, 2], cameras.camera_to_world[1, :3, 0]
    a = math.radians(1.0)
    assert_close(refined.camera_to_world[1, :3, 2], math.cos(a) * along + math.sin(a) * right)


def test_one_error_is_the_same_in_every_scene_and_world():
    cameras, refine = rig(4), PoseRefinement(3)
    torch.nn.init.normal_(refine.deviations)
    refined = refine(cameras)
    local = invert_pose(cameras.camera_to_world) @ refined.camera_to_world
    assert_close(local, local[:1].expand(4, -1, -1, -1), rtol=0, atol=1e-5)
    moved = pose_from_vectors(torch.randn(3), torch.randn(3)).expand(4, 3, 4, 4)
    assert_close(
        refine(cameras.moved(moved)).camera_to_world,
        refined.moved(moved).camera_to_world,
        rtol=0,
        atol=1e-5,
    )


def test_fewer_cameras_take_the_first_places():
    refine = PoseRefinement(3)
    torch.nn.init.normal_(refine.deviations)
    cameras = rig(2)
    two = refine(cameras[:, :2]).camera_to_world
    assert torch.equal(two, refine(cameras).camera_to_world[:, :2])


def test_rays_and_projections_find_a_known_error():
    """Pixels of known points tell where the camera is: descent on them undoes an error of 1 degree, 0.2 m."""
    true = rig(num_cameras=1)
    points = true.rays(torch.rand(1, 50, 2) * torch.tensor([64.0, 48.0])).at(2 + 8 * torch.rand(1, 50, 1))[
        :, :, 0
    ]
    error = pose_from_vectors(torch.tensor([0.01, -0.01, 0.01]), torch.tensor([0.1, -0.1, 0.14]))
    given = Cameras(true.intrinsics, true.camera_to_world @ error, (48, 64))
    seen, _, _ = true.project(points)
    refine = PoseRefinement(1)
    optimizer = torch.optim.Adam(refine.parameters(), lr=0.05)
    for _ in range(200):
        pixels, _, _ = refine(given).project(points)
        rays = refine(given).rays(seen)
        off = torch.linalg.cross(rays.directions, points - rays.origins).norm(dim=-1)
        optimizer.zero_grad()
        ((pixels - seen).abs().mean() + off.mean()).backward()
        optimizer.step()
    left = (invert_pose(true.camera_to_world) @ refine(given).camera_to_world)[0].detach()
    # A hundredth of the error, to which 200 steps of that size come.
    assert (left[:3, :3] - torch.eye(3)).abs().max() < 5e-4 and left[:3, 3].norm() < 5e-3


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PoseRefinement(0), "num_cameras: expected a positive number, got 0"),
        (
            lambda: PoseRefinement(1, rotation_std_deg=-1),
            "rotation_std_deg: expected a positive number, got -1",
        ),
        (
            lambda: PoseRefinement(2)(rig(4)),
            r"cameras: expected 1 to 2 in the last batch axis, got \(4, 3\)",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
