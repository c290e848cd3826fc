import torch
from torch.testing import assert_close

from renderpretrain.samplers import neus_upsample, uniform_positions


def test_uniform_positions_are_interval_middles():
    t = uniform_positions(torch.tensor([[1.0]]), torch.tensor([[5.0]]), 4)
    assert t.tolist() == [[[1.5, 2.5, 3.5, 4.5]]]


def test_jitter_moves_a_rays_positions_together_and_stays_in_range():
    near, far = torch.full((2, 50), 1.0), torch.full((2, 50), 5.0)
    t = uniform_positions(near, far, 4, torch.tensor([1, 2]))
    offsets = t - uniform_positions(near, far, 4)
    assert_close(offsets, offsets[..., :1].expand_as(offsets))
    assert (t >= 1).all() and (t <= 5).all()
    assert offsets.std() > 0.2  # uniform in [-0.5, 0.5]: 0.29


def test_upsampling_gathers_at_the_surface():
    """A wall at 6 m: with a sharp field all new positions lie within one coarse step of it."""
    t = torch.linspace(0, 10, 41).expand(3, 41)
    fine = neus_upsample(t, 6.1 - t, 50.0, 16)
    assert fine.shape == (3, 57)
    assert (fine[:, 1:] >= fine[:, :-1]).all()
    added = 57 - ((fine[:, :, None] - t[:, None]).abs().min(-1).values < 1e-6).sum(1)
    close = ((fine - 6.1).abs() < 0.25).sum(1)
    assert (added >= 15).all() and (close >= 15).all()


def test_upsampling_an_empty_ray_spreads_evenly():
    t = torch.linspace(0, 10, 41)[None]
    fine = neus_upsample(t, torch.full_like(t, 100.0), 50.0, 20)
    new = torch.tensor(sorted(set(fine[0].tolist()) - set(t[0].tolist())))
    assert (new.diff() < 1.5).all()
