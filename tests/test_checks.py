import pytest
import torch

from renderpretrain.checks import check_shape

pytestmark = pytest.mark.untyped


def test_sizes_are_returned():
    assert check_shape("x", torch.zeros(2, 5, 3), "B R 3") == {"B": 2, "R": 5}


def test_leading_axes_are_free():
    assert check_shape("x", torch.zeros(2, 5, 3), "... R 3") == {"R": 5}


@pytest.mark.parametrize(
    ("shape", "axes", "sizes", "message"),
    [
        ((2, 7), "B R", {"B": 2, "R": 5}, r"valid: expected \(B R\) with B=2, R=5, got \(2, 7\)"),
        ((2, 3), "B R S", {}, r"valid: expected \(B R S\), got \(2, 3\)"),
        ((2, 3), "N N", {}, r"valid: expected \(N N\), got \(2, 3\)"),
        ((4,), "... S 3", {}, r"got \(4,\)"),
    ],
)
def test_a_wrong_shape_is_named(shape, axes, sizes, message):
    with pytest.raises(ValueError, match=message):
        check_shape("valid", torch.zeros(shape), axes, **sizes)
