"""Marching through occupied voxels: on paper, against a slow loop over every step, and odd rays."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops import has_native, march, march_packed, march_packed_reference, march_reference

GRID = VoxelGrid((-4.0, -3.0, -1.0, 4.0, 3.0, 2.0), (0.5, 0.75, 1.0))  # 3 x 8 x 16 voxels
FRAME = (GRID.scale, GRID.offset)
FUNCTIONS = [march, march_reference]
PACKED = [march_packed, march_packed_reference]


def scene(num_rays, *, share=0.3, dtype=torch.float32, device="cpu"):
    """Rays from in and around GRID, some along axes and on faces, and two occupancies of it."""
    origins = torch.tensor([10.0, 8.0, 4.0]) * (torch.rand(2, num_rays, 3) - 0.5)
    directions = torch.nn.functional.normalize(torch.randn_like(origins), dim=-1)
    directions = torch.where(torch.rand_like(directions) < 0.2, -0.0, directions)
    origins = torch.where(torch.rand_like(origins) < 0.2, origins.round(), origins)
    near = torch.rand(2, num_rays)
    far = near + 14 * torch.rand_like(near) - 1
    # Drawn on the CPU, whose generator gives every device the same scene.
    occupied = (torch.rand(2, *GRID.shape) < share).to(device)
    origins, directions, near, far = (rays.to(device, dtype) for rays in (origins, directions, near, far))
    return origins, directions, near, far, occupied


def slow_march(origin, direction, near, far, occupied, step):
    """All samples of one ray, step after step, with the roundings of its floating type."""
    scale, offset = (origin.new_tensor(numbers) for numbers in FRAME)
    samples, length = [], origin.new_tensor(step)
    for i in range(0 if direction.eq(0).all() else math.ceil(max(0.0, (far - near).item() / step)) + 1):
        middle = near + (i + 0.5) * length
        index = ((origin + middle * direction) * scale + offset + 0.5).floor().long().tolist()
        inside = all(0 <= a < size for a, size in zip(index, GRID.shape[::-1], strict=True))
        if inside and middle < far and occupied[index[2], index[1], index[0]]:
            samples.append(((near + i * length).item(), (near + (i + 1) * length).item()))
    return samples


def as_lists(marched):
    """(t_start, t_end) of the valid samples of every ray."""
    starts, ends, valid, _ = (tensor.flatten(0, 1).cpu() for tensor in marched)
    return [
        list(zip(s[v].tolist(), e[v].tolist(), strict=True))
        for s, e, v in zip(starts, ends, valid, strict=True)
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    occupied = torch.zeros(1, *GRID.shape, dtype=torch.bool, device=device)
    occupied[0, 0, 4, 2:4] = True  # x in [-3, -2), y in [0, 0.75), z in [-1, 0)
    row = lambda *numbers: torch.tensor([[numbers]], device=device)  # noqa: E731
    ray = row(-5.0, 0.25, -0.5), row(1.0, 0.0, -0.0), row(0.5)[0], row(9.0)[0]
    starts, ends, valid, counts = function(*ray, occupied, *FRAME, 0.5, capacity=4)
    # Middles at 0.75 + 0.5 i: those in [2, 3) are 2.25 and 2.75.
    assert starts.tolist() == [[[2.0, 2.5, 3.0, 3.0]]]
    assert ends.tolist() == [[[2.5, 3.0, 3.0, 3.0]]]
    assert valid.tolist() == [[[True, True, False, False]]]
    assert counts.tolist() == [[2]]
    assert function(*ray, occupied, *FRAME, 0.5, capacity=1)[1].tolist() == [[[2.5]]]
    # The middle 2.75 is no longer in front of 2.75.
    short = (*ray[:3], row(2.75)[0])
    assert function(*short, occupied, *FRAME, 0.5, capacity=4)[3].tolist() == [[1]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_voxel_holds_its_lower_faces(function, device):
    occupied = torch.zeros(1, *GRID.shape, dtype=torch.bool, device=device)
    occupied[0, 1, 4, 8] = True  # x in [0, 0.5), y in [0, 0.75), z in [0, 1)
    for origin, inside in (((0.0, 0.0, 0.0), True), ((0.5, 0.0, 0.0), False), ((0.0, 0.75, 0.0), False)):
        ray = torch.tensor([[origin]], device=device), torch.tensor([[[0.0, 0.0, 1.0]]], device=device)
        near, far = torch.zeros(1, 1, device=device), torch.full((1, 1), 0.75, device=device)
        assert function(*ray, near, far, occupied, *FRAME, 0.5, capacity=3)[3].item() == int(inside)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("step", [0.013, 0.4, 3.0])
def test_a_loop_over_every_step_agrees(function, step, device):
    origins, directions, near, far, occupied = scene(20, device=device)
    expected = [
        slow_march(origins[b, r], directions[b, r], near[b, r], far[b, r], occupied[b], step)
        for b in range(2)
        for r in range(20)
    ]
    rays = origins, directions, near, far
    got = as_lists(function(*rays, occupied, *FRAME, step, capacity=1500))
    # The loop multiplies in the same type and order: the same numbers.
    assert got == expected and sum(map(len, expected)) >= 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", [0.001, 0.03, 0.5])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_kernel_equals_reference_to_the_bit(share, step, dtype, device):
    rays = scene(60, share=share, dtype=dtype, device=device)
    for capacity in (7, 900):
        ours = march(*rays, *FRAME, step, capacity=capacity)
        theirs = march_reference(*rays, *FRAME, step, capacity=capacity)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    ours, theirs = march_packed(*rays, *FRAME, step), march_packed_reference(*rays, *FRAME, step)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("function", PACKED)
def test_the_list_holds_the_rows(function, device):
    rays = scene(30, device=device)
    offsets, ray, starts, ends = function(*rays, *FRAME, 0.2)
    rows = as_lists(march(*rays, *FRAME, 0.2, capacity=200))
    assert offsets.tolist() == [0, *torch.tensor([len(row) for row in rows]).cumsum(0).tolist()]
    assert ray.tolist() == [r for r, row in enumerate(rows) for _ in row]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [
        sample for row in rows for sample in row
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rays_that_lead_nowhere_have_no_samples(function, device):
    nan, inf = math.nan, math.inf
    cases = [  # origin, direction, near, far
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, inf),
        ((0.0, 0.0, 0.0), (nan, 0.0, 1.0), 0.0, 9.0),
        ((nan, 0.0, 0.0), (0.0, 0.0, 1.0), 0.0, 9.0),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), nan, 9.0),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.0, nan),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 1.0, 0.5),  # near behind far
        ((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 3.0, 9.0),  # near behind the grid
        ((-9.0, 3.5, 0.0), (1.0, -0.0, 0.0), 0.0, 99.0),  # beside it
        ((-9.0, 3.0, 0.0), (1.0, 0.0, -0.0), 0.0, 99.0),  # in the plane of its upper face
        ((-9.0, 0.0, 0.0), (-1.0, 0.0, 0.0), 0.0, inf),  # away from it
        ((inf, 0.0, 0.0), (-1.0, 0.0, 0.0), 0.0, inf),
    ]
    origins, directions = (torch.tensor([[case[k] for case in cases]], device=device) for k in (0, 1))
    near, far = (torch.tensor([[case[k] for case in cases]], device=device) for k in (2, 3))
    occupied = torch.ones(1, *GRID.shape, dtype=torch.bool, device=device)
    starts, ends, valid, counts = function(origins, directions, near, far, occupied, *FRAME, 0.1, capacity=3)
    assert counts.tolist() == [[0] * len(cases)] and not valid.any()
    assert (starts == 0).all() and (ends == 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_infinite_ray_ends_with_the_grid(function, device):
    ray = torch.tensor([[[-9.0, 0.0, 0.5]]], device=device), torch.tensor([[[1.0, 0.0, 0.0]]], device=device)
    occupied = torch.ones(1, *GRID.shape, dtype=torch.bool, device=device)
    near, far = torch.zeros(1, 1, device=device), torch.full((1, 1), math.inf, device=device)
    starts, ends, _, counts = function(*ray, near, far, occupied, *FRAME, 0.25, capacity=40)
    assert counts.item() == 32  # 8 m of quarters
    assert (starts[0, 0, 0].item(), ends[0, 0, 31].item()) == (5.0, 13.0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_voxel_and_tiny_steps(function, device):
    """The last of a million steps of a ray are found, and found at once by the kernel."""
    frame = ((1.0, 1.0, 1.0), (-0.5, -0.5, -0.5))  # the unit cube
    ray = torch.tensor([[[-9.0, 0.5, 0.5]]], device=device), torch.tensor([[[1.0, 0.0, 0.0]]], device=device)
    near, far = torch.zeros(1, 1, device=device), torch.full((1, 1), 10.0, device=device)
    occupied = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    starts, _, _, counts = function(*ray, near, far, occupied, *frame, 1e-5, capacity=5)
    assert counts.item() == 5
    assert_close(starts[0, 0].cpu(), 9 + 1e-5 * torch.arange(5.0), rtol=0, atol=2e-5)  # float32 at 9


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("num_rays", [0, 3])
def test_empty_inputs(batch, num_rays, device):
    rays = [tensor[:batch, :num_rays] for tensor in scene(3, share=1.0, device=device)[:4]]
    occupied = torch.ones(batch, *GRID.shape, dtype=torch.bool, device=device)
    for function in FUNCTIONS:
        assert function(*rays, occupied, *FRAME, 0.1, capacity=0)[0].shape == (batch, num_rays, 0)
        assert function(*rays, occupied[:, :0], *FRAME, 0.1, capacity=2).counts.sum() == 0
    for function in PACKED:
        assert function(*rays, occupied[:, :, :0], *FRAME, 0.1).offsets.tolist() == [0] * (
            batch * num_rays + 1
        )


def test_memory_may_have_any_order_and_address(device):
    origins, directions, near, far, occupied = scene(9, device=device)
    expected = march(origins, directions, near, far, occupied, *FRAME, 0.1, capacity=50)
    strided = [
        tensor.movedim(0, -1).contiguous().movedim(-1, 0) for tensor in (origins, directions, near, far)
    ]
    padded = torch.zeros(2, *GRID.shape[:2], 17, dtype=torch.bool, device=device)
    padded[..., 1:] = occupied
    got = march(*strided, padded[..., 1:], *FRAME, 0.1, capacity=50)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
def test_the_number_of_threads_does_not_change_a_bit(threads):
    rays, results = scene(333), []
    for count in (1, 2, 4):
        threads(count)
        results.append([*march(*rays, *FRAME, 0.07, capacity=60), *march_packed(*rays, *FRAME, 0.07)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schemas_and_shapes_hold_together(device, check_operator):
    rays = scene(4, dtype=torch.float64, device=device)
    check_operator("march", (*rays, *FRAME, 0.3, 6), differentiable=False)
    check_operator("march_packed", (*rays, *FRAME, 0.3), differentiable=False)


def test_there_is_no_gradient():
    origins, directions, near, far, occupied = scene(4)
    marched = march(
        origins.requires_grad_(), directions, near.requires_grad_(), far, occupied, *FRAME, 0.3, capacity=5
    )
    assert not any(tensor.requires_grad for tensor in marched)


@pytest.mark.untyped
def test_errors_name_the_argument():
    *rays, occupied = scene(4)
    with pytest.raises(ValueError, match=r"occupied: expected torch\.bool of shape .* got torch\.float32"):
        march(*rays, occupied.float(), *FRAME, 0.1, capacity=3)
    with pytest.raises(ValueError, match=r"t_far: expected \(B R\) with B=2, R=4, got \(2, 3\)"):
        march(*rays[:3], rays[3][:, :3], occupied, *FRAME, 0.1, capacity=3)
    with pytest.raises(ValueError, match=r"step: expected a positive number, got 0\.0"):
        march_packed(*rays, occupied, *FRAME, 0.0)
    with pytest.raises(ValueError, match="capacity: expected at least zero, got -1"):
        march(*rays, occupied, *FRAME, 0.1, capacity=-1)
    with pytest.raises(ValueError, match="scale: expected positive numbers"):
        march(*rays, occupied, (1.0, 0.0, 1.0), GRID.offset, 0.1, capacity=1)
