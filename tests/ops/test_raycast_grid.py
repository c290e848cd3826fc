"""Beams through a grid: on paper, against exact fractions, a slab test of every voxel, and odd beams."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from renderpretrain.geometry import VoxelGrid
from renderpretrain.ops import has_native, raycast_grid, raycast_grid_reference

SHAPE = (3, 4, 5)  # Z, Y, X
UNIT = ((1.0, 1.0, 1.0), (-0.5, -0.5, -0.5))  # voxel i spans [i, i + 1)
FUNCTIONS = [raycast_grid, raycast_grid_reference]


def cast(function, beams, shape=SHAPE, dtype=torch.float64, device="cpu"):
    """Counts of beams [(origin, end), ...] in a grid of unit voxels."""
    beams = torch.tensor(beams, dtype=dtype, device=device).reshape(1, -1, 2, 3)
    valid = torch.ones(beams.shape[:2], dtype=torch.bool, device=device)
    passed, hits = function(beams[:, :, 0], beams[:, :, 1], valid, shape, *UNIT)
    return passed[0].cpu(), hits[0].cpu()


def voxels(counts):
    """Voxels (x, y, z) with a count, in order."""
    return [(x, y, z) for z, y, x in counts.nonzero().tolist()]


def meets(origin, end, voxel):
    """Whether the open segment meets the inside of a unit voxel, in exact arithmetic."""
    enter, leave = Fraction(0), Fraction(1)
    for p, q, low in zip(origin, end, voxel, strict=True):
        p, q = Fraction(p), Fraction(q)
        if p == q:
            if not low < p < low + 1:
                return False
            continue
        times = sorted(((low - p) / (q - p), (low + 1 - p) / (q - p)))
        enter, leave = max(enter, times[0]), min(leave, times[1])
    return enter < leave


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("origin", "end", "passed", "hit"),
    [
        ((0.5, 0.5, 0.5), (3.5, 0.5, 0.5), [(0, 0, 0), (1, 0, 0), (2, 0, 0)], (3, 0, 0)),
        ((3.5, 0.5, 0.5), (0.5, 0.5, 0.5), [(1, 0, 0), (2, 0, 0), (3, 0, 0)], (0, 0, 0)),
        ((0.5, 0.5, 0.5), (3.0, 0.5, 0.5), [(0, 0, 0), (1, 0, 0), (2, 0, 0)], (3, 0, 0)),  # ends on a face
        ((3.5, 0.5, 0.5), (2.0, 0.5, 0.5), [(3, 0, 0)], (2, 0, 0)),  # and from the other side
        ((0.0, 0.0, 0.0), (3.0, 3.0, 3.0), [(0, 0, 0), (1, 1, 1), (2, 2, 2)], None),  # through corners
        ((2.0, 0.0, 0.5), (0.0, 2.0, 0.5), [(0, 1, 0), (1, 0, 0)], (0, 2, 0)),  # through an edge
        ((0.5, 2.0, 0.5), (3.5, 2.0, 0.5), [], (3, 2, 0)),  # along a face
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), [], (0, 0, 0)),  # no length
        ((0.2, 0.5, 0.5), (0.7, 0.5, 0.5), [], (0, 0, 0)),  # within one voxel
        ((-2.5, 1.5, 0.5), (9.5, 1.5, 0.5), [(x, 1, 0) for x in range(5)], None),  # from and to outside
        ((5.0, 1.5, 0.5), (3.5, 1.5, 0.5), [(4, 1, 0)], (3, 1, 0)),  # from the upper face
        ((-1.0, 1.5, 0.5), (0.0, 1.5, 0.5), [], (0, 1, 0)),  # ends on the lower face
        ((4.5, 1.5, 0.5), (5.0, 1.5, 0.5), [(4, 1, 0)], None),  # ends on the upper face: outside
        ((-1.0, -1.0, 0.5), (-1.0, 9.0, 0.5), [], None),  # beside the grid
        ((0.5, 0.5, 4.0), (0.5, 0.5, -1.0), [(0, 0, 0), (0, 0, 1), (0, 0, 2)], None),
    ],
)
def test_by_hand(function, origin, end, passed, hit, device):
    for zeros in (0.0, -0.0):  # a zero difference of either sign
        got = cast(function, [(tuple(c + zeros for c in origin), end)], device=device)
        assert voxels(got[0]) == sorted(passed, key=lambda v: v[::-1])
        assert voxels(got[1]) == ([] if hit is None else [hit])
        assert got[0].max() <= 1 and got[1].max() <= 1


@pytest.mark.parametrize("function", FUNCTIONS)
def test_exact_fractions_agree(function):
    """Ends on quarters, so that faces, edges and corners are met all the time."""
    generator = np.random.default_rng(0)
    beams = (generator.integers(-6, 26, (300, 2, 3)) / 4).tolist()
    expected = torch.zeros(SHAPE, dtype=torch.int32)
    hits = torch.zeros_like(expected)
    for origin, end in beams:
        last = tuple(math.floor(c) for c in end)
        for z, y, x in itertools.product(*map(range, SHAPE)):
            expected[z, y, x] += (x, y, z) != last and meets(origin, end, (x, y, z))
            hits[z, y, x] += (x, y, z) == last
    got = cast(function, beams)
    assert torch.equal(got[0], expected) and torch.equal(got[1], hits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_slab_test_of_every_voxel_agrees(function, dtype, device):
    """In metres, on a grid whose voxels are no powers of two, with two batches and invalid beams."""
    grid = VoxelGrid((-2.0, -1.2, 0.3, 1.0, 1.2, 1.5), (0.3, 0.2, 0.4))
    around = torch.tensor([4.0, 3.0, 2.0], dtype=dtype)
    origins, ends = (around * (torch.rand(2, 150, 3, dtype=dtype) - 0.5) for _ in range(2))
    ends = torch.where(torch.rand_like(ends) < 0.2, origins, ends)
    valid = torch.rand(2, 150) < 0.8
    scale, offset = np.array(grid.scale), np.array(grid.offset)
    p, q = (points.double().numpy() * scale + offset + 0.5 for points in (origins, ends))
    p, d = p[:, :, None, None, None], (q - p)[:, :, None, None, None]
    low = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij")[::-1], -1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        faces = np.sort(np.stack([(low - p) / d, (low + 1 - p) / d]), axis=0)
    still, between = d == 0, (low < p) & (p < low + 1)
    enter = np.where(still, np.where(between, -np.inf, np.inf), faces[0]).max(-1).clip(min=0)
    leave = np.where(still, np.inf, faces[1]).min(-1).clip(max=1)
    ended = (np.floor(q)[:, :, None, None, None] == low).all(-1) & valid.numpy()[:, :, None, None, None]
    through = (enter < leave) & ~ended & valid.numpy()[:, :, None, None, None]
    passed, hits = function(
        origins.to(device), ends.to(device), valid.to(device), grid.shape, grid.scale, grid.offset
    )
    assert passed.cpu().numpy().tolist() == through.sum(1).tolist()
    assert hits.cpu().numpy().tolist() == ended.sum(1).tolist()
    assert hits.sum() > 20 and passed.sum() > 400


def test_kernel_equals_reference(device):
    """Ten thousand beams from one sensor, as a sweep has them."""
    grid = VoxelGrid((-20.0, -20.0, -2.0, 20.0, 20.0, 4.0), (0.4, 0.4, 0.4))
    ends = torch.randn(2, 5000, 3, device=device) * torch.tensor([15.0, 15.0, 1.0], device=device)
    origins = torch.tensor([[0.01, 0.02, 1.7], [0.4, 0.8, 1.6]], device=device)[:, None].expand_as(ends)
    beams = origins, ends, torch.rand(2, 5000, device=device) < 0.9
    ours = raycast_grid(*beams, grid.shape, grid.scale, grid.offset)
    theirs = raycast_grid_reference(*beams, grid.shape, grid.scale, grid.offset)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_beam_without_finite_ends_counts_nothing(function, device):
    inside = (0.5, 0.5, 0.5)
    for bad in ((math.nan, 0.5, 0.5), (0.5, math.inf, 0.5), (0.5, 0.5, -math.inf)):
        for beam in ((inside, bad), (bad, inside)):
            passed, hits = cast(function, [beam], device=device)
            assert passed.sum() == 0 and hits.sum() == 0


@pytest.mark.parametrize("function", FUNCTIONS)
def test_very_steep_and_very_long_beams(function, device):
    beams = [
        ((0.5, 0.5, 0.5), (3.5, 0.5 + 1e-300, 0.5)),  # nearly parallel to an axis
        ((1.0, 1.0, 0.5), (1.0 - 1e-16, 3.5, 0.5)),  # leaves a face by less than a float32 knows
        ((-1e12, 1.5, 0.5), (1e12, 1.5, 0.5)),
    ]
    passed, _ = cast(function, beams[:1], device=device)
    assert voxels(passed) == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]
    passed, _ = cast(function, beams[1:2], device=device)
    assert voxels(passed) == [(0, 1, 0), (0, 2, 0)]
    passed, _ = cast(function, beams[2:], device=device)
    assert voxels(passed) == [(x, 1, 0) for x in range(5)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_voxel_no_voxel_no_beam(function, device):
    passed, hits = cast(function, [((-1.0, 0.5, 0.5), (2.0, 0.5, 0.5))], (1, 1, 1), device=device)
    assert passed.tolist() == [[[1]]] and hits.tolist() == [[[0]]]
    assert cast(function, [], device=device)[0].sum() == 0
    assert cast(function, [((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))], (0, 4, 5), device=device)[0].shape == (
        0,
        4,
        5,
    )
    none = torch.zeros(0, 3, 3, device=device)
    assert function(none, none, none[..., 0] > 0, SHAPE, *UNIT)[1].shape == (0, *SHAPE)


def test_memory_may_have_any_order_and_address(device):
    origins, ends = torch.rand(3, 2, 40, device=device) * 6 - 1, torch.rand(3, 2, 40, device=device) * 6 - 1
    valid = torch.rand(40, 2, device=device) < 0.7
    views = origins.permute(1, 2, 0), ends.permute(1, 2, 0), valid.T
    got = raycast_grid(*views, SHAPE, *UNIT)
    expected = raycast_grid(*(view.contiguous() for view in views), SHAPE, *UNIT)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
@pytest.mark.parametrize("batch", [1, 3])
def test_the_number_of_threads_does_not_change_a_count(batch, threads):
    origins, ends = 9 * torch.rand(2, batch, 500, 3) - 2
    results = []
    for count in (1, 2, 4, 7):  # more than there are rows, too
        threads(count)
        results.append(raycast_grid(origins, ends, ends[..., 0] < 5, SHAPE, *UNIT))
    assert all(torch.equal(a, b) for other in results for a, b in zip(results[0], other, strict=True))


@pytest.mark.skipif(not has_native("cpu"), reason="operators are registered for native libraries")
def test_schema_and_shapes_hold_together(device, check_operator):
    origins, ends = 9 * torch.rand(2, 2, 5, 3, dtype=torch.float64, device=device) - 2
    check_operator("raycast_grid", (origins, ends, ends[..., 0] < 5, SHAPE, *UNIT), differentiable=False)


@pytest.mark.untyped
def test_errors_name_the_argument():
    beams, valid = torch.zeros(2, 4, 3), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"ends: expected \(B R 3\) with B=2, R=4, got \(2, 3, 3\)"):
        raycast_grid(beams, beams[:, :3], valid, SHAPE, *UNIT)
    with pytest.raises(
        ValueError, match=r"valid: expected torch\.bool of shape \(2, 4\) on cpu, got torch\.float32"
    ):
        raycast_grid(beams, beams, valid.float(), SHAPE, *UNIT)
    with pytest.raises(ValueError, match=r"shape: expected three sizes \(Z, Y, X\), got \(3, 4\)"):
        raycast_grid(beams, beams, valid, SHAPE[:2], *UNIT)
    with pytest.raises(ValueError, match="scale: expected positive numbers"):
        raycast_grid(beams, beams, valid, SHAPE, (1.0, -1.0, 1.0), UNIT[1])
