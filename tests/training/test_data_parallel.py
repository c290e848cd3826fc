import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_parallel import short_run

from renderpretrain.training import load_checkpoint, read_rows

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("stand-in", 8), ("unipad-lidar", 2)])
def test_two_processes_are_one_with_twice_the_batch(tmp_path, name, steps):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "data_parallel.py"), str(tmp_path / "two"), "2", name],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(f"[{steps}/{steps}] loss") == 1  # only the first process speaks
    short_run(tmp_path / "one", 4, name)
    one, two = (
        load_checkpoint(tmp_path / name / "checkpoints" / "final.pt")["model"] for name in ("one", "two")
    )
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=1e-5)  # gradients summed in another order
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        for key in ours.keys() - {"samples_per_second"}:
            assert theirs[key] == pytest.approx(ours[key], rel=1e-5)
