import pytest
import torch
from torch.testing import assert_close

from renderpretrain import Rays, RaySamples


def test_rays_are_metres():
    rays = Rays.through(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 3.0, 4.0]]))
    assert_close(rays.at(torch.tensor([[5.0]])), torch.tensor([[[1.0, 3.0, 4.0]]]))


def test_a_ray_to_its_own_origin_is_no_nan():
    assert not Rays.through(torch.zeros(1, 3), torch.zeros(1, 3)).directions.isnan().any()


def test_intervals_tile_the_range_with_borders_half_way():
    t = torch.tensor([1.0, 2.0, 4.0])
    samples = RaySamples.around(t, torch.tensor(0.0), torch.tensor(5.0), torch.ones(3, dtype=torch.bool))
    assert_close(samples.t_starts, torch.tensor([0.0, 1.5, 3.0]))
    assert_close(samples.t_ends, torch.tensor([1.5, 3.0, 5.0]))
    assert_close(samples.deltas.sum(), torch.tensor(5.0))


@pytest.mark.untyped
def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        Rays(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="one shape"):
        RaySamples(torch.zeros(2), torch.zeros(2), torch.ones(3, dtype=torch.bool))


def test_even_bins_run_from_edge_to_edge():
    bins = RaySamples.even(1.0, 3.0, 4)
    assert_close(bins.t_starts, torch.tensor([1.0, 1.5, 2.0, 2.5]))
    assert_close(bins.t_ends, torch.tensor([1.5, 2.0, 2.5, 3.0]))
    assert bins.valid.all()
    with pytest.raises(
        ValueError, match=r"near, far, count: expected near < far and at least 1, got 1\.0, 3\.0, 0"
    ):
        RaySamples.even(1.0, 3.0, 0)
