"""Terms against collapse: each against a slow statement, on features that are spread and that are not."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import losses
from renderpretrain.losses.collapse import _unit_vectors

SEEDS = torch.arange(3)
ALL = torch.ones(3, 40, dtype=torch.bool)


def rows(seed=0, shape=(3, 40, 6)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_variance_and_covariance_against_loops():
    x, valid = rows() + 0.5, torch.rand(3, 40) < 0.7
    weights = torch.rand(3, 40)
    hinge = covariance = 0.0
    for b in range(3):
        kept = [(x[b, m], weights[b, m].item()) for m in range(40) if valid[b, m]]
        total = sum(w for _, w in kept)
        unit = [(v / math.sqrt(float(v @ v) + 1e-6), w / total) for v, w in kept]
        for c in range(6):
            mean = sum(w * v[c].item() for v, w in unit)
            variance = sum(w * (v[c].item() - mean) ** 2 for v, w in unit)
            hinge += max(0.0, 1 / math.sqrt(6) - math.sqrt(variance + 1e-4)) / 18
        means = [sum(w / total * v[c].item() for v, w in kept) for c in range(6)]

        def together(c, d, kept=kept, means=means, total=total):
            return sum(w / total * (v[c].item() - means[c]) * (v[d].item() - means[d]) for v, w in kept)

        for c in range(6):
            for d in range(6):
                scale = (together(c, c) + 1e-4) * (together(d, d) + 1e-4)
                covariance += together(c, d) ** 2 / scale / 18 if c != d else 0.0
    assert losses.variance_hinge(x.float(), valid, weights).item() == pytest.approx(hinge, rel=1e-4)
    assert losses.covariance_penalty(x.float(), valid, weights).item() == pytest.approx(covariance, rel=1e-4)


def test_sigreg_is_the_integral_by_fine_quadrature():
    x = rows()
    directions = _unit_vectors(torch.ops.renderpretrain.fold_in(SEEDS, [0]), 6, 4)
    assert_close(directions.norm(dim=1), torch.ones(3, 4))
    found = losses.sigreg(x.float(), ALL, SEEDS, slices=32, knots=301).item()
    assert found == pytest.approx(losses.sigreg(x.float(), ALL, SEEDS, slices=32).item(), rel=2e-3)
    # In one dimension a direction is a sign, which the integral does not see.
    line = x[..., :1] * 1.7
    t = torch.linspace(-3, 3, 2001, dtype=torch.float64)
    wave = torch.exp(1j * t * line).mean(1)
    integrand = (wave - (-t.square() / 2).exp()).abs().square() * (-t.square() / 2).exp()
    expected = 40 * torch.trapezoid(integrand, t).mean().item()
    # The rule's own error at 17 knots, of an integrand that does not vanish at the ends.
    assert losses.sigreg(line.float(), ALL, SEEDS, slices=3).item() == pytest.approx(expected, rel=5e-3)


def test_sigreg_of_normal_features_is_one_and_of_collapsed_ones_their_number():
    many = rows(shape=(16, 500, 8)).float()
    valid = torch.ones(16, 500, dtype=torch.bool)
    bound = math.sqrt(2 * math.pi) * math.erf(3 / math.sqrt(2))
    null = bound - math.sqrt(2 * math.pi / 3) * math.erf(3 * math.sqrt(1.5))
    # 0.3: four standard deviations of the mean over 16 samples with 8 directions that are independent.
    found = losses.sigreg(many, valid, torch.arange(16), slices=128)
    assert found.item() == pytest.approx(null, abs=0.3)
    at_zero = bound - 2 * math.sqrt(math.pi) * math.erf(3) + math.sqrt(2 * math.pi / 3)
    nothing = losses.sigreg(0 * many, valid, torch.arange(16), slices=4)
    assert nothing.item() == pytest.approx(500 * at_zero, rel=5e-3)
    thin = many.clone()
    thin[..., 1:] = 0
    assert losses.sigreg(thin, valid, torch.arange(16), slices=128) > 20


def test_spread_features_pay_nothing_and_collapsed_ones_what_is_said():
    many, valid = rows(shape=(2, 4000, 16)).float(), torch.ones(2, 4000, dtype=torch.bool)
    assert losses.variance_hinge(many, valid) < 0.004  # the spread of 4000 draws
    assert losses.covariance_penalty(many, valid) < 0.01
    same = many[:, :1].expand_as(many)
    assert losses.variance_hinge(same, valid).item() == pytest.approx(1 / 4 - 0.01, abs=1e-4)
    copies = many[..., :1].expand_as(many)
    assert losses.covariance_penalty(copies, valid).item() == pytest.approx(15, rel=1e-3)
    assert_close(
        losses.covariance_penalty(1e2 * many, valid),
        losses.covariance_penalty(many, valid),
        rtol=1e-3,
        atol=0,
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_where_nothing_varies(value):
    x = torch.full((3, 40, 6), value, requires_grad=True)
    terms = [
        losses.variance_hinge(x, ALL),
        losses.covariance_penalty(x, ALL),
        losses.sigreg(x, ALL, SEEDS, slices=8),
    ]
    sum(terms).backward()
    assert x.grad.isfinite().all()


def test_descent_spreads_what_had_collapsed():
    """Rank one and a little noise: after some steps features use all directions."""
    start = torch.rand(1, 200, 1) * torch.ones(6) + 1e-3 * torch.randn(1, 200, 6)
    valid = torch.ones(1, 200, dtype=torch.bool)
    before = torch.linalg.svdvals(start[0])
    for term in (
        lambda x: losses.variance_hinge(x, valid) + losses.covariance_penalty(x, valid),
        lambda x: losses.sigreg(x, valid, SEEDS[:1], slices=64),
    ):
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.05)
        for _ in range(150):
            optimizer.zero_grad()
            term(x).backward()
            optimizer.step()
        spectrum = torch.linalg.svdvals(x[0].detach())
        assert spectrum[-1] > 0.1 * spectrum[0] > 50 * before[-1]


def test_directions_come_from_the_seeds_alone():
    x = rows().float()
    one = losses.sigreg(x, ALL, SEEDS, slices=4)
    torch.rand(5)
    assert torch.equal(one, losses.sigreg(x, ALL, SEEDS, slices=4))
    assert not torch.equal(one, losses.sigreg(x, ALL, SEEDS + 1, slices=4))


@pytest.mark.untyped
def test_unfit_arguments_are_named():
    x = rows().float()
    with pytest.raises(ValueError, match=r"^slices, knots, t_max: expected .* got 0, 17 and 3"):
        losses.sigreg(x, ALL, SEEDS, slices=0)
    with pytest.raises(ValueError, match=r"^valid: expected \(B M\)"):
        losses.variance_hinge(x, ALL[:, :3])
    with pytest.raises(ValueError, match=r"^features: expected floating"):
        losses.covariance_penalty(x.int(), ALL)
