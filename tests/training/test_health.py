"""What is said of features, against matrices whose answer is known and against singular values."""

from dataclasses import asdict

import pytest
import torch

from renderpretrain.training import feature_health
from renderpretrain.training.health import FeatureSums, some_rows


def normal(rows, channels, seed=0):
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(seed))


def rankme(rows):
    """As published: the singular values of the matrix itself."""
    singular = torch.linalg.svdvals(rows.double())
    shares = singular / singular.sum() + 1e-7
    return float((-(shares * shares.log()).sum()).exp())


def rows_of_covariance(deviations):
    """Rows about 0 whose covariance is diagonal, exactly: each direction with both signs."""
    scaled = torch.diag(torch.as_tensor(deviations, dtype=torch.float32))
    return torch.cat([scaled, -scaled])


@pytest.mark.parametrize(
    ("rows", "rank", "variances"),
    [
        (rows_of_covariance([1.0] * 6), 6, [1 / 6] * 6),
        (rows_of_covariance([2.0, 0, 0, 0]), 1, [1, 0, 0, 0]),
        (rows_of_covariance([0, 3.0, 0, 3.0]), 2, [0.5, 0.5, 0, 0]),
        (torch.full((5, 3), 2.0), 1, [0, 0, 0]),  # a constant says nothing
        (torch.zeros(4, 3), 0, [0, 0, 0]),
        (torch.ones(1, 1), 1, [0]),
    ],
)
def test_known_covariances(rows, rank, variances):
    health = feature_health(rows)
    assert (health.rows, health.channels) == rows.shape
    # What is added to each singular value counts 1e-7 * log(1e7) for each direction.
    assert health.rank == pytest.approx(rank, abs=1e-4)
    assert health.variances == pytest.approx(variances, abs=1e-12)
    assert health.variance_in(1) == pytest.approx(variances[0])
    assert health.variance_in(99) == pytest.approx(sum(variances))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_sums_of_products_say_what_singular_values_say(shift):
    rows = normal(500, 12) @ normal(12, 12, seed=1) * torch.logspace(0, -3, 12) + shift
    health = feature_health(rows)
    assert health.rank == pytest.approx(rankme(rows), rel=1e-6)
    singular = torch.linalg.svdvals(rows.double() - rows.double().mean(0)) ** 2
    assert health.variances == pytest.approx((singular / singular.sum()).tolist(), rel=1e-6, abs=1e-12)
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    spread = rows.double().std(0, correction=0)
    assert health.std == pytest.approx(spread.quantile(levels).tolist(), rel=1e-9)
    unit = rows.double() / rows.double().norm(dim=1, keepdim=True)
    expected = 12**0.5 * unit.std(0, correction=0)
    assert health.unit_std == pytest.approx(expected.quantile(levels).tolist(), rel=1e-6)


def test_directions_alike_have_a_spread_of_1_and_one_direction_none():
    rows = normal(20_000, 16)
    assert feature_health(rows).unit_std == pytest.approx((1, 1, 1), abs=0.02)  # of 20 000 draws
    assert feature_health(rows.abs() + 1000).unit_std == pytest.approx((0, 0, 0), abs=1e-2)


def test_channels_that_do_not_vary_are_dead_whatever_they_hold():
    rows = normal(100, 8)
    rows[:, :2], rows[:, 2] = 0.0, 7.0
    assert feature_health(rows).dead == 3 / 8
    assert feature_health(1e-6 * rows).dead == 3 / 8  # small features are no dead ones
    assert feature_health(torch.full((9, 4), 3.0) + 1e-5 * normal(9, 4)).dead == 1


def test_sums_of_parts_add_up():
    rows = normal(300, 5) + 2
    parts = FeatureSums.of(rows[:7]) + FeatureSums.of(rows[7:])
    whole = asdict(feature_health(rows))
    for name, value in asdict(parts.health()).items():
        assert value == pytest.approx(whole[name], rel=1e-9), name


def test_rows_are_chosen_alike_and_none_that_is_empty():
    rows = normal(1000, 3)
    rows[::2] = 0
    chosen = some_rows(rows, most=100)
    assert chosen.shape == (100, 3) and torch.equal(chosen, some_rows(rows, most=100))
    assert (chosen != 0).any(1).all() and len(chosen.unique(dim=0)) == 100
    assert torch.equal(some_rows(rows), rows[1::2])
    assert some_rows(torch.zeros(9, 3), most=4).shape == (4, 3)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.zeros(0, 3), r"rows: expected at least one row and one channel, got shape \(0, 3\)"),
        (torch.tensor([[1.0, float("nan")]]), "rows: expected finite numbers"),
        (torch.tensor([[1.0, float("inf")]]), "rows: expected finite numbers"),
        (torch.zeros(2, 3, 4), r"rows: expected \(M C\), got \(2, 3, 4\)"),
    ],
)
@pytest.mark.untyped
def test_what_is_no_matrix_of_features_is_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        feature_health(rows)
