"""Bugs as people write them, planted into the kernels one at a time: the operators' tests notice each.

What nothing here notices: an offset in 32 bits, for want of 2^31 elements.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import build  # noqa: E402
import run  # noqa: E402

pytestmark = [pytest.mark.untyped, pytest.mark.long]


class Bug(NamedTuple):
    """What is replaced in a file of csrc, which test meets it, and what it meets it with."""

    file: str
    old: str
    new: str
    test: str
    kind: str = "plain"
    order: str = "forward"
    place: int = 0


BUGS = {
    "no barrier before shared memory is read": Bug(
        "lss_pool_cuda.cu", "    __syncthreads();\n", "", "test_lss_pool.py", order="reverse"
    ),
    "no barrier before shared memory is used again": Bug(
        "lss_pool_cuda.cu", "    __syncthreads();\n", "", "test_lss_pool.py", "threads", place=1
    ),
    "a tile is overwritten while others read it": Bug(
        "sparse_conv_cuda.cu",
        "      __syncthreads();\n    }\n",
        "    }\n",
        "test_sparse_conv.py",
        order="random",
    ),
    "no barrier of the warp between two passes": Bug(
        "distortion_cuda.cu", "  __syncwarp();", "", "test_distortion.py", "threads"
    ),
    "an addition that is not atomic": Bug(
        "raycast_grid_cuda.cu",
        "atomicAdd(passed + first + voxel, 1);",
        "passed[first + voxel] += 1;",
        "test_raycast_grid.py",
        "threads",
    ),
    "lanes that leave before a shuffle": Bug(
        "grid_sample_cuda.cu",
        "  Cell<T> cell;",
        "  if (!exists) return;\n  Cell<T> cell;",
        "test_grid_sample.py",
    ),
    "a shuffle in a branch": Bug(
        "common/warp_cuda.h",
        "    const T lower = __shfl_up_sync(kWholeWarp, value, step);\n    if (lane >= step) value += lower;",
        "    if (lane >= step) value += __shfl_up_sync(kWholeWarp, value, step);",
        "test_distortion.py",
    ),
    "one element too far": Bug(
        "neus_cuda.h", "if (i < count) alphas[i]", "if (i <= count) alphas[i]", "test_neus.py", "address"
    ),
    "shared memory that is read before it is written": Bug(
        "neus_cuda.h",
        "numbers[threadIdx.x] = value;",
        "if (value != 0) numbers[threadIdx.x] = value;",
        "test_neus.py",
    ),
}


NOTICED = r"emulated CUDA: block|Sanitizer: |AssertionError|Mismatched elements"
"""Not a build or a test that fails for another reason."""


def plant(bug, csrc):
    """Replace one occurrence."""
    path = csrc / bug.file
    text = path.read_text()
    start = [found.start() for found in re.finditer(re.escape(bug.old), text)][bug.place]
    path.write_text(text[:start] + bug.new + text[start + len(bug.old) :])


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_noticed(name, tmp_path):
    bug = BUGS[name]
    if reason := run.why_not(bug.kind):
        pytest.skip(f"emulated CUDA, {bug.kind}: {reason}")
    healthy = build.build(build.ROOT / "build" / "emulated" / bug.kind, bug.kind)
    shutil.copytree(healthy, tmp_path / "built", symlinks=True)
    shutil.copytree(build.CSRC, tmp_path / "csrc")
    plant(bug, tmp_path / "csrc")
    folder = build.build(tmp_path / "built", bug.kind, tmp_path / "csrc")
    arguments = [f"tests/ops/{bug.test}", "--most", "6", "-x", "-p", "no:cacheprovider"]
    command = run.pytest_command("emulated_cuda", bug.kind, arguments)
    environment = run.environment(bug.kind, folder, bug.order)
    done = subprocess.run(command, cwd=build.ROOT, env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and re.search(
        r"emulated CUDA: block|Sanitizer: |AssertionError|Mismatch", said
    )
