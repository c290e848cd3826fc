import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_parallel import RATE, short_run

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
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"[{steps}/{steps}] loss") == 1  # only the first process speaks
    short_run(tmp_path / "one", 4, name)
    one, two = (
        load_checkpoint(tmp_path / name / "checkpoints" / "final.pt")["model"] for name in ("one", "two")
    )
    # Gradients are summed in another order. Adam divides them by their own size: where one is nearly nothing,
    # rounding moves the weight by a good part of the rate. Other scenes would move all weights by half of it.
    ours, theirs = (torch.cat([state[key].double().flatten() for key in one]) for state in (one, two))
    assert (theirs - ours).pow(2).mean().sqrt() < 0.01 * RATE
    assert (theirs - ours).abs().max() < RATE
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    for ours, theirs in zip(*rows, strict=True):
        for key in ours.keys() - {"samples_per_second"}:
            assert theirs[key] == pytest.approx(ours[key], rel=1e-5)
