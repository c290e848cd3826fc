"""Builds the native libraries with a C++ compiler and, where there is one, nvcc; torch is not needed.

They go to ``renderpretrain/_native``, to be packed, or used in place by an editable install. A compiler that
is missing or fails costs the kernels and one line, not the install: the operators then run as plain PyTorch.
``RENDERPRETRAIN_NATIVE=0`` builds nothing.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"
NATIVE = ROOT / "renderpretrain" / "_native"

# Without fused multiply-adds all vector widths, and the references, compute the same bits.
CPU_FLAGS = "-O3 -std=c++17 -fPIC -shared -pthread -fvisibility=hidden"
CPU_FLAGS += " -fno-math-errno -fno-trapping-math -ffp-contract=off"
CUDA_FLAGS = (
    "-O3 -std=c++17 -shared -cudart static -fmad=false --threads 0 -Xcompiler -fPIC,-fvisibility=hidden"
)
CUDA_ARCHITECTURES = ("80", "90", "100")


def cuda_targets(nvcc: str) -> list[str]:
    """Machine code for the architectures this compiler knows, and PTX of the last for what comes after."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    known = [arch for arch in CUDA_ARCHITECTURES if f"compute_{arch}" in listed] or ["80"]
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in known]
    return [*targets, f"-gencode=arch=compute_{known[-1]},code=compute_{known[-1]}"]


def native_commands() -> dict[str, list[str]]:
    """The compiler's command line per device, without its output."""
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    commands = {"cpu": [*compiler, *CPU_FLAGS.split(), *map(str, SOURCES.glob("*_cpu.cpp"))]}
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        commands["cuda"] = [
            nvcc,
            *CUDA_FLAGS.split(),
            *cuda_targets(nvcc),
            *map(str, SOURCES.glob("*_cuda.cu")),
        ]
    return commands


def build_library(device: str, command: list[str]) -> None:
    """Compile one library unless it is newer than every source; say in one line why it could not be."""
    output = NATIVE / f"librenderpretrain_{device}.so"
    partial = output.with_suffix(f".{os.getpid()}")
    newest = max(path.stat().st_mtime for path in [*SOURCES.iterdir(), Path(__file__)])
    if output.exists() and output.stat().st_mtime > newest:
        return
    try:
        NATIVE.mkdir(exist_ok=True)
        subprocess.run([*command, "-o", str(partial)], check=True, capture_output=True, text=True)
        partial.replace(output)  # in one step: whoever has the old library loaded keeps it
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        why = next((line for line in lines if "error" in line), lines[0])
        print(f"renderpretrain: no kernels for {device}, plain PyTorch instead: {why}", file=sys.stderr)


class BuildNative(Command):
    """``python setup.py build_native``; part of every build, and what puts csrc into source archives."""

    description = "compile csrc into renderpretrain/_native"
    user_options = []  # noqa: RUF012

    def initialize_options(self) -> None: ...  # noqa: D102

    def finalize_options(self) -> None: ...  # noqa: D102

    def run(self) -> None:  # noqa: D102
        if os.environ.get("RENDERPRETRAIN_NATIVE") != "0":
            for device, command in native_commands().items():
                build_library(device, command)

    def get_source_files(self) -> list[str]:  # noqa: D102
        return [str(path.relative_to(ROOT)) for path in sorted(SOURCES.iterdir())]


class Build(build):
    """Compiles before it collects the package's files."""

    sub_commands = [("build_native", None), *build.sub_commands]  # noqa: RUF012


class Wheel(bdist_wheel):
    """The libraries depend on the platform, but on no version of Python or torch."""

    def finalize_options(self) -> None:  # noqa: D102
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:  # noqa: D102
        return "py3", "none", super().get_tag()[2] if any(NATIVE.glob("*.so")) else "any"


setup(cmdclass={"build": Build, "build_native": BuildNative, "bdist_wheel": Wheel})
