"""Volumes of several sensors to one."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.lifters import ConcatFusion, sum_volumes


def test_the_sum_of_volumes():
    volumes = [torch.randn(2, 3, 1, 4, 5) for _ in range(3)]
    assert_close(sum_volumes(volumes), volumes[0] + volumes[1] + volumes[2])
    assert_close(sum_volumes(volumes[:1]), volumes[0])


def test_concatenation_is_bevfusions_convolution():
    """On a BEV map, with the weights of a 2D fuser."""
    flat = torch.nn.Sequential(
        torch.nn.Conv2d(5, 4, 3, padding=1, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
    )
    fuser = ConcatFusion((3, 2), 4, kernel_size=(1, 3, 3))
    state = flat.state_dict()
    fuser.load_state_dict(state | {"0.weight": state["0.weight"][:, :, None]})
    volumes = [torch.randn(2, 3, 1, 6, 5), torch.randn(2, 2, 1, 6, 5)]
    expected = flat(torch.cat(volumes, 1)[:, :, 0])[:, :, None]
    # Sums of 45 products in float32, normalised.
    assert_close(fuser(volumes), expected, rtol=1e-4, atol=1e-5)


def test_a_fused_volume_stays_on_its_grid():
    fuser = ConcatFusion((3, 2), 4)
    volume = fuser([torch.randn(1, 3, 5, 6, 7), torch.randn(1, 2, 5, 6, 7)])
    assert volume.shape == (1, 4, 5, 6, 7)


@pytest.mark.untyped
def test_volumes_that_do_not_fit_are_named():
    one, wide = torch.zeros(1, 3, 2, 4, 4), torch.zeros(1, 2, 2, 4, 8)
    with pytest.raises(
        ValueError, match=r"volumes: expected at least one, all of one \(B, Z, Y, X\), got \[\]"
    ):
        sum_volumes([])
    with pytest.raises(ValueError, match=r"got \[\(1, 2, 4, 4\), \(1, 2, 4, 8\)\]"):
        ConcatFusion((3, 2), 4)([one, wide])
    with pytest.raises(ValueError, match=r"volumes: expected one shape, got \[\(1, 3, 2, 4, 4\), \(1, 2, 2"):
        sum_volumes([one, one[:, :2]])
    with pytest.raises(ValueError, match=r"volumes: expected \(3, 2\) channels, got \(3, 3\)"):
        ConcatFusion((3, 2), 4)([one, one])
    with pytest.raises(ValueError, match=r"kernel_size: expected odd sizes, got \(2, 3, 3\)"):
        ConcatFusion((3,), 4, kernel_size=(2, 3, 3))
