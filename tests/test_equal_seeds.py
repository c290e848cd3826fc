"""Equal seeds are safe: what draws from the same seeds draws independently, whoever it is."""

from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, VoxelGrid, ops
from renderpretrain.data import Batch, SyntheticStreet, collate
from renderpretrain.fields import FieldSamples
from renderpretrain.geometry import Points
from renderpretrain.masking import (
    BlockMask,
    Compose,
    Either,
    FrameMask,
    RandomMask,
    RangeMask,
    SharedMask,
    Sometimes,
    WeightedMask,
    no_mask,
    patch_candidates,
)
from renderpretrain.renderers import VolumeRenderer
from renderpretrain.samplers import Even, LidarBeams, draw_pixels, stratified_positions, uniform_positions

TOKENS = 4000
CANDIDATES = torch.ones(2, TOKENS, dtype=torch.bool)
SEEDS = torch.tensor([7, 8])
EVEN = torch.ones(TOKENS)
POLICIES = {
    "random": RandomMask(0.3),
    "weighted": WeightedMask(EVEN, 0.3),
    "ranges": RangeMask(EVEN, (2.0,), (0.3, 0.3)),
    "blocks": BlockMask(0.3, (1,), (1,)),
    "frames": FrameMask(0.3),
    "either": Either((RandomMask(0.3),)),
    "compose": Compose((RandomMask(0.3),)),
    "sometimes": Sometimes(RandomMask(0.3), 1.0),
    "shared": SharedMask(RandomMask(0.3), (2,)),
}


def mask_of(policy):
    shared = isinstance(policy, SharedMask)
    return policy(CANDIDATES[..., None] if shared else CANDIDATES, SEEDS).view(2, TOKENS)


@pytest.mark.parametrize(("one", "other"), [*combinations(POLICIES, 2)])
def test_two_policies_that_are_or_ed_hide_51_percent(one, other):
    hidden = mask_of(POLICIES[one]) | mask_of(POLICIES[other])
    # Two independent draws of 1200 of 4000: the overlap has a standard deviation of 16 tokens, 0.4 %.
    assert_close(hidden.float().mean(1), torch.full((2,), 0.51), rtol=0, atol=0.02)


@pytest.mark.parametrize("policy", [Either((RandomMask(0.3),) * 2), Compose((RandomMask(0.3),) * 2)])
def test_two_of_a_kind_are_composed(policy):
    assert_close(mask_of(policy).float().mean(1), torch.full((2,), 0.51), rtol=0, atol=0.02)


THREE = RandomMask(0.3) | RandomMask(0.3) | RandomMask(0.3)


@pytest.mark.parametrize(
    ("joined", "share"),
    [
        (RandomMask(0.3) | RandomMask(0.3), 0.51),
        (RandomMask(0.3) & RandomMask(0.3), 0.09),
        (RandomMask(0.3) | RandomMask(0.6), 0.72),  # the smaller one was a part of the larger
        (FrameMask(0.3) & FrameMask(0.3), 0.09),
        (THREE, 1 - 0.7**3),
        (RandomMask(0.3) | (RandomMask(0.3) | RandomMask(0.3)), 1 - 0.7**3),
        ((RandomMask(0.3) | RandomMask(0.3)) & (RandomMask(0.3) | RandomMask(0.3)), 0.51**2),
        (no_mask | RandomMask(0.3), 0.3),
        (no_mask & RandomMask(0.3), 0.0),
        (RandomMask(0.3) & (lambda candidates, seeds: candidates), 0.3),
    ],
)
def test_operators_fold_the_place_into_the_seeds(joined, share):
    for seeds in (SEEDS, SEEDS + 1000):  # given at the call, as a loop does
        hidden = joined(CANDIDATES, seeds)
        assert torch.equal(hidden, joined(CANDIDATES, seeds))
        # Draws of 4000: the standard deviation is below 0.4 % also for three of them.
        assert_close(hidden.float().mean(1), torch.full((2,), share), rtol=0, atol=0.02)


def test_two_of_a_kind_take_a_fork():
    hidden = RandomMask(0.3)(CANDIDATES, SEEDS) | RandomMask(0.3)(CANDIDATES, ops.fold_in(SEEDS, 1))
    assert_close(hidden.float().mean(1), torch.full((2,), 0.51), rtol=0, atol=0.02)


def test_rendered_beams_are_not_the_hidden_points():
    batch = collate([SyntheticStreet(1, image_size=(32, 48))[0]], torch.tensor([7]))
    hidden = RandomMask(0.3)(batch.points.valid, batch.seeds)
    beams = LidarBeams(1000)(batch)
    share = hidden[0, beams.returns[0]].float().mean()
    assert_close(share, torch.tensor(0.3), rtol=0, atol=0.06)  # four standard deviations of 1000 draws


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs()


def test_positions_of_two_kinds_are_independent():
    near, far = torch.zeros(2, TOKENS), torch.ones(2, TOKENS)
    even, anywhere = uniform_positions(near, far, 1, SEEDS), stratified_positions(near, far, 1, SEEDS)
    raw = ops.uniform(SEEDS, (TOKENS, 1))
    # Four standard deviations of the correlation of 8000 pairs.
    assert (
        max(correlation(even, anywhere), correlation(even, raw), correlation(anywhere, raw)) < 4 / 8000**0.5
    )


def test_a_renderers_jitter_is_its_own():
    grid = VoxelGrid((0.0, 0.0, 0.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    origins = torch.tensor([-1.0, 0.5, 0.5]).expand(2, TOKENS, 3)
    rays = Rays(origins, torch.tensor([1.0, 0, 0]).expand(2, TOKENS, 3))

    def empty(volume, rays, samples):
        return FieldSamples(torch.zeros_like(samples.t_starts))

    rendered = VolumeRenderer(empty, Even(grid, 2, near=0.0))(torch.zeros(2, 1, 1, 1, 1), rays, SEEDS)
    moved = rendered.along.samples.t_starts[..., 1]
    plain = uniform_positions(torch.ones(2, TOKENS), torch.full((2, TOKENS), 2.0), 2, SEEDS).mean(-1)
    assert moved.std() > 0.1 and correlation(moved, plain) < 4 / 8000**0.5


def test_every_camera_has_its_own_mask():
    candidates = patch_candidates(torch.zeros(12, 3, 64, 96), 8)
    masks = RandomMask(0.3)(candidates, ops.per_camera(SEEDS, 6)).flatten(1)
    assert len({tuple(mask.tolist()) for mask in masks}) == 12
    alone = RandomMask(0.3)(candidates[:6], ops.per_camera(SEEDS[1:], 6)).flatten(1)
    assert torch.equal(masks[6:], alone)  # whatever the batch


@pytest.mark.untyped
@pytest.mark.parametrize("seeds", [torch.tensor([7]), torch.zeros(2, 6, dtype=torch.long), torch.tensor(7)])
def test_seeds_for_another_number_of_rows_are_refused(seeds):
    candidates = patch_candidates(torch.zeros(12, 3, 64, 96), 32)
    with pytest.raises(ValueError, match=r"seeds: expected one for each of the 12 rows.*ops\.per_camera"):
        RandomMask(0.3)(candidates, seeds)


@pytest.mark.untyped
def test_seeds_are_whole_numbers():
    with pytest.raises(ValueError, match=r"seeds: expected integers, got torch\.float32"):
        RandomMask(0.3)(CANDIDATES, torch.rand(2))


@pytest.mark.untyped
@pytest.mark.parametrize("wrong", [torch.tensor([7]), torch.tensor([7, 8, 9]), torch.tensor([[7], [8]])])
def test_samplers_refuse_seeds_of_another_batch(wrong):
    near = torch.zeros(2, 5)
    for call in (
        lambda: uniform_positions(near, near + 1, 4, wrong),
        lambda: draw_pixels(torch.ones(2, 1, 4, 4, dtype=torch.bool), (8, 8), 3, wrong),
        lambda: LidarBeams(3)(Batch(("a", "b"), Points.from_table(torch.rand(2, 5, 3)), wrong)),
    ):
        with pytest.raises(ValueError, match=r"seeds: expected \(B\) with B=2, got \("):
            call()


def test_ranks_that_are_seeded_alike_draw_differently(monkeypatch):
    """As ``torchrun`` starts them; the workers of their data loaders know no more of the others."""

    def of_rank(rank):
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(0)
        return ops.draw_seeds(2).tolist()

    assert of_rank("0") != of_rank("1") == of_rank("1") != of_rank("2")


def test_names_are_the_same_number_everywhere():
    """Runs are repeatable across processes and versions: Python's own hash of a text is not."""
    assert ops.fold_in(torch.tensor([1]), "RandomMask").item() == NAMED


NAMED = 7856934417440134266
