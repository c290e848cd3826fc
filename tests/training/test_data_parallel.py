import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_parallel import RATE, RUNS, short_run

from renderpretrain.training import load_checkpoint, read_rows

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """The folder of the runs of two processes, which are started once, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "data_parallel.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), RUNS.items())
def test_two_processes_are_one_with_twice_the_batch(of_two, tmp_path, name, steps):
    folder, said = of_two
    assert said.count(f"[{steps}/{steps}] loss") == 1  # only the first process speaks
    short_run(tmp_path, 4, name)
    folders = tmp_path, folder / name
    one, two = (load_checkpoint(run / "checkpoints" / "final.pt")["model"] for run in folders)
    # Gradients are summed in another order. Adam divides them by their own size: where one is nearly nothing,
    # rounding moves the weight by a good part of the rate. Other scenes would move all weights by half of it.
    ours, theirs = (torch.cat([state[key].double().flatten() for key in one]) for state in (one, two))
    assert (theirs - ours).pow(2).mean().sqrt() < 0.01 * RATE
    assert (theirs - ours).abs().max() < RATE
    rows = [read_rows(run / "metrics.jsonl") for run in folders]
    for ours, theirs in zip(*rows, strict=True):
        for key in ours.keys() - {"samples_per_second"}:
            assert theirs[key] == pytest.approx(ours[key], rel=1e-5)
