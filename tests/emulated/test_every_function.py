"""Runs last under ``pytest -p emulated_cuda`` and looks back: no kernel was left out."""

import re
import sys
from pathlib import Path

import pytest

HEADER = Path(__file__).parents[2] / "csrc" / "renderpretrain.h"
emulated = sys.modules.get("emulated_cuda")


@pytest.mark.skipif(emulated is None, reason="looks back at the tests of 'make test-cuda-emulated'")
def test_every_function_of_the_cuda_library_has_run():
    declared = set(re.findall(r"\brp_(\w+)_cuda\(", HEADER.read_text())) - {"has_code"}
    assert declared - set(emulated.CALLS) == set() and len(declared) > 30
