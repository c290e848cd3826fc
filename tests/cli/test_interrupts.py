"""Real processes and real signals: no traceback, the right exit code, and no work lost."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from renderpretrain.training import load_checkpoint, newest_checkpoint

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
RUN = [
    *("pretrain", "unipad-lidar", "--set", "image_size=[32, 64]", "--set", "rays.per_view=8"),
    *("--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]", "--scenes", "3", "--holdout", "0"),
    *("--device", "cpu", "--steps", "100000", "--set", "optimization.log_every=1", "--out"),
]


@contextmanager
def started(*arguments, python=(), **streams):
    """The program as a process of its own, gone at the end."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    command = [sys.executable, *python, "-m", "renderpretrain", *map(str, arguments)]
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("moment", ["typer.models", "yaml", "torch.autograd"])
def test_an_interrupt_during_the_start_leaves_no_traceback(tmp_path, moment):
    with started(*RUN, tmp_path / "run", python=("-X", "importtime")) as process:
        for line in process.stderr:
            if line.split("|")[-1].strip() == moment:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest and "KeyboardInterrupt" not in rest


@pytest.mark.slow
def test_three_interrupts_leave_no_traceback(tmp_path):
    with started(*RUN, tmp_path / "run") as process:
        assert any(line.startswith("[1/") for line in process.stdout)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        said, wrong = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said + wrong and "KeyboardInterrupt" not in said + wrong


@pytest.mark.slow
def test_a_terminal_that_closes_ends_in_a_checkpoint(tmp_path):
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    with started(*RUN, tmp_path / "run", start_new_session=True, **streams) as process:
        os.close(theirs)
        seen = b""
        while not re.search(rb"\[2/", seen):
            seen += os.read(ours, 65536)
        os.close(ours)  # what is written from here on meets an error
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert load_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoints"))["step"] >= 2


@pytest.mark.slow
def test_a_pipe_that_closes_does_not_end_a_run(tmp_path):
    with started(*RUN, tmp_path / "run") as process:
        assert any(line.startswith("[1/") for line in process.stdout)
        process.stdout.close()
        rows = tmp_path / "run" / "metrics.jsonl"
        before, until = len(rows.read_text().splitlines()), time.monotonic() + 120
        while len(rows.read_text().splitlines()) < before + 3 and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        wrong = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM and wrong == ""
    assert load_checkpoint(newest_checkpoint(tmp_path / "run" / "checkpoints"))["step"] >= before
