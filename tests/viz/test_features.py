"""Features as colours: by hand, on features that they were not fitted on, and with outliers."""

import pytest
import torch
from torch.testing import assert_close

from renderpretrain.viz import feature_colors


def spread(count=800):
    """Features that vary by 10, 3 and 1 along three of five channels, and evenly."""
    rows = torch.zeros(count, 5)
    for column, width in ((3, 10.0), (0, 3.0), (1, 1.0)):
        rows[:, column] = width * torch.rand(count)
    return rows


def test_the_widest_direction_is_red_then_green_then_blue():
    rows = spread()
    colors = feature_colors(rows)(rows)
    for channel, column in enumerate((3, 0, 1)):
        order = rows[:, column].argsort()
        # Directions of random rows are nearly the axes: ranks agree but for neighbours.
        correlation = torch.corrcoef(torch.stack([rows[:, column], colors[:, channel]]))[0, 1]
        assert correlation > 0.98, (channel, float(correlation))
        assert colors[order[0], channel] < 0.1 and colors[order[-1], channel] > 0.9


def test_a_fit_colours_other_features_by_the_same_rule():
    rows = spread()
    colors = feature_colors(rows)
    assert_close(colors(rows[:7]), colors(rows)[:7])
    assert_close(colors(rows.view(4, 200, 5)), colors(rows).view(4, 200, 3))
    assert_close(colors(colors.mean + 1e6 * colors.axes[0])[0], torch.tensor(1.0))


def test_one_feature_a_thousand_times_the_others_leaves_their_colours():
    rows = spread()
    odd = torch.cat([rows, 1e4 * torch.ones(1, 5)])
    # One row of 801 moves the quantiles by a rank and turns the axes a bit: some thousandths.
    assert_close(feature_colors(odd)(rows), feature_colors(rows)(rows), atol=0.03, rtol=0)


def test_features_that_do_not_vary_are_grey_and_bad_ones_black():
    colors = feature_colors(torch.ones(5, 4))
    assert_close(colors(torch.ones(4)), torch.full((3,), 0.5))
    assert_close(colors(torch.full((4,), torch.nan)), torch.zeros(3))
    narrow = feature_colors(torch.tensor([[0.0], [1.0], [torch.inf]]))  # one channel
    assert_close(narrow(torch.tensor([1.0])), torch.tensor([1.0, 0.5, 0.5]))


@pytest.mark.untyped
def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="features: expected at least 2 finite rows, got 1 of 2"):
        feature_colors(torch.tensor([[1.0, 2.0], [torch.nan, 0.0]]))
