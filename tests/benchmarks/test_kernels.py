"""Every operator has rows, and the command line does what its help says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from renderpretrain import ops

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels.py"
NOT_TIMED = {
    "constant",
    "draw_seeds",
    "fold_in",
    "has_native",
    "native_status",
    "own_seeds",
    "per_camera",
    "uniform",
}


def test_every_operator_is_timed(benchmark_module):
    kernels = benchmark_module("kernels")
    functions = {name for name in ops.__all__ if name[0].islower() and not name.endswith("_reference")}
    assert set(kernels.OPERATORS) == functions - NOT_TIMED | {"sparse_encoder", "small_volume"}
    assert len(kernels.OPERATORS) == len(set(kernels.OPERATORS))


@pytest.mark.long
@pytest.mark.skipif(not ops.has_native("cpu"), reason="nothing to time without the compiled kernels")
def test_both_allocators_give_rows(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--threads", "1", "--only", "box_intersect"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, "--json", str(file)], check=True, env=environment, capture_output=True)
    rows = json.loads(file.read_text())
    assert {row["op"] for row in rows} == {"box_intersect"}
    assert {row["allocator"] for row in rows} == {"default", "tuned"}
    assert {"reference", "torch"} <= {row["peer"] for row in rows}
