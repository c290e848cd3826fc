"""Drawing from a histogram: on paper, against a slow loop, an analytic inverse and the reference."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.ops import resample, resample_reference

FUNCTIONS = [resample, resample_reference]


def histograms(*batch, bins, dtype=torch.float64, device="cpu"):
    """Sorted edges, and masses of which a third are zero; the last row of several has none at all."""
    edges = torch.rand(*batch, bins + 1, dtype=dtype, device=device).cumsum(-1)
    weights = torch.rand(*batch, bins, dtype=dtype, device=device)
    weights = torch.where(torch.rand_like(weights) < 0.33, 0.0, weights)
    if batch and batch[-1] > 1:
        weights[..., -1, :] = 0.0
    return edges, weights


def slow_quantile(edges, weights, u):
    """The definition: walk along the bins with mass until u of the mass lies behind."""
    weights = weights if sum(weights) > 0 else [1.0] * len(weights)
    bins = [(lo, hi, w) for lo, hi, w in zip(edges, edges[1:], weights, strict=False) if w > 0]
    left = u * math.fsum(weights)
    for low, high, mass in bins:
        if left < mass:
            return low + left / mass * (high - low)
        left -= mass
    return bins[-1][1]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_by_hand(function, device):
    edges = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, 6.0], device=device)
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], device=device)
    u = torch.tensor([0.0, 0.125, 0.25, 0.5, 1.0, 0.625], device=device)
    # The quarter ends bin 1; bin 2 is empty, so it belongs to the start of bin 3. No u leads beyond 5.
    assert_close(function(edges, weights, u).cpu(), torch.tensor([1.0, 1.5, 3.0, 3 + 2 / 3, 5.0, 4.0]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_mass_all_bins_have_the_same(function, device):
    edges, zeros = torch.tensor([0.0, 1.0, 3.0], device=device), torch.zeros(2, device=device)
    u = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], device=device)
    assert_close(function(edges, zeros, u).cpu(), torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0]))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_slow_loop_agrees(function):
    edges, weights = histograms(20, bins=9)
    u = torch.rand(20, 30, dtype=torch.float64)
    u[:, 0], u[:, 1] = 0.0, 1.0
    expected = [
        [slow_quantile(e, w, q) for q in row]
        for e, w, row in zip(edges.tolist(), weights.tolist(), u.tolist(), strict=True)
    ]
    assert_close(function(edges, weights, u), torch.tensor(expected, dtype=torch.float64))


def test_the_inverse_of_a_linear_density_is_a_root():
    # Density 2 t on [0, 1] has the CDF t^2 and the quantiles sqrt(u); 1000 bins follow it to a quarter bin.
    edges = torch.linspace(0, 1, 1001, dtype=torch.float64)
    u = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    assert_close(resample(edges, edges[1:] + edges[:-1], u), u.sqrt(), rtol=0, atol=2.5e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("batch", "bins", "count"), [((), 1, 3), ((0,), 4, 2), ((5,), 7, 0), ((2, 60), 96, 24)]
)
def test_kernel_equals_reference(batch, bins, count, dtype, device):
    edges, weights = histograms(*batch, bins=bins, dtype=dtype, device=device)
    u = torch.rand(*batch, count, dtype=dtype, device=device)
    assert_close(resample(edges, weights, u), resample_reference(edges, weights, u))


def test_quantiles_may_be_expanded_and_come_back_in_their_order(device):
    edges, weights = histograms(4, bins=6, device=device)
    u = torch.linspace(1, 0, 5, dtype=torch.float64, device=device)
    drawn = resample(edges, weights, u.expand(4, 5))
    assert_close(drawn, resample(edges, weights, u.flip(0).expand(4, 5)).flip(-1))
    assert (drawn[:, 1:] <= drawn[:, :-1]).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_quantile_leaves_the_bins_with_mass(function, device):
    edges = torch.arange(9.0, device=device)
    weights = torch.tensor([0.0, 1e-30, 0.0, 1.0, 0.0, 1e30, math.nan, -1.0], device=device)
    u = torch.tensor([-0.5, 0.0, 1e-7, 1 - 1e-7, 1.0, 1.5], device=device)
    drawn = function(edges, weights, u).cpu()
    assert drawn[:2].tolist() == [1.0, 1.0]
    assert drawn[4:].tolist() == [6.0, 6.0]
    assert ((drawn[2:4] >= 5) & (drawn[2:4] <= 6)).all()


def test_there_is_no_gradient():
    edges, weights = histograms(3, bins=4)
    assert not resample(edges.requires_grad_(), weights.requires_grad_(), torch.rand(3, 2)).requires_grad


@pytest.mark.untyped
def test_errors_name_the_argument():
    edges, weights, u = torch.zeros(2, 5), torch.zeros(2, 4), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"edges: expected \(2, 5\), one more than weights, got \(2, 4\)"):
        resample(weights, weights, u)
    with pytest.raises(ValueError, match=r"u: expected \(2, 'n'\), got \(3,\)"):
        resample(edges, weights, u[0])
    with pytest.raises(ValueError, match=r"weights: expected at least one bin, got \(2, 0\)"):
        resample(edges[:, :1], weights[:, :0], u)
