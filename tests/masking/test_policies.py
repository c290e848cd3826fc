"""What every masking policy keeps to, and what each of them hides."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from renderpretrain import VoxelGrid
from renderpretrain.masking import (
    BlockMask,
    Compose,
    ConeMask,
    Either,
    FrameMask,
    GridMask,
    RandomMask,
    RangeMask,
    SectorMask,
    SharedMask,
    Sometimes,
    WeightedMask,
    lidar_guided,
)

GRID = VoxelGrid((-7.0, -6.0, -4.0, 7.0, 6.0, 4.0), (2.0, 2.0, 2.0))  # 4 x 6 x 7 voxels
CENTERS = GRID.centers()
DISTANCES = CENTERS[..., :2].norm(dim=-1)
AZIMUTHS = torch.atan2(CENTERS[..., 1], CENTERS[..., 0])
SEEDS = torch.arange(3)


def tokens(candidates):
    return candidates.flatten(1).sum(1)


def rings(candidates, ratios):
    inner = DISTANCES < 4
    return ratios[0] * tokens(candidates & inner) + ratios[1] * tokens(candidates & ~inner)


def columns(candidates):
    return tokens(candidates.any(1))


def frames(candidates):
    return tokens(candidates.flatten(2).any(2))


def policies(r):
    """Every policy with its unit of counting, and the fewest and most units it may hide of candidates."""
    below = 1 - (CENTERS[..., 2] > 0).int()

    def share(c):
        return r * tokens(c) - 1, r * tokens(c) + 1

    return {
        "random": (RandomMask(r), tokens, share),
        "weighted": (WeightedMask(DISTANCES, r), tokens, share),
        "guided": (lidar_guided(below, r), tokens, share),
        "block": (BlockMask(r, (1, 1, 1), (2, 3, 3)), tokens, share),
        "sector": (SectorMask(AZIMUTHS, r), tokens, share),
        "cone": (ConeMask(CENTERS, r), tokens, share),
        "range": (
            RangeMask(DISTANCES, (4.0,), (r, 0.25)),
            tokens,
            lambda c: (rings(c, (r, 0.25)) - 1, rings(c, (r, 0.25)) + 1),
        ),
        "columns": (
            SharedMask(RandomMask(r), (1,)),
            columns,
            lambda c: (r * columns(c) - 1, r * columns(c) + 1),
        ),
        "frames": (
            FrameMask(r),
            frames,
            lambda c: (r * frames(c[:, :-1]) - 1, r * frames(c[:, :-1]) + 1),
        ),
        # Two policies round twice.
        "compose": (
            Compose((RandomMask(r), SectorMask(AZIMUTHS, r))),
            tokens,
            lambda c: (r * (2 - r) * tokens(c) - 2, r * (2 - r) * tokens(c) + 2),
        ),
        "either": (
            Either((RandomMask(r), BlockMask(r, (1, 1, 1), (2, 3, 3)))),
            tokens,
            lambda c: (r * tokens(c) - 1, 2 * r * tokens(c) + 2),
        ),
        "sometimes": (Sometimes(RandomMask(r), 0.5), tokens, lambda c: (0 * tokens(c), share(c)[1])),
        # Squares of 2 to 4 cells with a share of whole squares: see the tests of the grid itself.
        "grid": (SharedMask(GridMask((2, 4), r), (1,)), tokens, lambda c: (0 * tokens(c), tokens(c))),
    }


@pytest.mark.parametrize("name", policies(0.5))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(
    ratio=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**62 - 4),
    data=st.integers(0, 1000),
)
def test_every_policy_keeps_the_contract(name, ratio, share, seed, data, device):
    policy, count, asked = policies(ratio)[name]
    drawn = torch.rand(3, *GRID.shape, generator=torch.Generator().manual_seed(data))
    candidates, seeds = (drawn < share).to(device), (SEEDS + seed).to(device)
    mask = policy(candidates, seeds)
    assert mask.dtype == torch.bool and mask.shape == candidates.shape and mask.device == candidates.device
    assert not (mask & ~candidates).any()
    low, high = asked(candidates.cpu())
    # 1e-3: shares of at most 168 tokens in float32.
    assert (count(mask.cpu()) >= low - 1e-3).all() and (count(mask.cpu()) <= high + 1e-3).all()
    assert torch.equal(mask, policy(candidates, seeds))
    assert torch.equal(mask.cpu(), policy(candidates.cpu(), seeds.cpu()))
    for b in range(3):
        assert torch.equal(mask[b : b + 1], policy(candidates[b : b + 1], seeds[b : b + 1]))


@pytest.mark.parametrize("name", policies(0.5))
def test_samples_and_seeds_differ(name):
    mask = policies(0.5)[name][0](torch.ones(40, *GRID.shape, dtype=torch.bool), torch.arange(40))
    # Fewest of all have the frames: one or two of three are hidden.
    assert len({tuple(m.flatten().tolist()) for m in mask}) >= 3


@pytest.mark.parametrize("name", ["random", "weighted", "block", "range", "sector", "cone", "frames"])
def test_without_seeds_torchs_generator_rules(name):
    policy, candidates = policies(0.5)[name][0], torch.ones(2, *GRID.shape, dtype=torch.bool)
    torch.manual_seed(1)
    first = policy(candidates)
    torch.manual_seed(1)
    assert torch.equal(first, policy(candidates))


def test_each_ring_hides_its_share():
    policy = RangeMask.linear(DISTANCES, (2.0, 0.9), (8.0, 0.1), rings=3)
    assert policy.edges == (2.0, 4.0, 6.0, 8.0)
    assert_close(policy.ratios, (0.9, 0.9 - 0.8 / 6, 0.5, 0.1 + 0.8 / 6, 0.1))  # the middles of the rings
    at = [policy.ratio_at(distance) for distance in (1.9, 4.0, 100.0)]
    assert_close(at, [0.9, 0.5, 0.1])
    candidates = torch.rand(3, *GRID.shape) < 0.6
    mask = policy(candidates, SEEDS)
    for low, high, ratio in zip((0.0, *policy.edges), (*policy.edges, math.inf), policy.ratios, strict=True):
        ring = (low <= DISTANCES) & (high > DISTANCES)
        assert ((tokens(mask & ring) - ratio * tokens(candidates & ring)).abs() <= 1 + 1e-3).all()


def test_whole_shares_are_exact_in_every_ring():
    """Ten rings of ten tokens, of which one each."""
    distances = torch.arange(100) + 0.5
    policy = RangeMask(distances, tuple(10.0 * i for i in range(1, 10)), (0.1,) * 10)
    mask = policy(torch.ones(3, 100, dtype=torch.bool), SEEDS)
    assert (mask.view(3, 10, 10).sum(-1) == 1).all()


def test_a_ring_begins_at_its_edge():
    policy = RangeMask(torch.tensor([1.0, 2.0, 3.0]), (2.0,), (0.0, 1.0))
    assert policy(torch.ones(1, 3, dtype=torch.bool), SEEDS[:1]).tolist() == [[False, True, True]]
    assert policy.ratio_at(2.0) == 1.0 and policy.ratio_at(1.999) == 0.0


def test_distances_may_differ_per_sample():
    distances = torch.tensor([[1.0, 9.0, 9.0], [9.0, 1.0, 1.0]])
    mask = RangeMask(distances, (5.0,), (1.0, 0.0))(torch.ones(2, 3, dtype=torch.bool), SEEDS[:2])
    assert mask.tolist() == [[True, False, False], [False, True, True]]


def test_a_weighted_draw_has_the_chances_of_drawing_one_after_the_other():
    """Two of three tokens with weights 1, 2, 5: chances by hand, each first draw times the second."""
    w, total = (1.0, 2.0, 5.0), 8.0
    chances = [
        sum(
            w[i] / total * w[j] / (total - w[i])
            for i in range(3)
            for j in range(3)
            if i != j and token in (i, j)
        )
        for token in range(3)
    ]
    count = 20000
    policy = WeightedMask(torch.tensor(w), 2 / 3)
    share = policy(torch.ones(count, 3, dtype=torch.bool), torch.arange(count)).float().mean(0)
    # Four standard deviations of a binomial with 20000 draws: at most 4 / (2 sqrt(20000)) = 0.0141.
    assert_close(share, torch.tensor(chances), rtol=0, atol=0.0142)


def test_a_token_without_weight_is_hidden_last():
    weights = torch.tensor([0.0, 1.0, 0.0, 1e-20])
    candidates = torch.ones(200, 4, dtype=torch.bool)
    half = WeightedMask(weights, 0.5)(candidates, torch.arange(200))
    assert torch.equal(half, torch.tensor([False, True, False, True]).expand(200, 4))
    more = WeightedMask(weights, 0.75)(candidates, torch.arange(200))
    assert more[:, 1].all() and more[:, 3].all() and 60 < more[:, 0].sum() < 140


def test_lidar_guided_patches_prefer_returns():
    returns = torch.tensor([[[3, 0, 0, 1]]]).expand(4000, 1, 4)
    mask = lidar_guided(returns, 0.25, odds=4.0)(torch.ones(4000, 1, 4, dtype=torch.bool), torch.arange(4000))
    # One of four patches of weights 4, 1, 1, 4; four standard deviations: 4 sqrt(0.4 * 0.6 / 4000) = 0.031.
    expected = torch.tensor([[0.4, 0.1, 0.1, 0.4]])
    assert_close(mask.float().mean(0), expected, rtol=0, atol=0.031)


def test_one_block_is_one_rectangle():
    mask = BlockMask(6 / 80, (3, 2), (3, 2))(torch.ones(50, 8, 10, dtype=torch.bool), torch.arange(50))
    compact = 0
    for sample in mask:
        v, u = sample.nonzero().unbind(1)
        compact += int((v.max() - v.min() + 1) * (u.max() - u.min() + 1) == len(v) == 6)
    # A block lies wholly inside at 6 x 9 of its 10 x 11 places; the others need a second block.
    assert compact >= 15


def test_blocks_hide_the_border_as_often_as_the_middle():
    policy, count = BlockMask(0.4, (1, 2), (4, 4)), 4000
    share = policy(torch.ones(count, 6, 8, dtype=torch.bool), torch.arange(count)).float().mean(0)
    # Four standard deviations of a binomial: 0.031; cutting the last block row by row adds a little at the
    # top, half a block (4 tokens of 48) of which the top row has at most twice its share.
    assert_close(share, torch.full((6, 8), 0.4), rtol=0, atol=0.031 + 0.03)


def test_blocks_hide_neighbours_together():
    candidates = torch.ones(100, 16, 16, dtype=torch.bool)
    blocks, scattered = BlockMask(0.5, (3, 3), (5, 5)), RandomMask(0.5)
    alike = [
        (m[:, :, 1:] == m[:, :, :-1]).float().mean().item()
        for m in (p(candidates, torch.arange(100)) for p in (blocks, scattered))
    ]
    # Independent neighbours agree half of the time; an edge of a block separates one in three to five.
    assert alike[0] > 0.75 and abs(alike[1] - 0.5) < 0.02


def test_a_sector_is_contiguous_around_the_sensor():
    azimuths = torch.rand(360) * 2 * math.pi - math.pi
    mask = SectorMask(azimuths, 0.3)(torch.ones(3, 360, dtype=torch.bool), SEEDS)
    around = azimuths.argsort()
    for sample in mask:
        hidden = sample[around]
        assert hidden.sum() == 108 and (hidden != hidden.roll(1)).sum() == 2


def test_a_cone_holds_what_is_nearest_to_its_axis():
    directions = torch.randn(200, 3) * torch.rand(200, 1)
    mask = ConeMask(directions, 0.2)(torch.ones(3, 200, dtype=torch.bool), SEEDS)
    unit = directions / directions.norm(dim=-1, keepdim=True)
    cosines = unit @ unit.T
    for sample in mask:
        narrowest = cosines[:, sample].min(1).values
        widest = cosines[:, ~sample].max(1).values
        # 1e-6 is the step in which cosines are compared.
        assert sample.sum() == 40 and (narrowest >= widest - 1e-6)[sample].any()


@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_the_grid_hides_squares_of_one_period(ratio):
    height, width = 30, 41
    masks = GridMask((5, 9), ratio)(torch.ones(60, height, width, dtype=torch.bool), torch.arange(60))
    periods = set()
    for mask in masks:
        found = [
            (d, a, b)
            for d in range(5, 10)
            for a in range(d)
            for b in range(d)
            if torch.equal(mask, squares(height, width, d, d - math.floor(d * ratio + 0.5), a, b))
        ]
        assert found
        periods |= {d for d, _, _ in found}
    assert periods == {5, 6, 7, 8, 9}


def squares(height, width, period, edge, down, right):
    """Squares of an edge length in every period, shifted: pixel after pixel along each axis."""
    rows = torch.tensor([(v + down) % period < edge for v in range(height)])
    columns = torch.tensor([(u + right) % period < edge for u in range(width)])
    return rows[:, None] & columns


def test_columns_are_hidden_from_top_to_bottom():
    candidates = torch.rand(3, *GRID.shape) < 0.5
    mask = SharedMask(RandomMask(0.5), (1,))(candidates, SEEDS)
    assert torch.equal(mask, candidates & mask.any(1, keepdim=True))


def test_frames_are_dropped_whole_and_the_newest_stays():
    candidates = torch.ones(50, 5, 2, 3, dtype=torch.bool)
    mask = FrameMask(0.25)(candidates, torch.arange(50))
    frames = mask.flatten(2)
    assert torch.equal(frames.any(2), frames.all(2))
    assert (frames.any(2).sum(1) == 1).all() and not mask[:, -1].any()
    assert set(frames.any(2).nonzero()[:, 1].tolist()) == {0, 1, 2, 3}
    assert torch.equal(FrameMask(0.25)(candidates[:, :, 0, 0], torch.arange(50)), frames.any(2))


def test_either_is_the_union_of_independent_draws():
    candidates = torch.ones(3, 2000, dtype=torch.bool)
    mask = Either((RandomMask(0.5), RandomMask(0.5)))(candidates, SEEDS)
    # 3/4 if independent, 1/2 if alike; four standard deviations of the overlap of two halves of 2000: 0.023.
    assert_close(mask.float().mean(1), torch.full((3,), 0.75), rtol=0, atol=0.023)


def test_compose_leaves_the_later_policy_what_the_earlier_left():
    distances = torch.arange(10.0)
    first, second = RangeMask(distances, (4.5,), (1.0, 0.0)), RandomMask(1.0)
    assert Compose((first, second))(torch.ones(1, 10, dtype=torch.bool), SEEDS[:1]).all()
    half = Compose((first, RandomMask(0.4)))(torch.ones(1, 10, dtype=torch.bool), SEEDS[:1])
    assert half[:, :5].all() and half[:, 5:].sum() == 2


def test_sometimes_masks_whole_samples_or_not():
    candidates = torch.ones(2000, 10, dtype=torch.bool)
    counts = Sometimes(RandomMask(0.5), 0.7)(candidates, torch.arange(2000)).sum(1)
    assert set(counts.tolist()) == {0, 5}
    # Four standard deviations: 4 sqrt(0.7 * 0.3 / 2000) = 0.041.
    assert abs((counts > 0).float().mean() - 0.7) < 0.041


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RangeMask(DISTANCES, (4.0,), (0.5,)), r"ratios: expected 2, one more than edges, got 1"),
        (lambda: RangeMask(DISTANCES, (4.0, 4.0), (0.5,) * 3), r"edges: expected ascending numbers"),
        (lambda: RangeMask.linear(DISTANCES, (8.0, 0.5), (4.0, 0.1)), r"expected near < far"),
        (
            lambda: WeightedMask(DISTANCES, 1.5),
            r"WeightedMask: ratio: expected a number in \[0, 1\], got 1.5",
        ),
        (lambda: BlockMask(0.5, (3, 3), (2, 4)), r"expected 1 <= smallest <= largest"),
        (lambda: BlockMask(0.5, (1, 1), (2, 2, 2)), r"expected 1 <= smallest <= largest"),
        (lambda: GridMask((1, 4)), r"periods: expected 2 <= smallest <= largest, got \(1, 4\)"),
        (lambda: SharedMask(RandomMask(0.5), (0,)), r"axes: expected axes from 1 on, got \(0,\)"),
        (lambda: FrameMask(0.5, keep=-1), r"keep: expected at least zero, got -1"),
        (lambda: lidar_guided(torch.ones(1, 2, 2).long(), 0.5, odds=0), r"odds: expected a positive number"),
        (
            lambda: RangeMask(DISTANCES, (), (0.5,))(torch.ones(2, 3, dtype=torch.bool), SEEDS[:2]),
            r"distances: expected \(2, 3\) or \(3,\), got \(4, 6, 7\)",
        ),
        (
            lambda: BlockMask(0.5, (1,), (2,))(torch.ones(2, 3, 4, dtype=torch.bool), SEEDS[:2]),
            r"candidates: expected a batch of 1 axes, got \(2, 3, 4\)",
        ),
        (
            lambda: SharedMask(RandomMask(0.5), (2,))(torch.ones(2, 3, dtype=torch.bool), SEEDS[:2]),
            r"axes: expected axes of \(2, 3\), got \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
