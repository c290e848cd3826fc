"""The CUDA library where it is loaded: what it asks of the driver, and which cards it has code for."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import renderpretrain

LIBRARY = Path(renderpretrain.__file__).parent / "_native" / "librenderpretrain_cuda.so"
STUB = Path(__file__).with_name("driver_stub.c")
COMPILER = shutil.which(os.environ.get("CC", "cc"))

pytestmark = pytest.mark.skipif(not LIBRARY.is_file(), reason="no CUDA library was built")


def run_beside_the_stub(folder, code):
    """What a fresh Python says of this code on a machine whose CUDA driver is the stub."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    driver = folder / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(driver), str(STUB)], check=True)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("LD_LIBRARY_PATH"))))
    environment = {**os.environ, "LD_LIBRARY_PATH": path}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_the_import_does_not_start_the_driver(tmp_path):
    """A process that is forked after that could not use CUDA, and nobody would know why."""
    code = "from renderpretrain import ops; print(ops.has_native('cuda'))"
    done = run_beside_the_stub(tmp_path, code)
    assert done.stdout == "True\n", done.stderr
    assert done.stderr.splitlines() == ["driver: cuDriverGetVersion"]


def test_cards_without_code_are_left_to_plain_pytorch(tmp_path):
    """PyTorch is told of a card that is not there; what it calls once CUDA starts is called here."""
    code = (
        "import torch\n"
        "from renderpretrain import ops\n"
        "torch.cuda.device_count = lambda: 2\n"
        "torch.cuda.get_device_capability = lambda card: ((9, 0), (6, 1))[card]\n"
        "torch.cuda.get_device_name = lambda card: ('new', 'old')[card]\n"
        "assert ops.has_native('cuda')\n"
        "for call, _ in torch.cuda._queued_calls:\n"
        "    if call.__module__ == 'renderpretrain.ops._native':\n"
        "        call()\n"
        "assert not ops.has_native('cuda') and ops.has_native('cpu')\n"
        "print(*ops.native_status()['cuda'])\n"
    )
    done = run_beside_the_stub(tmp_path, code)
    why = "librenderpretrain_cuda.so has no code for old, compute capability 6.1: build it anew"
    assert done.stdout == f"False plain PyTorch: {why}\n", done.stderr


@pytest.mark.parametrize("major", range(5, 13))
def test_code_is_found_for_the_cards_it_was_built_for_and_for_later_ones(major):
    has_code = ctypes.CDLL(str(LIBRARY)).rp_has_code_cuda
    has_code.restype = ctypes.c_bool
    here = [has_code(major, minor) for minor in range(10)]
    assert here == sorted(here)  # a later card of a generation runs the code of an earlier one
    assert has_code(99, 0) and not has_code(5, 0)
