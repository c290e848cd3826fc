"""The headers of csrc, compiled into a program of their own for every instruction set this processor runs."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [Path(__file__).with_name("headers.cpp"), ROOT / "csrc" / "common" / "parallel_cpu.cpp"]
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-pthread", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
VARIANTS = {
    "optimised": ["-O3"],
    "sanitized": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
RUNS = {"AVX512": ("", "_avx2", "_avx512"), "AVX2": ("", "_avx2")}
LEVELS = RUNS.get(torch.backends.cpu.get_cpu_capability(), ("",))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no compiler: {COMPILER}"),
]


def level_flags():
    """The instruction sets of setup.py, where each has the flags that the libraries are built with."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    named = [
        node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "X86_LEVELS"
    ]
    return ast.literal_eval(named[0].value)


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.strip("_") or "baseline")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_headers_keep_their_promises(level, variant, tmp_path):
    flags = [*FLAGS, *level_flags()[level].split(), *VARIANTS[variant]]
    program, table = tmp_path / "headers", tmp_path / "halves"
    command = [COMPILER, *flags, *map(str, SOURCES), "-o", str(program)]
    for step in (command, [program, table]):
        done = subprocess.run(step, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    found = torch.from_numpy(np.fromfile(table, np.float32)).view(2, 2, 1 << 16)
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    for halves, ways in zip((bits.view(torch.bfloat16), bits.view(torch.float16)), found, strict=True):
        for floats in ways:  # one by one, and sixteen at a time
            expected = halves.float()
            number = ~expected.isnan()
            assert torch.equal(floats.isnan(), ~number)
            assert torch.equal(floats.view(torch.int32)[number], expected.view(torch.int32)[number])
