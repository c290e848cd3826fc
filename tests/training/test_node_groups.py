"""Several machines, played by several ``torchrun`` on this one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from data_parallel import check_same
from node_groups import run

HERE = Path(__file__).parent


def machines(count, *told):
    """What the same ``torchrun`` on so many machines prints, all together, once it has ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"--nnodes {count} --nproc-per-node 1 --max-restarts 1 --rdzv-id run --local-addr 127.0.0.1"
    words += f" --rdzv-backend c10d --rdzv-endpoint localhost:{port}"
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", *words.split(), *map(str, told)]
    options = {"env": os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    started = [subprocess.Popen(command, **options, **pipes) for _ in range(count)]
    try:
        printed = [machine.communicate(timeout=300)[0] for machine in started]
    finally:
        for machine in started:
            machine.kill()
    assert [machine.returncode for machine in started] == [0] * count, printed
    return "".join(printed)


@pytest.mark.long
def test_two_machines_one_of_which_fails_are_one_with_twice_the_batch(tmp_path):
    """The process that holds the folder is killed in its sixth step; both go on after the fourth."""
    printed = machines(2, HERE / "node_groups.py", tmp_path / "two")
    assert (tmp_path / "killed").exists() and "exitcode: -9" in printed
    assert printed.count("resume: no checkpoint in") == 1
    assert printed.count("[1/8] loss") == printed.count("[8/8] loss") == 1
    run(tmp_path / "one", 4)
    check_same(tmp_path / "one", tmp_path / "two")
