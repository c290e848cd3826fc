import torch
from torch.testing import assert_close

from renderpretrain.samplers import uniform_positions


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
