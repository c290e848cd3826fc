"""Rays against a box: on paper, in every singular position, and the kernel against the reference."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.ops import box_intersect, box_intersect_reference

BOX = ((-1.0, -2.0, 0.0), (3.0, 2.0, 1.0))
FUNCTIONS = [box_intersect, box_intersect_reference]


def one_ray(function, origin, direction, device="cpu", **limits):
    """The interval of one ray, or None for a miss."""
    origins = torch.tensor([origin], device=device)
    t_near, t_far, hit = function(origins, torch.tensor([direction], device=device), *BOX, **limits)
    if not hit.item():
        assert t_near.item() == t_far.item() == limits.get("near", 0.0)
        return None
    return t_near.item(), t_far.item()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((-5.0, 0.0, 0.5), (1.0, 0.0, 0.0), (4.0, 8.0)),  # from outside, along an axis
        ((-5.0, 0.0, 0.5), (-1.0, 0.0, 0.0), None),  # the box is behind
        ((0.0, 0.0, 0.5), (1.0, 0.0, 0.0), (0.0, 3.0)),  # from within
        ((0.0, 0.0, 0.5), (-1.0, -0.0, -0.0), (0.0, 1.0)),  # negative zeros are zeros
        ((-5.0, 5.0, 0.5), (1.0, 0.0, 0.0), None),  # parallel, beside the box
        ((-5.0, 2.0, 0.5), (1.0, 0.0, 0.0), (4.0, 8.0)),  # in the plane of a face
        ((-5.0, 2.0, 1.0), (1.0, -0.0, 0.0), (4.0, 8.0)),  # along an edge
        ((-1.0, -2.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0)),  # along an edge, from a corner
        ((-2.0, -1.0, 0.5), (1.0, -1.0, 0.0), None),  # only touches an edge
        ((-2.0, 0.0, 0.5), (2.0, 0.0, 0.0), (0.5, 2.5)),  # t counts in lengths of the direction
        ((-1.0, 0.0, 0.5), (1e-40, 0.0, 0.0), (0.0, math.inf)),  # 4 / 1e-40 exceeds float32
        ((math.nan, 0.0, 0.5), (1.0, 0.0, 0.0), None),
        ((0.0, 0.0, 0.5), (math.nan, 0.0, 1.0), None),
        ((math.inf, 0.0, 0.5), (-1.0, 0.0, 0.0), None),
    ],
)
def test_by_hand(function, origin, direction, expected, device):
    assert one_ray(function, origin, direction, device) == expected


@pytest.mark.parametrize("function", FUNCTIONS)
def test_near_and_far_cut_the_interval(function, device):
    ray = ((-5.0, 0.0, 0.5), (1.0, 0.0, 0.0))
    assert one_ray(function, *ray, device, near=1.0) == (4.0, 8.0)
    assert one_ray(function, *ray, device, near=5.0) == (5.0, 8.0)
    assert one_ray(function, *ray, device, near=5.0, far=6.0) == (5.0, 6.0)
    assert one_ray(function, *ray, device, near=1.0, far=4.0) is None
    assert one_ray(function, *ray, device, near=9.0) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 500)])
def test_kernel_equals_reference(batch, dtype, device):
    origins = 4 * torch.randn(*batch, 3, dtype=dtype, device=device)
    directions = torch.nn.functional.normalize(torch.randn(*batch, 3, dtype=dtype, device=device), dim=-1)
    directions = torch.where(torch.rand_like(directions) < 0.2, 0.0, directions)
    ours = box_intersect(origins, directions, *BOX, near=0.5, far=6.0)
    theirs = box_intersect_reference(origins, directions, *BOX, near=0.5, far=6.0)
    assert_close(ours, theirs, rtol=0, atol=0)  # the same divisions and comparisons


def test_the_interval_lies_in_the_box_and_misses_do_not_meet_it():
    origins = 3 * torch.randn(500, 3, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(500, 3, dtype=torch.float64), dim=-1)
    t_near, t_far, hit = box_intersect(origins, directions, *BOX)
    t = torch.linspace(0, 20, 2001, dtype=torch.float64)
    points = origins[:, None] + t[:, None] * directions[:, None]
    low, high = points.new_tensor(BOX[0]), points.new_tensor(BOX[1])
    inside = ((points >= low) & (points <= high)).all(-1)
    margin = 1e-9  # rounding of t_near and t_far
    assert (inside <= ((t >= t_near[:, None] - margin) & (t <= t_far[:, None] + margin) & hit[:, None])).all()
    within = (t > t_near[:, None] + margin) & (t < t_far[:, None] - margin)
    assert (within <= inside).all()


def test_moving_the_box_and_the_rays_changes_nothing(device):
    origins, directions = torch.randn(50, 3, device=device).round(), torch.randn(50, 3, device=device)
    moved = tuple(tuple(c + 8.0 for c in corner) for corner in BOX)
    assert_close(box_intersect(origins, directions, *BOX), box_intersect(origins + 8, directions, *moved))


def test_every_sign_of_the_direction_is_served(device):
    for signs in itertools.product([-1.0, 1.0], repeat=3):
        direction = torch.tensor([signs], device=device)
        centre = torch.tensor([[1.0, 0.0, 0.5]], device=device)
        t_near, t_far, hit = box_intersect(centre - 5 * direction, direction, *BOX)
        assert hit.item()
        assert (t_near.item(), t_far.item()) == (4.5, 5.5)  # z is the thinnest: half a metre either way


def test_it_equals_nerfacc(device):
    grid = pytest.importorskip("nerfacc.grid")
    if device.type == "cuda":
        pytest.importorskip("nerfacc.csrc", exc_type=ImportError)  # without it, it compiles for minutes
    origins = 1.5 * torch.randn(500, 3, device=device)
    directions = torch.nn.functional.normalize(torch.randn(500, 3, device=device), dim=-1)
    box = torch.tensor([*BOX[0], *BOX[1]], device=device)[None]
    # Its compiled function runs on CUDA alone; in plain PyTorch it keeps another at hand.
    theirs = grid.ray_aabb_intersect if device.type == "cuda" else grid._ray_aabb_intersect
    near, far, hit = (x[:, 0] for x in theirs(origins, directions, box, near_plane=0.5, far_plane=6.0))
    ours = box_intersect(origins, directions, *BOX, near=0.5, far=6.0)
    # Theirs counts a box behind `near` as hit, with an interval of no length.
    hit = hit & (near < far)
    assert 50 < hit.sum() < 450 and torch.equal(ours[2], hit)
    assert_close(ours[0][hit], near[hit], rtol=1e-6, atol=1e-6)
    assert_close(ours[1][hit], far[hit], rtol=1e-6, atol=1e-6)


def test_there_is_no_gradient():
    origins, directions = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    assert not any(out.requires_grad for out in box_intersect(origins, directions, *BOX))


@pytest.mark.untyped
def test_errors_name_the_argument():
    rays = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"directions: expected the shape of origins \(2, 3\), got \(3,\)"):
        box_intersect(rays, rays[0], *BOX)
    with pytest.raises(ValueError, match="lower: expected no coordinate above upper"):
        box_intersect(rays, rays, BOX[1], BOX[0])
    with pytest.raises(
        ValueError, match=r"near: expected a finite number that is at most far 1\.0, got 2\.0"
    ):
        box_intersect(rays, rays, *BOX, near=2.0, far=1.0)
