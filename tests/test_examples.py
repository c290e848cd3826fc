"""Every example runs to its end and does what its first comment says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close

from renderpretrain.transfer import load_encoders

ROOT = Path(__file__).resolve().parent.parent


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_minimal_learns():
    losses = [float(v) for v in re.findall(r"loss ([\d.]+)", run("minimal.py"))]
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])  # seeded; twenty steps from scratch


def test_custom_mask_hides_what_is_far():
    out = run("custom_mask.py")
    # Blocks are 3.2 m wide: a voxel can lie half a diagonal beyond its block's centre.
    assert float(re.search(r"farthest visible voxel: ([\d.]+)", out)[1]) < 20 + 3.2 * 2**0.5 / 2


@pytest.mark.slow
def test_custom_field_finds_the_ball():
    assert float(re.search(r"depth error ([\d.]+)", run("custom_field.py"))[1]) < 0.5


@pytest.mark.slow
def test_own_data_leaves_encoders(tmp_path):
    out = run("unipad_own_data.py", tmp_path)
    assert "problem" not in out
    encoders = load_encoders(tmp_path / "encoders.safetensors")
    trained = load_encoders(tmp_path / "run")
    for name, encoder in encoders.items():
        assert_close(encoder.state_dict(), trained[name].state_dict(), rtol=0, atol=0)
    assert "depth_abs_rel" in out


def test_there_is_a_test_for_every_example():
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert tested == {path.name for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.slow
def test_the_readmes_loop_runs():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    exec(compile(code.replace("num_scenes=20", "num_scenes=2"), "README.md", "exec"), {})
