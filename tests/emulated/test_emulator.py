"""The emulator of CUDA does what hardware does, and stops with a message where that hangs or is undefined."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import build  # noqa: E402
import run  # noqa: E402

pytestmark = [
    pytest.mark.untyped,
    pytest.mark.slow,
    pytest.mark.skipif(run.why_not("plain") is not None, reason=f"emulated CUDA: {run.why_not('plain')}"),
]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The program of scenes.cu."""
    folder = tmp_path_factory.mktemp("scenes")
    source = folder / "scenes.cpp"
    source.write_text(
        '#line 1 "scenes.cu"\n' + build.rewritten((HERE / "scenes.cu").read_text(), "scenes.cu")
    )
    flags = ["-std=c++17", "-O1", "-w", f"-I{HERE / 'include'}", f"-I{build.CSRC}", f"-I{HERE}"]
    program = folder / "scenes"
    sources = [str(source), *map(str, sorted(HERE.glob("*.cpp")))]
    command = [*build.compiler(), *flags, "-include", "cuda_runtime.h", *sources, "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def start(program, *arguments, order="forward"):
    environment = os.environ | {"EMULATED_CUDA_ORDER": order}
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:3"])
@pytest.mark.parametrize("scene", ["places", "barriers", "lanes", "products", "copies", "limits"])
def test_it_does_what_hardware_does(scenes, scene, order):
    done = start(scenes, scene, order=order)
    assert (done.returncode, done.stderr) == (0, "")


WRONG = {
    "0": "threads have ended for which others of the block wait",
    "1": "threads of one block wait at different barriers",
    "2": "the mask names a lane that has ended",
    "3": "a shuffle reads a lane outside of the mask",
    "4": "nobody can go on",
    "5": "a thread ended before its asynchronous copies",
    "6": "an address of an asynchronous copy is not a multiple of its size",
    "7": "a trap",
}


@pytest.mark.parametrize("kind", WRONG)
def test_it_stops_with_a_message_where_hardware_hangs_or_is_undefined(scenes, kind):
    done = start(scenes, "wrong", kind)
    assert done.returncode < 0 and f"emulated CUDA: block (0, 0, 0): {WRONG[kind]}\n" in done.stderr
    assert "threads 0 to" in done.stderr


def test_an_order_that_is_none_is_refused(scenes):
    assert "EMULATED_CUDA_ORDER is" in start(scenes, "places", order="sideways").stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('\nvoid f() { asm(""); }', "csrc/x_cuda.cu:2: assembly belongs into csrc/common/mma_cuda.h"),
        ("void f() { (*kernel)<<<1, 2>>>(3); }", "csrc/x_cuda.cu: a launch that is not understood"),
        ("__shared__ float (*rows)[3];", "csrc/x_cuda.cu: shared memory that is not understood"),
    ],
)
def test_what_is_not_understood_is_named_with_its_file(text, words):
    with pytest.raises(build.NotEmulated, match=words.replace("*", r"\*")):
        build.rewritten(text, "x_cuda.cu")


def test_lines_stay_where_they_are():
    text = "/* two\nlines */ __shared__ float a[2][3],\n    b;\nkernel<T, 2><<<4,\n  5, 6, s>>>(\n  x);\nlast"
    lines = build.rewritten(text, "x_cuda.cu").splitlines()
    assert lines[-1] == "last" and len(lines) == len(text.splitlines())
    assert "shared_array<float[2][3]>(&a_key)" in lines[1] and "shared_array<float>(&b_key)" in lines[1]
