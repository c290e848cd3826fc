import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, VoxelGrid
from renderpretrain.samplers import (
    disparity_positions,
    near_surface_positions,
    occupied_samples,
    stratified_positions,
    uniform_positions,
)

SEEDS = torch.tensor([1, 2])


def ranges(rays=50, near=1.0, far=5.0):
    return torch.full((2, rays), near), torch.full((2, rays), far)


def test_uniform_positions_are_interval_middles():
    t = uniform_positions(torch.tensor([[1.0]]), torch.tensor([[5.0]]), 4)
    assert t.tolist() == [[[1.5, 2.5, 3.5, 4.5]]]


def test_jitter_moves_a_rays_positions_together_and_stays_in_range():
    near, far = ranges()
    t = uniform_positions(near, far, 4, SEEDS)
    offsets = t - uniform_positions(near, far, 4)
    assert_close(offsets, offsets[..., :1].expand_as(offsets))
    assert (t >= 1).all() and (t <= 5).all()
    assert offsets.std() > 0.2  # uniform in [-0.5, 0.5]: 0.29


def test_stratified_positions_fall_once_in_every_interval():
    near, far = ranges(rays=500)
    t = stratified_positions(near, far, 4, SEEDS)
    assert torch.equal((t - 1).floor(), torch.arange(4.0).expand_as(t))
    offsets = (t - (t - 1).floor() - 1).flatten(0, 1)
    # A thousand numbers in [0, 1): mean within four of its standard deviations 0.29 / sqrt(1000).
    assert_close(offsets.mean(0), torch.full((4,), 0.5), rtol=0, atol=0.037)
    correlation = torch.corrcoef(offsets.T) - torch.eye(4)
    assert correlation.abs().max() < 4 / 1000**0.5  # independent of each other


def test_disparity_positions_by_hand():
    """1 / t from 1 to 1/5 in four steps of 0.2: middles 0.9, 0.7, 0.5, 0.3."""
    t = disparity_positions(torch.tensor([[1.0]]), torch.tensor([[5.0]]), 4)
    assert_close(t, 1 / torch.tensor([[[0.9, 0.7, 0.5, 0.3]]]))


def test_jittered_disparity_positions_are_sorted_and_in_range():
    near, far = ranges(near=0.5, far=60.0)
    t = disparity_positions(near, far, 32, SEEDS)
    assert (t.diff(dim=-1) > 0).all() and (t >= 0.5).all() and (t <= 60.0).all()
    assert t[..., 1].std() > 0


@pytest.mark.parametrize(("near", "far"), [(0.0, 0.0), (0.0, 9.0), (2.0, 2.0)])
def test_ranges_without_disparity_stay_where_they_start(near, far):
    t = disparity_positions(*ranges(rays=2, near=near, far=far), 4)
    assert_close(t, torch.full((2, 2, 4), near))


def test_positions_near_the_surface_by_hand():
    near, far = torch.tensor([[0.0] * 4]), torch.tensor([[8.0] * 4])
    depth = torch.tensor([[4.0, 7.9, 9.0, torch.nan]])
    hit = torch.tensor([[True, True, True, False]])
    t = near_surface_positions(near, far, depth, hit, 4, width=0.4)
    even = [1.0, 3.0, 5.0, 7.0]
    # Windows [3.6, 4.4] and [7.5, 8]; the third return lies behind the range.
    expected = [[2.0, 3.8, 4.2, 6.0], [2.0, 6.0, 7.625, 7.875], even, even]
    assert_close(t, torch.tensor([expected]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_asked_share_lies_near_the_surface(share):
    near, far = ranges(near=0.0, far=100.0)
    depth = 20 + 60 * torch.rand(2, 50)
    hit = torch.ones_like(depth, dtype=torch.bool)
    t = near_surface_positions(near, far, depth, hit, 20, SEEDS, width=0.05, share=share)
    assert (t.diff(dim=-1) >= 0).all() and t.shape == (2, 50, 20)
    close = ((t - depth[..., None]).abs() <= 0.05 + 1e-5).sum(-1)  # 1e-5: float32 at 80 m
    # An even position falls into a window of 0.1 in 100 m by chance.
    assert (close >= round(20 * share)).all() and (close - round(20 * share)).float().mean() < 0.1


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.1, "share": 1.5}, r"share: expected a number in \[0, 1\], got 1.5"),
        ({"width": 0.0}, "width: expected a positive number of metres, got 0.0"),
    ],
)
def test_impossible_shares_and_widths_are_refused(options, message):
    near, far = ranges(rays=1)
    with pytest.raises(ValueError, match=message):
        near_surface_positions(near, far, near, near > 0, 4, **options)


GRID = VoxelGrid((-4.0, -4.0, -1.0, 4.0, 4.0, 1.0), (1.0, 1.0, 1.0))


def test_samples_lie_where_the_grid_is_occupied():
    """The samples of a slow loop over steps, with the grid's own rule for the voxel of a point."""
    occupied = torch.rand(2, *GRID.shape) < 0.3
    origins = torch.rand(2, 40, 3) * 2 - 1
    rays = Rays(origins, torch.nn.functional.normalize(torch.randn(2, 40, 3), dim=-1))
    near, far = torch.full((2, 40), 0.5), torch.full((2, 40), 6.0)
    samples = occupied_samples(rays, near, far, occupied, GRID, step=0.25, capacity=6)
    for b in range(2):
        for r in range(40):
            starts = [0.5 + 0.25 * i for i in range(22)]
            points = rays[b, r].at(torch.tensor(starts) + 0.125)
            inside = [bool(GRID.contains(p)) and bool(occupied[(b, *GRID.cells(p).tolist())]) for p in points]
            expected = [start for start, yes in zip(starts, inside, strict=True) if yes][:6]
            assert samples.t_starts[b, r][samples.valid[b, r]].tolist() == expected
    assert_close(samples.deltas[samples.valid], torch.full((int(samples.valid.sum()),), 0.25))
    assert not samples.deltas[~samples.valid].any()


def test_jitter_moves_a_rays_steps_together():
    rays = Rays(torch.zeros(2, 30, 3), torch.tensor([1.0, 0, 0]).expand(2, 30, 3))
    near, far = torch.zeros(2, 30), torch.full((2, 30), 3.0)
    full = torch.ones(2, *GRID.shape, dtype=torch.bool)
    samples = occupied_samples(rays, near, far, full, GRID, SEEDS, step=0.5, capacity=8)
    first = samples.t_starts[..., 0]
    assert (first.abs() <= 0.25).all() and first.std() > 0.1  # uniform in [-0.25, 0.25]: 0.14
    # The middle of the sixth step lies in front of 3 m with any jitter, that of the seventh never.
    assert torch.equal(samples.valid, torch.tensor([True] * 6 + [False] * 2).expand(2, 30, 8))
    assert_close(samples.t_starts[..., :6], first[..., None] + 0.5 * torch.arange(6))


@pytest.mark.untyped
def test_a_grid_of_another_shape_is_refused():
    rays = Rays(torch.zeros(1, 1, 3), torch.tensor([[[1.0, 0, 0]]]))
    with pytest.raises(ValueError, match=r"occupied: expected \(1, 2, 8, 8\), got \(1, 8, 8, 2"):
        occupied_samples(
            rays,
            torch.zeros(1, 1),
            torch.ones(1, 1),
            torch.ones(1, 8, 8, 2, dtype=torch.bool),
            GRID,
            step=0.1,
            capacity=1,
        )
