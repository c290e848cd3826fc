"""Everything to learn from a GPU in one run of minutes: ``make gpu-check``, or this file with any Python.

``python benchmarks/gpu_check.py [--out FOLDER] [--minutes 8] [--only PART ...]``

Every part is a process with a time limit of its own; what it prints goes to ``FOLDER/PART.log``, and none
stops the next. All tests and the memory checkers share the card, everything else has it alone; what is left
of the minutes goes to a training run. ``FOLDER/gpu_check.json`` and ``.md`` name the card, torch and what
came of each part, and are written anew as each ends; what cannot run here is named with its reason. A library
that does not run on the card is built anew, for this card alone. Without a network, packages that are missing
are installed from wheels in the folder ``wheels`` of the checkout, for these processes alone.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-o", "filterwarnings=default", "--tb=short"]
FIRST = ["tests/ops/test_on_card.py", "tests/recipes/test_on_card.py", "tests/training/test_recorded.py"]
FIRST += ["tests/ops/test_sdf_field.py", "tests/ops/test_sparse_conv.py", "tests/ops/test_tensor_cores.py"]
SANITIZED = ["tests/ops/test_composite.py", "tests/ops/test_sdf_field.py", "tests/ops/test_march.py"]
SANITIZED += ["tests/ops/test_tensor_cores.py"]
BUILD_SECONDS = 90.0
"""For a library, where there is none that runs on the card."""

LEAST_SECONDS = 10.0
"""What a part is not begun for."""

NEEDED = {
    **{name: name for name in ("numpy", "pydantic", "typer", "jaxtyping", "safetensors")},
    **{"yaml": "pyyaml", "PIL": "pillow"},
}
"""Packages by the module they are imported as, without which nothing runs; torch is taken for granted."""

ASKED = """
import json, platform, torch
there = torch.cuda.is_available()
if there:
    torch.zeros(1, device="cuda")
from renderpretrain import ops
print(json.dumps({
    "card": torch.cuda.get_device_name() if there else None,
    "architecture": "".join(map(str, torch.cuda.get_device_capability())) if there else None,
    "torch": torch.__version__,
    "python": platform.python_version(),
    "native": ops.has_native("cuda"),
    "library": ops.native_status()["cuda"].why,
}))
"""


@dataclass(frozen=True)
class Part:
    """A process.

    Attributes:
        name: Of the part and its log.
        command: What runs, in the project's root.
        limit: Seconds after which it is ended.
        beside: Whether it shares the card with others of its kind.
        tool: A program that must be there.
        modules: Modules that must be there.
    """

    name: str
    command: list[str]
    limit: float
    beside: bool = False
    tool: str | None = None
    modules: tuple[str, ...] = ()

    def why_not(self) -> str | None:
        """What of it is missing here, if anything is."""
        if self.tool and shutil.which(self.tool) is None:
            return f"{self.tool} is not installed"
        return next((f"{name} is not installed" for name in self.modules if not _found(name)), None)


def _found(module: str) -> bool:
    """Whether a module could be imported here."""
    return importlib.util.find_spec(module) is not None


def parts(out: Path) -> list[Part]:
    """In their order; the limits, with that of the library, leave the last one a minute of eight."""
    return [*_proofs(), *_timings(out), _training(out)]


def _proofs() -> list[Part]:
    """Tests, the newest first, and what watches memory and races meanwhile."""
    several = ["-n", "10"] if _found("xdist") else []
    tests = [*PYTEST, *several, "-m", "gpu"]
    checked = ["compute-sanitizer", "--error-exitcode", "7", "--tool"]
    memory, races = ([*checked, tool, *PYTEST, "-m", "gpu"] for tool in ("memcheck", "racecheck"))
    sanitizer = {"beside": True, "tool": checked[0], "modules": ("pytest",)}
    return [
        Part("tests-first", [*tests, *FIRST], 45, modules=("pytest",)),
        Part("tests", [*tests, "--maxfail", "150", "tests"], 90, beside=True, modules=("pytest",)),
        Part("memcheck", [*memory, *SANITIZED], 90, **sanitizer),
        Part("racecheck", [*races, *SANITIZED[:2]], 90, **sanitizer),
    ]


def _timings(out: Path) -> list[Part]:
    """Kernels, steps that render, steps that train, and where their time goes."""

    def script(name: str, file: str, *more: str) -> list[str]:
        return [PYTHON, f"benchmarks/{name}.py", *more, "--json", str(out / f"{file}.json")]

    steps = partial(script, "card_steps")
    kernels = partial(script, "kernels")
    on_card = ("--device", "cuda", "--seconds")
    conv = ("--only", "sparse_conv3d", "sparse_encoder")
    some = ("--only", "sdf_field", "composite", "neus_alphas", "resample", "neus_upsample", "--compile")
    fixed = ("--only", "unipad-camera", "ns-mae:camera", "uniscene:lss", "--graphs")
    shown = (
        "--only",
        "unipad-fusion",
        "ponder-outdoor",
        "ns-mae",
        "uniscene",
        "unipad-lidar",
        "ponder-indoor",
    )
    profiled = (*shown, "--presets", "paper", "--steps", "2", "--profile", str(out / "profiles"))
    both = ("--presets", "paper", "tiny", "--precisions", "bf16", "fp32")
    return [
        Part("kernels", kernels("kernels", *on_card, "0.01"), 40),
        Part("kernels-compiled", kernels("kernels-compiled", *on_card, "0.02", *some), 20),
        Part("render-step", script("render_step", "render-step", *on_card, "0.2"), 25),
        Part("steps", steps("steps", *both, "--seconds", "80"), 90),
        Part("graphs", steps("graphs", *fixed), 15),
        Part("spconv", kernels("spconv", *on_card, "0.02", *conv), 15, modules=("spconv",)),
        Part("profile", steps("profile", *profiled, "--seconds", "50"), 60),
    ]


def _training(out: Path) -> Part:
    """Ten times the steps of ``make pretrain``."""
    train = [PYTHON, "-m", "renderpretrain", "pretrain", "unipad-fusion", "--device", "cuda"]
    train += ["--steps", "1000", "--holdout", "4", "--scenes", "64", "--out", str(out / "run")]
    return Part("train", train, 200)


def missing(out: Path) -> str | None:
    """Packages that are not there and not among the wheels either, and what to carry; installs what is."""
    absent = [package for module, package in NEEDED.items() if not _found(module)]
    if not absent:
        return None
    wheels, site = ROOT / "wheels", out / "site"
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    done = subprocess.run([*command, "--target", str(site), *absent], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"not installed: {', '.join(absent)}; carry their wheels in {wheels.name}/, made with: pip download "
        f"--only-binary :all: --python-version {version} --dest wheels {' '.join(absent)}"
    )


def card(out: Path) -> dict[str, Any]:
    """The GPU, and whether our library runs on it; ``why`` where there is none."""
    command = [PYTHON, "-c", ASKED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(out))
    if done.returncode:
        return {"card": None, "why": (done.stderr.strip() or "?").splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"why": None if found["card"] else "torch finds no CUDA device"}


def with_library(out: Path) -> dict[str, Any]:
    """The GPU, and a library that runs on it, built where there is none."""
    why = missing(out)
    if why:
        return {"card": None, "why": why}
    found = card(out)
    if found["card"] and not found["native"]:
        env = environment(out) | {"RENDERPRETRAIN_CUDA_ARCHITECTURES": found["architecture"]}
        command = [PYTHON, "setup.py", "--quiet", "build_native"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=ROOT, env=env, timeout=BUILD_SECONDS)
        found = card(out)
    if found["card"] and not found["native"]:
        found["why"] = f"no library for this card: {found['library']}"
    return found


def environment(out: Path) -> dict[str, str]:
    """Of every part: this checkout comes first, then what was installed for it; four threads each."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(out / "site"), os.environ.get("PYTHONPATH", "")]))
    return {"OMP_NUM_THREADS": "4"} | dict(os.environ) | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, so that it says what it has found so far; then end it and all it started."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(8)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def execute(part: Part, out: Path, limit: float) -> dict[str, Any]:
    """Run a part; how it ended, how long it took, and its last lines."""
    why = part.why_not() or ("no time left" if limit < LEAST_SECONDS else None)
    if why:
        print(f"{part.name}: skipped, {why}", flush=True)
        return {"skipped": why}
    begin, log = time.monotonic(), out / f"{part.name}.log"
    with log.open("w") as to:
        process = subprocess.Popen(
            part.command, stdout=to, stderr=to, cwd=ROOT, env=environment(out), start_new_session=True
        )
        try:
            code: int | str = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = f"ended after {limit:.0f} s"
            end(process)
    lines = [line[:200] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    print(f"{part.name}: {code}, {time.monotonic() - begin:.0f} s", *lines[-3:], sep="\n  ", flush=True)
    return {"exit": code, "seconds": round(time.monotonic() - begin, 1), "last": lines[-12:]}


def report(out: Path, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Both files, as far as there is something to say."""
    rows = {name: json.loads(file.read_text()) for name in found if (file := out / f"{name}.json").is_file()}
    whole = {**about, "parts": found, "rows": rows}
    (out / "gpu_check.json").write_text(json.dumps(whole, indent=1) + "\n")
    lines = [f"# {about['card'] or 'no GPU'}, torch {about.get('torch')}, {about['date']}", ""]
    lines += [f"commit {about['commit']}", "", "| part | exit | seconds | last line |", "|---|---|---|---|"]
    for name, part in found.items():
        last = part.get("skipped") or (part["last"] or [""])[-1].replace("|", "/")
        lines.append(f"| {name} | {part.get('exit', 'skipped')} | {part.get('seconds', '')} | {last} |")
    for name in found:
        log = out / f"{name}.log"
        printed = log.read_text().splitlines() if log.exists() else []
        table = [line for line in printed if line.startswith("|")]
        lines += ["", f"## {name}", "", *table] if table else []
    (out / "gpu_check.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the parts, and report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", metavar="PART")
    chosen = parser.parse_args()
    out, end = chosen.out.resolve(), time.monotonic() + 60 * chosen.minutes
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    about = {**with_library(out), "date": str(date.today()), "commit": commit.stdout.strip() or "unknown"}
    print(json.dumps(about), flush=True)
    asked = [part for part in parts(out) if chosen.only is None or part.name in chosen.only]
    found: dict[str, Any] = {}
    if about["why"]:
        report(out, about, {part.name: {"skipped": about["why"]} for part in asked})
        print(*(f"{part.name}: skipped, {about['why']}" for part in asked), sep="\n")
        return
    for group in grouped(asked):
        with ThreadPoolExecutor(len(group)) as pool:
            limits = [min(part.limit, end - time.monotonic()) for part in group]
            for part, ended in zip(group, pool.map(execute, group, repeat(out), limits), strict=True):
                found[part.name] = ended
                report(out, about, found)
    sys.exit(any(part.get("exit", 0) != 0 for part in found.values()))


def grouped(asked: list[Part]) -> list[list[Part]]:
    """Parts that share the card together, every other one by itself."""
    groups: list[list[Part]] = []
    for part in asked:
        if part.beside and groups and groups[-1][-1].beside:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


if __name__ == "__main__":
    main()
