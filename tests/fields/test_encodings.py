"""Fourier features: the published formula, their width and their errors."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from renderpretrain.fields import encoded_channels, frequency_encoding


@pytest.mark.parametrize("include_input", [True, False])
def test_it_is_the_published_formula(include_input):
    x = torch.rand(2, 5, 3, dtype=torch.float64) * 2 - 1
    encoded = frequency_encoding(x, 4, include_input=include_input)
    assert encoded.shape[-1] == encoded_channels(3, 4, include_input=include_input) == 24 + 3 * include_input
    for place in ((0, 0), (1, 4)):
        values = x[place].tolist()
        expected = values if include_input else []
        for octave in range(4):
            for wave in (math.sin, math.cos):
                expected = expected + [wave(2**octave * math.pi * value) for value in values]
        assert_close(encoded[place].tolist(), expected)


def test_it_is_differentiable():
    assert gradcheck(
        lambda x: frequency_encoding(x, 3), torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    )


def test_no_octaves_leave_the_input():
    x = torch.rand(4, 3)
    assert_close(frequency_encoding(x, 0), x)


def test_an_encoding_of_no_width_is_an_error():
    with pytest.raises(ValueError, match="num_frequencies: expected at least 1, got 0"):
        frequency_encoding(torch.rand(4, 3), 0, include_input=False)
    with pytest.raises(ValueError, match="num_frequencies: expected at least 0, got -1"):
        encoded_channels(3, -1)
