"""Builds the native libraries with a C++ compiler and, where there is one, nvcc; torch is not needed.

They go to ``renderpretrain/_native``, to be packed, or used in place by an editable install. A compiler that
is missing or fails costs the kernels and one line, not the install: the operators then run as plain PyTorch.
``RENDERPRETRAIN_NATIVE=0`` builds nothing, and a path in its place builds there. ``RENDERPRETRAIN_CXXFLAGS``
adds flags for the C++ compiler, as ``make sanitize`` does; nvcc would not know them and is then left out.
``RENDERPRETRAIN_CUDA_ARCHITECTURES``, for example ``"80 90"``, builds CUDA code for these alone.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from setuptools import Command, setup
from setuptools.command.build import build

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "csrc"
ASKED = os.environ.get("RENDERPRETRAIN_NATIVE", "")
NATIVE = Path(ASKED) if ASKED else ROOT / "renderpretrain" / "_native"
OBJECTS = NATIVE / "objects" if ASKED else ROOT / "build" / "native"

# Contracting a * b + c would move the points where a comparison turns; kernels that gain from fused
# multiply-adds ask for them by name (csrc/common/vector.h). Vectorising is what -O3 has that matters; its
# unrolling takes minutes on vectors wider than the processor's.
CPU_FLAGS = "-O2 -std=c++17 -fPIC -pthread -fvisibility=hidden"
CPU_FLAGS += " -fno-math-errno -fno-trapping-math -ffp-contract=off"
CPU_FLAGS += " -ftree-vectorize -fvect-cost-model=dynamic"
CUDA_FLAGS = "-O3 -std=c++17 -fmad=false -Xcompiler -fPIC,-fvisibility=hidden"
CUDA_ARCHITECTURES = ("75", "80", "90", "100")
X86_LEVELS = {
    "": "",
    "_avx2": "-mavx2 -mfma -mf16c",
    "_avx512": "-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512 -O3",
}
"""One CPU library per instruction set; renderpretrain/ops/_native.py opens the best the processor runs."""


class Library(NamedTuple):
    """How the sources of one library are compiled, and how their objects are linked."""

    compile: list[str]
    link: list[str]
    sources: list[Path]


def cuda_targets(nvcc: str) -> list[str]:
    """Machine code for the architectures this compiler knows, and PTX of the last for what comes after."""
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True).stdout
    asked = os.environ.get("RENDERPRETRAIN_CUDA_ARCHITECTURES", "").split() or CUDA_ARCHITECTURES
    known = [arch for arch in asked if f"compute_{arch}" in listed] or ["80"]
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in known]
    return [*targets, f"-gencode=arch=compute_{known[-1]},code=compute_{known[-1]}"]


def libraries() -> dict[str, Library]:
    """What can be built here, by name."""
    compiler = [*shlex.split(os.environ.get("CXX", "g++")), *CPU_FLAGS.split()]
    levels = X86_LEVELS if platform.machine() in ("x86_64", "AMD64") else {"": ""}
    cpu, cuda = sorted(SOURCES.rglob("*_cpu.cpp")), sorted(SOURCES.rglob("*_cuda.cu"))
    extra = shlex.split(os.environ.get("RENDERPRETRAIN_CXXFLAGS", ""))
    found = {
        f"cpu{level}": Library([*compiler, *flags.split(), *extra], [*compiler, *extra, "-shared"], cpu)
        for level, flags in levels.items()
    }
    nvcc = shutil.which("nvcc")
    if nvcc is not None and not extra:
        flags = [nvcc, *CUDA_FLAGS.split(), *cuda_targets(nvcc)]
        found["cuda"] = Library(flags, [nvcc, "-shared", "-cudart", "static"], cuda)
    return found


def compile_source(command: list[str], source: Path, target: Path) -> None:
    """One object file, unless it is newer than its source, every header and this file."""
    read = [source, *SOURCES.rglob("*.h"), Path(__file__)]
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in read):
        return
    partial = target.with_suffix(f".{os.getpid()}.o")
    command = [*command, f"-I{SOURCES}", "-c", str(source), "-o", str(partial)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    partial.replace(target)


def link_library(library: Library, objects: list[Path], target: Path) -> None:
    """The library, unless it is newer than its objects; whoever has the old one loaded keeps it."""
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in objects):
        return
    partial = target.with_suffix(f".{os.getpid()}")
    command = [*library.link, *map(str, objects), "-o", str(partial)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    partial.replace(target)


def build_libraries() -> None:
    """Compile and link all of them, as many files at once as there are cores.

    A library that fails costs one line: what it was for then runs slower, or as plain PyTorch.
    """
    NATIVE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as compilers:
        jobs = {}
        for name, library in libraries().items():
            folder = OBJECTS / name
            folder.mkdir(parents=True, exist_ok=True)
            objects = [folder / f"{source.stem}.o" for source in library.sources]
            work = [
                compilers.submit(compile_source, library.compile, source, target)
                for source, target in zip(library.sources, objects, strict=True)
            ]
            jobs[name] = library, objects, work
        for name, (library, objects, work) in jobs.items():
            try:
                for future in work:
                    future.result()
                link_library(library, objects, NATIVE / f"librenderpretrain_{name}.so")
            except (OSError, subprocess.CalledProcessError) as error:
                lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
                why = next((line for line in lines if "error" in line), lines[0])
                print(f"renderpretrain: no {name} kernels, what is slower instead: {why}", file=sys.stderr)


class BuildNative(Command):
    """``python setup.py build_native``; part of every build, and what puts csrc into source archives."""

    description = "compile csrc into renderpretrain/_native"
    user_options = []  # noqa: RUF012

    def initialize_options(self) -> None: ...  # noqa: D102

    def finalize_options(self) -> None: ...  # noqa: D102

    def run(self) -> None:  # noqa: D102
        if ASKED != "0":
            build_libraries()

    def get_source_files(self) -> list[str]:  # noqa: D102
        return [str(path.relative_to(ROOT)) for path in sorted(SOURCES.rglob("*.*"))]


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
