"""nerfacc's packed samples and occupancy grids, there and back, and what both sides make of them."""

import sys

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, RaySamples, VoxelGrid, ops
from renderpretrain.samplers import Occupied
from renderpretrain.samplers.nerfacc import from_estimator, from_packed, to_estimator, to_packed

GRID = VoxelGrid((-4, -2, -1, 4, 2, 1), (1, 0.5, 0.5))


@pytest.fixture
def samples():
    """Three rays in each of two examples, some without a sample, slots filled from the front."""
    starts = torch.arange(5.0) + torch.rand(2, 3, 5).cumsum(-1)
    valid = torch.arange(5) < torch.tensor([[5, 0, 2], [1, 3, 0]])[..., None]
    return RaySamples(*(torch.where(valid, t, 0.0) for t in (starts, starts + 0.5)), valid)


def nerfacc():
    return pytest.importorskip("nerfacc", reason="nerfacc is not installed", exc_type=Exception)


def test_packed_samples_come_back_as_they_were(samples):
    packed = to_packed(samples)
    assert packed.ray_indices.tolist() == [0] * 5 + [2] * 2 + [3] + [4] * 3
    assert_close(packed.t_starts, samples.t_starts[samples.valid], rtol=0, atol=0)
    back = from_packed(*packed, rays=(2, 3))
    for name in ("t_starts", "t_ends", "valid"):
        assert_close(getattr(back, name), getattr(samples, name), rtol=0, atol=0)


def test_a_ray_with_more_samples_than_slots_keeps_the_first(samples):
    few = from_packed(*to_packed(samples), rays=(2, 3), capacity=2)
    assert few.valid.sum(-1).tolist() == [[2, 0, 2], [1, 2, 0]]
    assert_close(few.t_starts, samples.t_starts[..., :2], rtol=0, atol=0)
    none = from_packed(torch.zeros(0, dtype=torch.long), torch.zeros(0), torch.zeros(0), rays=(4,))
    assert none.t_starts.shape == (4, 0)


def test_gradients_pass_both_ways(samples):
    starts = samples.t_starts.clone().requires_grad_()
    packed = to_packed(RaySamples(starts, samples.t_ends, samples.valid))
    from_packed(*packed, rays=(2, 3)).t_starts.square().sum().backward()
    assert_close(starts.grad, torch.where(samples.valid, 2 * starts.detach(), 0.0))


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ray_indices": torch.tensor([1, 0])}, "ray_indices: expected indices that rise"),
        ({"ray_indices": torch.tensor([0, 9])}, "ray_indices: expected rays from 0 to 2, got 0 to 9"),
        ({"t_starts": torch.zeros(3)}, "t_starts: "),
        ({"capacity": 0}, "capacity: expected at least 1, got 0"),
    ],
)
def test_what_is_no_packed_list_is_one_line(change, said):
    given = {"ray_indices": torch.tensor([0, 1]), "t_starts": torch.zeros(2), "t_ends": torch.ones(2)}
    with pytest.raises(ValueError, match=said):
        from_packed(**given | change, rays=(3,))


def test_nerfacc_accumulates_the_list_to_what_we_accumulate_densely(samples):
    library, packed = nerfacc(), to_packed(samples)
    weights, values = torch.rand(2, 3, 5), torch.rand(2, 3, 5, 4)
    theirs = library.accumulate_along_rays(
        weights[samples.valid], values[samples.valid], packed.ray_indices, n_rays=6
    )
    assert_close(ops.accumulate(weights * samples.valid, values).flatten(0, 1), theirs)


def test_an_estimator_that_learned_a_ball_is_marched_through_on_a_cpu():
    library = nerfacc()
    estimator = library.OccGridEstimator([-4, -2, -1, 4, 2, 1], [8, 8, 4]).train()
    ball = lambda x: (x.norm(dim=-1, keepdim=True) < 1).float()  # noqa: E731
    for step in range(4):  # it warms up on all cells, whose random points may miss the ball
        estimator.update_every_n_steps(step, ball, occ_thre=0.1, n=1)
    grid, occupied = from_estimator(estimator)
    assert grid == GRID and 0 < occupied.sum() < occupied.numel() / 2
    assert occupied[2, 4, 4] and not occupied[:, :, 0].any()
    rays = Rays(torch.tensor([[[-6.0, 0.1, 0.1], [-6.0, 1.9, 0.1]]]), torch.tensor([[[1.0, 0, 0]] * 2]))
    found = Occupied(grid, occupied[None], step=0.25)(torch.zeros(1, 1, *grid.shape), rays)
    hit, past = found.valid[0]
    assert hit.any() and not past.any()
    # Nothing is looked for beyond the voxels that the ball touches.
    assert (rays.at(found.t_mids)[0, 0, hit, 0].abs() < 1 + 1).all()


def test_voxels_become_an_estimator_and_come_back():
    nerfacc()
    occupied = torch.rand(GRID.shape) < 0.3
    estimator = to_estimator(GRID, occupied)
    assert tuple(estimator.binaries.shape) == (1, 8, 8, 4)
    grid, back = from_estimator(estimator)
    assert grid == GRID and torch.equal(back, occupied)
    with pytest.raises(ValueError, match="level: expected 0 to 0, got 1"):
        from_estimator(estimator, 1)


@pytest.mark.untyped
def test_what_is_no_grid_of_voxels_is_one_line(monkeypatch):
    with pytest.raises(
        ValueError, match=r"occupied: expected \(4, 8, 8\) as the grid has it, got \(2, 2, 2\)"
    ):
        to_estimator(GRID, torch.zeros(2, 2, 2, dtype=torch.bool))
    monkeypatch.setitem(sys.modules, "nerfacc", None)
    with pytest.raises(ValueError, match=r'to_estimator: needs pip install "renderpretrain\[nerfacc\]"'):
        to_estimator(GRID, torch.zeros(GRID.shape, dtype=torch.bool))
