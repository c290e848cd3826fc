"""Rays that nothing explains lose their say, in every loss that compares with a measurement."""

import math

import pytest
import torch
from torch.testing import assert_close

from renderpretrain import losses

B, R, S = 3, 9, 5
T = torch.arange(float(S)).expand(B, R, S)

# Losses with weights: the shapes of their inputs behind (B, R), and how they are called.
CASES = {
    "depth_l1": ((), (), losses.depth_l1),
    "depth_l2": ((), (), losses.depth_l2),
    "depth_silog": ((), (), losses.depth_silog),
    "depth_kl": (
        (S,),
        (),
        lambda w, d, v, **k: losses.depth_kl(w, T[: len(w)], T[: len(w)] + 1, 4 * d, v, sigma=0.3, **k),
    ),
    "rgb_l1": ((3,), (3,), losses.rgb_l1),
    "rgb_mse": ((3,), (3,), losses.rgb_mse),
    "free_space": (
        (S,),
        (),
        lambda f, d, v, **k: losses.free_space(f, T[: len(f)], 4 * d, v, truncation=0.5, **k),
    ),
    "near_surface_sdf": (
        (S,),
        (),
        lambda f, d, v, **k: losses.near_surface_sdf(f, T[: len(f)], 4 * d, v, truncation=0.5, **k),
    ),
}


def drawn(name):
    """Two inputs, which rays are valid, and a weight for each."""
    first, second, _ = CASES[name]
    valid = torch.rand(B, R) < 0.8
    return torch.rand(B, R, *first), torch.rand(B, R, *second), valid, torch.rand(B, R)


@pytest.mark.parametrize("name", CASES)
def test_equal_weights_are_no_weights(name):
    x, y, valid, _ = drawn(name)
    loss = CASES[name][2]
    assert torch.equal(loss(x, y, valid, inliers=torch.ones(B, R)), loss(x, y, valid))
    # A common factor cancels, up to its rounding.
    assert_close(loss(x, y, valid, inliers=torch.full((B, R), 0.3)), loss(x, y, valid), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_ray_of_weight_zero_does_not_count(name):
    x, y, valid, weights = drawn(name)
    out, loss = weights < 0.4, CASES[name][2]
    left = loss(x, y, valid, inliers=(~out).float())
    assert_close(left, loss(x, y, valid & ~out), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_ray_of_weight_two_counts_twice(name):
    x, y, valid, _ = drawn(name)
    x, y, valid, loss = x[:1], y[:1], valid[:1], CASES[name][2]
    twice = torch.cat([torch.arange(R), torch.tensor([0, 4])])
    weights = torch.ones(1, R)
    weights[0, [0, 4]] = 2.0
    if name in ("depth_kl", "free_space", "near_surface_sdf"):
        expanded = T[:1, :1].expand(1, R + 2, S)
        repeated = REPEATED[name](x[:, twice], y[:, twice], valid[:, twice], expanded)
    else:
        repeated = loss(x[:, twice], y[:, twice], valid[:, twice])
    assert_close(loss(x, y, valid, inliers=weights), repeated, rtol=1e-5, atol=0)


REPEATED = {
    "depth_kl": lambda w, d, v, t: losses.depth_kl(w, t, t + 1, 4 * d, v, sigma=0.3),
    "free_space": lambda f, d, v, t: losses.free_space(f, t, 4 * d, v, truncation=0.5),
    "near_surface_sdf": lambda f, d, v, t: losses.near_surface_sdf(f, t, 4 * d, v, truncation=0.5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fill", [0.0, math.inf, math.nan])
def test_nothing_believed_or_valid_is_no_loss_and_no_gradient(name, fill):
    x, y, valid, _ = drawn(name)
    loss = CASES[name][2]
    nothing, unknown = torch.zeros_like(valid), torch.full((B, R), fill)
    x = x.requires_grad_()
    for value in (loss(x, y, valid, inliers=torch.zeros(B, R)), loss(x, y, nothing, inliers=unknown)):
        (grad,) = torch.autograd.grad(value, x)
        assert value == 0 and not grad.any()
    # What is not valid may hold any weight.
    mixed = torch.where(valid, 1.0, fill)
    assert torch.equal(loss(x, y, valid, inliers=mixed), loss(x, y, valid))


def test_weights_are_constants():
    x, y, valid, weights = drawn("depth_l1")
    weights.requires_grad_()
    assert not losses.depth_l1(x, y, valid, inliers=weights).requires_grad
    assert not losses.inlier_weights(weights, valid).requires_grad


def slow_weights(residuals, scale, shape):
    """Barron's rho'(r) / r for c = 1, by differences of his equation 8."""
    ranked = sorted(abs(r) for r in residuals)
    c = scale * ranked[(len(ranked) - 1) // 2]

    def rho(x):
        if shape == 0:
            return math.log(x * x / 2 + 1)
        return abs(shape - 2) / shape * ((x * x / abs(shape - 2) + 1) ** (shape / 2) - 1)

    def weight(r):
        x = max(abs(r) / c, 1e-3)
        return (rho(x + 1e-5) - rho(x - 1e-5)) / 2e-5 / x

    return [weight(r) for r in residuals]


@pytest.mark.parametrize("shape", [-2.0, -1, 0, 1.0])
@pytest.mark.parametrize("scale", [1, 3.0])
def test_smooth_weights_are_the_slope_of_barrons_loss(shape, scale):
    residual, valid = 4 * torch.randn(B, R, dtype=torch.float64), torch.rand(B, R) < 0.8
    weights = losses.inlier_weights(residual, valid, scale=scale, shape=shape)
    for b in range(B):
        expected = torch.tensor(
            slow_weights(residual[b][valid[b]].tolist(), scale, shape), dtype=torch.float64
        )
        # 1e-6: the slope by differences.
        assert_close(weights[b][valid[b]], expected, rtol=0, atol=1e-6)
    assert not weights[~valid].any()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.55, 0.9, 1])
def test_trimming_keeps_the_smallest(keep):
    residual, valid = torch.randn(2, 100), torch.rand(2, 100) < 0.7
    valid[1, :] = True
    weights = losses.trimmed_weights(residual, valid, keep=keep)
    for b in range(2):
        sizes = sorted(residual[b][valid[b]].abs().tolist())
        kept = sizes[: math.ceil(round(keep * len(sizes), 6))]
        assert sorted(residual[b][weights[b] == 1].abs().tolist()) == kept
        assert weights[b].sum() == len(kept)


@pytest.mark.parametrize("weigh", [losses.inlier_weights, losses.trimmed_weights])
def test_weights_are_a_samples_own_and_of_its_valid_rays(weigh):
    residual, valid = torch.randn(B, R), torch.rand(B, R) < 0.6
    valid[1] = False
    weights = weigh(torch.where(valid, residual, torch.nan), valid)
    assert not weights[1].any() and ((weights >= 0) & (weights <= 1)).all()
    for b in (0, 2):
        assert torch.equal(weigh(1000 * residual[b : b + 1], valid[b : b + 1])[0] > 0.5, weights[b] > 0.5)
        alone = weigh(residual[b : b + 1, valid[b]], valid[b : b + 1, valid[b]])
        assert torch.equal(alone[0], weights[b][valid[b]])


def test_exact_rays_are_believed_and_no_division_fails():
    weights = losses.inlier_weights(torch.tensor([[0.0, 0.0, 0.0, 2.0]]), torch.ones(1, 4, dtype=torch.bool))
    assert_close(weights, torch.tensor([[1.0, 1.0, 1.0, 0.0]]))


def fitted_wall(weigh, loss):
    """Slope and distance of a wall seen by 400 rays, a tenth of which return too early; its mean error."""
    u = torch.linspace(-1, 1, 400)[None]
    truth = 10 + 3 * u
    wrong = torch.rand(1, 400) < 0.1
    measured = truth + 0.05 * torch.randn(1, 400) - wrong * (2 + 6 * torch.rand(1, 400))
    hit = torch.ones(1, 400, dtype=torch.bool)
    wall = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([wall], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        depth = wall[0] + wall[1] * u
        inliers = weigh(depth - measured, hit) if weigh else None
        optimizer.zero_grad()
        loss(depth, measured, hit, inliers=inliers).backward()
        optimizer.step()
        schedule.step()
    return (wall[0] + wall[1] * u - truth).detach().abs().mean().item()


@pytest.mark.parametrize("weigh", [losses.inlier_weights, losses.trimmed_weights])
@pytest.mark.parametrize("loss", [losses.depth_l2, losses.depth_l1])
def test_a_tenth_of_gross_outliers_costs_less_than_half_with_weights(weigh, loss):
    errors = {}
    for name, weights in (("plain", None), ("robust", weigh)):
        torch.manual_seed(3)
        errors[name] = fitted_wall(weights, loss)
    assert errors["robust"] < 0.5 * errors["plain"]


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r, v: losses.inlier_weights(r, v, scale=0),
            "scale: expected a positive number of medians, got 0",
        ),
        (
            lambda r, v: losses.inlier_weights(r, v, shape=2),
            "shape: expected a finite number below 2, got 2",
        ),
        (lambda r, v: losses.trimmed_weights(r, v, keep=0), r"keep: expected a share in \(0, 1\], got 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.rand(1, 3), torch.ones(1, 3, dtype=torch.bool))
