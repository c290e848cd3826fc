"""Tests on emulated CUDA kernels: ``python run.py [--sanitize KIND] [--order ORDER] [--pretended] [-- ...]``.

Builds what has changed, then starts pytest with the plugin ``emulated_cuda``, or ``pretended_cuda`` if asked.
What follows ``--`` goes to pytest; without it, ``tests/ops`` runs, and every function of the CUDA library
must. Where a kind cannot run here, one line says why, and that is no failure.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import build

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:history_size=2",
}
TESTS = ["tests/ops", "tests/emulated/test_every_function.py"]


def why_not(kind: str) -> str | None:
    """Why a kind of build cannot run here, or None."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "fibers are written for x86-64"
    if shutil.which(build.compiler()[0]) is None:
        return f"there is no {build.compiler()[0]}"
    runtime = build.sanitizer_runtime(kind)
    if runtime is None:
        return None
    if not all(Path(library).is_absolute() for library in runtime.split()):
        return f"{build.compiler()[0]} has no {runtime.split()[0]}"
    tried = subprocess.run(
        [*prefix(kind), sys.executable, "-c", ""], env=environment(kind), capture_output=True, text=True
    )
    return (tried.stderr.strip().splitlines() or ["Python ends"])[0] if tried.returncode else None


def prefix(kind: str) -> list[str]:
    """What starts a process whose addresses the sanitizers can keep apart."""
    return ["setarch", "-R"] if kind != "plain" and shutil.which("setarch") else []


def environment(kind: str, folder: Path | None = None, order: str = "forward") -> dict[str, str]:
    """The variables of a process that runs the kernels of a folder in an order."""
    paths = [
        str(build.ROOT),
        str(build.HERE),
        str(build.HERE / "pretended"),
        os.environ.get("PYTHONPATH", ""),
    ]
    added = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    added["EMULATED_CUDA_ORDER"] = order
    if folder is not None:
        added["RENDERPRETRAIN_NATIVE"] = str(folder)
    if runtime := build.sanitizer_runtime(kind):
        added |= {"LD_PRELOAD": runtime, **SANITIZER_OPTIONS}
    return os.environ | added


def pytest_command(plugin: str, kind: str, arguments: list[str]) -> list[str]:
    """pytest with one of the plugins, to be run in ``environment``."""
    return [*prefix(kind), sys.executable, "-m", "pytest", "-p", plugin, "--capture=sys", *arguments]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", default="plain", choices=build.KINDS)
    parser.add_argument(
        "--order", nargs="+", default=["random"], help="forward, reverse, random or random:SEED"
    )
    parser.add_argument("--pretended", action="store_true", help="as on a card, by a device cuda:0")
    parser.add_argument("pytest", nargs="*", default=TESTS)
    asked = parser.parse_args()
    if reason := why_not(asked.sanitize):
        print(f"emulated CUDA, {asked.sanitize}: skipped, {reason}")
        return 0
    try:
        folder = build.build(build.ROOT / "build" / "emulated" / asked.sanitize, asked.sanitize)
    except (build.NotEmulated, subprocess.CalledProcessError) as error:
        print(f"emulated CUDA: {error}", file=sys.stderr)
        return 1
    for order in asked.order:
        print(f"emulated CUDA, {asked.sanitize}, threads in {order} order", flush=True)
        plugin = "pretended_cuda" if asked.pretended else "emulated_cuda"
        command = pytest_command(plugin, asked.sanitize, asked.pytest)
        done = subprocess.run(command, cwd=build.ROOT, env=environment(asked.sanitize, folder, order))
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
