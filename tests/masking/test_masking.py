import pytest
import torch
from torch.testing import assert_close

from renderpretrain import ops
from renderpretrain.masking import (
    RandomMask,
    hidden_voxels,
    hide_depth,
    hide_features,
    hide_patches,
    no_mask,
    occupied_blocks,
    patch_candidates,
    returns_per_patch,
    voxel_candidates,
)

SEEDS = torch.tensor([3, 4, 5])


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.8, 1.0])
def test_the_mask_is_a_subset_of_the_asked_size(ratio, device):
    candidates = torch.rand(3, 6, 7, 8, device=device) < 0.4
    mask = RandomMask(ratio)(candidates, SEEDS.to(device))
    assert not (mask & ~candidates).any()
    asked = candidates.flatten(1).sum(1) * ratio
    assert ((mask.flatten(1).sum(1) - asked).abs() <= 0.5).all()


def test_no_candidates_give_an_empty_mask():
    assert not RandomMask(0.8)(torch.zeros(3, 5, dtype=torch.bool), SEEDS).any()


def test_a_samples_mask_does_not_depend_on_its_batch():
    candidates = torch.rand(3, 200) < 0.5
    whole = RandomMask(0.5)(candidates, SEEDS)
    assert torch.equal(whole[1:2], RandomMask(0.5)(candidates[1:2], SEEDS[1:2]))


def test_samples_are_masked_differently():
    mask = RandomMask(0.5)(torch.ones(3, 200, dtype=torch.bool), SEEDS)
    assert not torch.equal(mask[0], mask[1])


def test_manual_seed_rules_without_seeds():
    candidates = torch.ones(2, 50, dtype=torch.bool)
    torch.manual_seed(1)
    first = RandomMask(0.5)(candidates)
    torch.manual_seed(1)
    assert torch.equal(first, RandomMask(0.5)(candidates))


def test_every_token_is_hidden_equally_often():
    seeds = torch.arange(4000)
    share = RandomMask(0.3)(torch.ones(4000, 20, dtype=torch.bool), seeds).float().mean(0)
    # Four standard deviations of a binomial with 4000 draws: 4 sqrt(0.3 * 0.7 / 4000) = 0.029.
    assert_close(share, torch.full((20,), 0.3), rtol=0, atol=0.029)


@pytest.mark.gpu
def test_cpu_and_cuda_hide_the_same():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    candidates = torch.rand(3, 500) < 0.5
    cuda = RandomMask(0.5)(candidates.cuda(), SEEDS.cuda())
    assert torch.equal(cuda.cpu(), RandomMask(0.5)(candidates, SEEDS))


def test_a_ratio_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"ratio: expected a number in \[0, 1\], got 1.5"):
        RandomMask(1.5)


def test_hidden_patches_are_zero_and_the_rest_untouched():
    images = torch.rand(2, 3, 64, 96) + 0.1
    mask = RandomMask(0.5)(patch_candidates(images, 32), SEEDS[:2])
    hidden = hide_patches(images, mask)
    for m in range(2):
        for i in range(2):
            for j in range(3):
                patch = (slice(None), slice(32 * i, 32 * i + 32), slice(32 * j, 32 * j + 32))
                expected = torch.zeros(3, 32, 32) if mask[m, i, j] else images[m][patch]
                assert torch.equal(hidden[m][patch], expected)


def test_an_image_that_patches_do_not_tile_is_refused():
    with pytest.raises(ValueError, match=r"divisible by patch_size=32, got \(60, 96\)"):
        patch_candidates(torch.zeros(1, 3, 60, 96), 32)


def test_voxels_follow_their_block():
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 7], [0, 0, 0, 8], [1, 7, 15, 8]])
    occupied = occupied_blocks(coords, (8, 8, 8), (2, 1, 2, 2))
    assert occupied.nonzero().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 1]]
    mask = torch.zeros_like(occupied)
    mask[0, 0, 0, 0] = True
    assert hidden_voxels(coords, (8, 8, 8), mask).tolist() == [True, True, False, False]


def test_no_mask_hides_nothing():
    assert not no_mask(torch.ones(2, 3, dtype=torch.bool), SEEDS[:2]).any()


def test_forked_seeds_are_independent():
    seeds = torch.arange(20000)
    a, b = ops.uniform(ops.fold_in(seeds, 1), (1,)), ops.uniform(ops.fold_in(seeds, 2), (1,))
    correlation = torch.corrcoef(torch.cat([a, b], 1).T)[0, 1]
    # Four standard deviations of a correlation of 20000 independent pairs: 4 / sqrt(20000) = 0.028.
    assert abs(correlation) < 0.028


def test_a_pixel_space_token_is_tiled_over_the_hidden_patches():
    images = torch.rand(2, 3, 8, 12)
    mask = RandomMask(0.5)(patch_candidates(images, 4), SEEDS[:2])
    token = torch.rand(3, 4, 4)
    hidden = hide_patches(images, mask, token)
    for m in range(2):
        for i in range(2):
            for j in range(3):
                patch = (slice(None), slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4))
                assert torch.equal(hidden[m][patch], token if mask[m, i, j] else images[m][patch])


def test_a_token_of_one_pixel_colours_the_whole_patch_and_learns_from_all_of_it():
    images, token = torch.rand(1, 2, 4, 4), torch.rand(2, 1, 1, requires_grad=True)
    mask = torch.tensor([[[True, False], [False, True]]])
    hidden = hide_patches(images, mask, token)
    assert torch.equal(hidden[0, :, :2, :2], token.detach().expand(2, 2, 2))
    assert torch.equal(hidden[0, :, 2:, :2], images[0, :, 2:, :2])
    hidden.sum().backward()
    assert torch.equal(token.grad, torch.full((2, 1, 1), 8.0))


@pytest.mark.untyped
def test_a_token_that_is_no_patch_is_refused():
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"token: expected \(3, 1, 1\) or \(3, 4, 4\), .*got \(3, 2, 2\)"):
        hide_patches(images, torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(3, 2, 2))


def test_hidden_voxels_keep_their_place_and_get_the_token():
    features, token = torch.rand(5, 4), torch.rand(4, requires_grad=True)
    hidden = torch.tensor([True, False, False, True, False])
    replaced = hide_features(features, hidden, token)
    for row in range(5):
        assert torch.equal(replaced[row], token if hidden[row] else features[row])
    replaced.sum().backward()
    assert torch.equal(token.grad, torch.full((4,), 2.0))


def test_hidden_depth_is_no_measurement_and_the_target_stays():
    depth = torch.rand(3, 6, 8) * (torch.rand(3, 6, 8) < 0.5)
    target = depth.clone()
    mask = RandomMask(0.9)(depth > 0, SEEDS)
    visible = hide_depth(depth, mask)
    assert torch.equal(depth, target)
    assert torch.equal(visible > 0, (target > 0) & ~mask) and not visible[mask].any()


def test_returns_are_counted_in_their_patch():
    pixels = torch.tensor([[[0.0, 0.0], [3.9, 3.9], [4.0, 0.0], [11.9, 7.9], [torch.nan, 1.0]]])
    visible = torch.tensor([[True, True, True, True, False]])
    assert returns_per_patch(pixels, visible, 4, (2, 3)).tolist() == [[[2, 1, 0], [0, 0, 1]]]


def test_voxels_are_listed_per_sample_and_masked_one_by_one():
    batch = torch.tensor([2, 0, 2, 2, 0, 2, 3])
    coords = torch.cat([batch[:, None], torch.randint(99, (7, 3))], 1)
    candidates, places = voxel_candidates(coords, 5)
    assert places.tolist() == [0, 0, 1, 2, 1, 3, 0]
    assert candidates.sum(1).tolist() == [2, 0, 4, 1, 0] and candidates.shape == (5, 4)
    assert torch.equal(candidates, candidates.sort(1, descending=True).values)  # padding comes last
    hidden = RandomMask(0.5)(candidates, torch.arange(5))[batch, places]
    assert [int(hidden[batch == b].sum()) for b in range(5)] == [1, 0, 2, 1, 0]


def test_no_voxels_are_no_candidates():
    candidates, places = voxel_candidates(torch.zeros(0, 4, dtype=torch.int64), 2)
    assert candidates.shape == (2, 0) and len(places) == 0
    assert RandomMask(0.5)(candidates, SEEDS[:2]).shape == (2, 0)
