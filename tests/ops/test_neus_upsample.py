"""The importance pass: on a wall, in empty space, against a slow loop, the reference and odd inputs."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.ops import has_native, neus_upsample, neus_upsample_reference

FUNCTIONS = [neus_upsample, neus_upsample_reference]


def rays(*batch, samples, dtype=torch.float64, device="cpu"):
    """Sorted positions over ten metres, and distances to a noisy wall somewhere among or behind them."""
    positions = (10 * torch.rand(*batch, samples, dtype=dtype, device=device)).sort(-1).values
    wall = 12 * torch.rand(*batch, 1, dtype=dtype, device=device)
    return positions, wall - positions + 0.1 * torch.randn_like(positions)


def slow_upsample(positions, sdf, inv_s, quantiles):
    """The definition of one ray: NeuS's section opacities, their weights, and a walk along them."""
    logistic = lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0  # noqa: E731
    before, transmittance, weights = 0.0, 1.0, []
    for t0, t1, f0, f1 in zip(positions, positions[1:], sdf, sdf[1:], strict=False):
        slope = (f1 - f0) / (t1 - t0 + 1e-5)
        steep = max(min(slope, before, 0.0), -1e3)
        before = slope
        enter, leave = (logistic(inv_s * ((f0 + f1) / 2 + s * steep * (t1 - t0) / 2)) for s in (-1, 1))
        alpha = (enter - leave + 1e-5) / (enter + 1e-5)
        weights.append(alpha * transmittance + 1e-5)
        transmittance *= 1 - alpha
    added = []
    for u in quantiles:
        left, k = u * math.fsum(weights), 0
        while k < len(weights) - 1 and left >= weights[k]:
            left, k = left - weights[k], k + 1
        added.append(positions[k] + min(left / weights[k], 1.0) * (positions[k + 1] - positions[k]))
    return sorted(positions + added)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_slow_loop_agrees(function, device):
    positions, sdf = rays(15, samples=21, device=device)
    u = torch.rand(15, 8, dtype=torch.float64, device=device)
    for quantiles in (None, u):
        rows = [[(i + 0.5) / 8 for i in range(8)]] * 15 if quantiles is None else u.tolist()
        expected = [
            slow_upsample(t, f, 20.0, row)
            for t, f, row in zip(positions.tolist(), sdf.tolist(), rows, strict=True)
        ]
        got = function(positions, sdf, 20.0, 8, quantiles)
        # Where a section holds only the padding 1e-5, rounding of 1e-16 in the sum moves a quantile by 1e-11.
        assert_close(got.cpu(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_new_positions_gather_at_the_surface(function, device):
    """A wall at 6.1 m: with a sharp field all new positions lie within one coarse step of it."""
    t = torch.linspace(0, 10, 41, device=device).expand(3, 41)
    fine = function(t, 6.1 - t, 50.0, 16)
    assert fine.shape == (3, 57)
    assert (fine[:, 1:] >= fine[:, :-1]).all()
    added = 57 - ((fine[:, :, None] - t[:, None]).abs().min(-1).values < 1e-6).sum(1)
    close = ((fine - 6.1).abs() < 0.25).sum(1)
    assert (added >= 15).all() and (close >= 15).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_empty_ray_is_filled_evenly(function, device):
    t = torch.linspace(0, 10, 41, device=device)
    fine = function(t, torch.full_like(t, 100.0), 50.0, 20).cpu()
    new = torch.tensor(sorted(set(fine.tolist()) - set(t.tolist())))
    # Every section has opacity 1e-5 / (1 + 1e-5) and 1e-5 of padding: quantile (i + 0.5) / 20 of 10 m. The
    # opacity falls by 1e-5 a section, and float32 knows a logistic CDF near one to 6e-8, 0.3 % of this mass.
    assert_close(new, 0.25 + 0.5 * torch.arange(20.0), rtol=0, atol=0.05)


SHAPES = [
    ((), 2, 3),
    ((0,), 4, 2),
    ((5,), 17, 0),
    ((1,), 2, 1),
    ((3,), 16, 40),
    ((2, 60), 72, 24),
    ((9,), 33, 5),
]


@pytest.mark.parametrize(("batch", "samples", "count"), SHAPES)
def test_kernel_equals_reference(batch, samples, count, device):
    positions, sdf = rays(*batch, samples=samples, device=device)
    u = torch.rand(*batch, count, dtype=torch.float64, device=device)
    for quantiles in (None, u):
        got = neus_upsample(positions, sdf, 60.0, count, quantiles)
        expected = neus_upsample_reference(positions, sdf, 60.0, count, quantiles)
        assert_close(got, expected, rtol=0, atol=1e-9)  # as in the slow loop


@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_places_quantiles_where_float64_does(function, device):
    positions, sdf = rays(500, samples=72, dtype=torch.float32, device=device)
    exact = neus_upsample_reference(positions.double(), sdf.double(), 60.0, 24)
    error = (function(positions, sdf, 60.0, 24).double() - exact).abs()
    # 1e-7 in a sum of one is 1 % of a section that holds only its padding of 1e-5, and such a section is up
    # to a metre long; the shares of the ray that hold its mass are far better placed.
    assert error.max() < 0.05
    assert error.mean() < 1e-5


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_old_positions_stay_and_the_result_is_sorted(function, device):
    positions, sdf = rays(40, samples=30, dtype=torch.float32, device=device)
    merged = function(positions, sdf, 1e4, 50)
    assert (merged[:, 1:] >= merged[:, :-1]).all()
    for old, new in zip(positions.tolist(), merged.tolist(), strict=True):
        rest = list(new)
        for t in old:
            rest.remove(t)
        assert len(rest) == 50


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_last_quantiles_are_the_end_of_the_ray(function, device):
    positions, sdf = rays(6, samples=9, device=device)
    ends = function(positions, sdf, 10.0, 3, torch.tensor([1.0, 0.0, 2.0], device=device).expand(6, 3))
    assert_close(ends[:, -3:], positions[:, -1:].expand(6, 3))
    assert_close(ends[:, 0], ends[:, 1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_equal_positions_and_infinite_distances_give_finite_results(function, device):
    positions = torch.tensor([[1.0, 1.0, 1.0, 2.0, 2.0]], device=device)
    for distance in (0.0, 1e30, -1e30, math.inf, -math.inf, math.nan):
        merged = function(positions, torch.full_like(positions, distance), 64.0, 7)
        assert ((merged >= 1) & (merged <= 2)).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_behind_a_nan_has_mass(function, device):
    positions = torch.linspace(0, 10, 11, device=device)
    sdf = torch.full((11,), 5.0, device=device)
    sdf[4] = math.nan
    new = set(function(positions, sdf, 9.0, 20).tolist()) - set(positions.tolist())
    assert len(new) == 20 and max(new) < 3.0


def test_memory_may_have_any_order_and_address(device):
    positions, sdf = rays(12, samples=20, dtype=torch.float32, device=device)
    expected = neus_upsample(positions, sdf, 30.0, 10)
    assert torch.equal(neus_upsample(positions.T.contiguous().T, sdf.T.contiguous().T, 30.0, 10), expected)
    shifted = torch.cat([positions.new_zeros(1), positions.flatten()])[1:].view(12, 20)
    assert torch.equal(neus_upsample(shifted, sdf, 30.0, 10), expected)


@pytest.mark.skipif(not has_native("cpu"), reason="looks at the compiled kernels")
def test_a_ray_does_not_depend_on_its_neighbours_nor_on_threads(threads):
    positions, sdf = rays(301, samples=40, dtype=torch.float32)
    results = [neus_upsample(positions[7:8], sdf[7:8], 30.0, 10)]
    for count in (1, 2, 4):
        threads(count)
        results.append(neus_upsample(positions, sdf, 30.0, 10))
    assert torch.equal(results[0], results[1][7:8])
    assert torch.equal(results[1], results[2]) and torch.equal(results[1], results[3])


def test_a_quantile_that_is_nan_counts_as_zero(device):
    positions = torch.linspace(1.0, 2.0, 6, device=device).expand(2, 6)
    sdf = 1.5 - positions
    u = torch.tensor([[0.7, torch.nan, 0.2], [0.9, 0.1, 0.4]], device=device)
    found = neus_upsample(positions, sdf, 40.0, 3, u)
    assert torch.equal(found, neus_upsample(positions, sdf, 40.0, 3, u.nan_to_num(0.0)))
    assert torch.equal(found, found.sort(-1).values)


def test_there_is_no_gradient():
    positions, sdf = rays(3, samples=5)
    assert not neus_upsample(positions.requires_grad_(), sdf.requires_grad_(), 9.0, 4).requires_grad


@pytest.mark.untyped
def test_errors_name_the_argument():
    t = torch.zeros(2, 5)
    with pytest.raises(ValueError, match=r"positions: expected at least two on a ray, got \(2, 1\)"):
        neus_upsample(t[:, :1], t[:, :1], 1.0, 4)
    with pytest.raises(ValueError, match=r"sdf: expected the shape of positions \(2, 5\), got \(5,\)"):
        neus_upsample(t, t[0], 1.0, 4)
    with pytest.raises(ValueError, match="count: expected at least zero, got -1"):
        neus_upsample(t, t, 1.0, -1)
    with pytest.raises(ValueError, match=r"u: expected \(2, 3\), got \(3,\)"):
        neus_upsample(t, t, 1.0, 3, t[0, :3])
