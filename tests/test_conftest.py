"""What conftest.py does with the tests as a whole."""

import pytest
import torch


def test_what_needs_a_gpu_is_left_out_where_there_is_none_unless_it_is_asked_for(request):
    """Says something where others were collected, too, as in ``make test``."""
    if torch.cuda.is_available() or "gpu" in request.config.getoption("markexpr"):
        pytest.skip("they are to run")
    assert not [item.nodeid for item in request.session.items if item.get_closest_marker("gpu")]
