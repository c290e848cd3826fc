"""Everything to learn from a GPU in one run of minutes: ``make gpu-check``, or this file with any Python.

``python benchmarks/gpu_check.py [--out FOLDER] [--minutes 8] [--only PART ...]``

Every part is a process with a time limit of its own; what it prints goes to ``FOLDER/PART.log``, and none
stops the next. Tests, memory checker and a training run share the card, then the parts that are timed have it
alone. ``FOLDER/gpu_check.json`` and ``.md`` name the card, torch and what came of each part; what cannot run
here is named with its reason. A library that does not run on the card is built anew, for this card alone.
"""

import argparse
import contextlib
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-o", "filterwarnings=default", "--tb=short"]
SANITIZED = ["tests/ops/test_composite.py", "tests/ops/test_march.py", "tests/ops/test_sparse_conv.py"]

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
        beside: Whether it shares the card with others of its kind; they come first.
        tool: A program that must be there.
    """

    name: str
    command: list[str]
    limit: float
    beside: bool = False
    tool: str | None = None


def parts(out: Path) -> list[Part]:
    """In the order of what matters most."""
    checked = ["compute-sanitizer", "--error-exitcode", "7", "--tool"]
    memory, races = ([*checked, tool, *PYTEST, "-m", "gpu"] for tool in ("memcheck", "racecheck"))
    train = [PYTHON, "-m", "renderpretrain", "pretrain", "unipad-fusion", "--device", "cuda"]
    train += ["--steps", "1000", "--holdout", "4", "--scenes", "64", "--out", str(out / "run")]
    steps = [PYTHON, "benchmarks/card_steps.py", "--profile", str(out / "profiles"), "--precisions"]
    kernels = [PYTHON, "benchmarks/kernels.py", "--device", "cuda", "--seconds", "0.02", "--json"]
    return [
        Part("tests", [*PYTEST, "-n", "10", "-m", "gpu", "--maxfail", "150", "tests"], 200, beside=True),
        Part("memcheck", [*memory, *SANITIZED], 150, beside=True, tool=memory[0]),
        Part("racecheck", [*races, SANITIZED[0]], 150, beside=True, tool=races[0]),
        Part("train", train, 200, beside=True),
        Part("steps", [*steps, "bf16", "--json", str(out / "steps.json")], 150),
        Part("kernels", [*kernels, str(out / "kernels.json")], 200),
        Part("steps-fp32", [*steps, "fp32", "--presets", "paper", "--json", str(out / "fp32.json")], 90),
    ]


def card() -> dict[str, Any]:
    """The GPU, and whether our library runs on it; ``why`` where there is none."""
    done = subprocess.run([PYTHON, "-c", ASKED], capture_output=True, text=True, cwd=ROOT, env=environment())
    if done.returncode:
        return {"card": None, "why": (done.stderr.strip() or "?").splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"why": None if found["card"] else "torch finds no CUDA device"}


def with_library() -> dict[str, Any]:
    """The GPU, and a library that runs on it, built where there is none."""
    found = card()
    if found["card"] and not found["native"]:
        only = {"RENDERPRETRAIN_CUDA_ARCHITECTURES": found["architecture"]}
        subprocess.run([PYTHON, "setup.py", "--quiet", "build_native"], cwd=ROOT, env=environment() | only)
        found = card()
    return found


def environment() -> dict[str, str]:
    """Of every part: this checkout comes first, and four threads each."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
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
    if part.tool and shutil.which(part.tool) is None:
        return {"skipped": f"{part.tool} is not installed"}
    if limit < 10:
        return {"skipped": "no time left"}
    begin, log = time.monotonic(), out / f"{part.name}.log"
    with log.open("w") as to:
        process = subprocess.Popen(
            part.command, stdout=to, stderr=to, cwd=ROOT, env=environment(), start_new_session=True
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
    (out / "gpu_check.json").write_text(json.dumps({**about, "parts": found}, indent=1) + "\n")
    lines = [f"# {about['card'] or 'no GPU'}, torch {about.get('torch')}, {about['date']}", ""]
    lines += [f"commit {about['commit']}", "", "| part | exit | seconds | last line |", "|---|---|---|---|"]
    for name, part in found.items():
        last = part.get("skipped") or (part["last"] or [""])[-1].replace("|", "/")
        lines.append(f"| {name} | {part.get('exit', 'skipped')} | {part.get('seconds', '')} | {last} |")
    for name in ("steps", "steps-fp32", "kernels"):
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
    about = {**with_library(), "date": str(date.today()), "commit": commit.stdout.strip() or "unknown"}
    print(json.dumps(about), flush=True)
    asked = [part for part in parts(out) if chosen.only is None or part.name in chosen.only]
    found: dict[str, Any] = {}
    if about["why"]:
        report(out, about, {part.name: {"skipped": about["why"]} for part in asked})
        print(*(f"{part.name}: skipped, {about['why']}" for part in asked), sep="\n")
        return

    def run(part: Part) -> None:
        found[part.name] = execute(part, out, min(part.limit, end - time.monotonic()))
        report(out, about, dict(found))

    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(run, [part for part in asked if part.beside]))
    for part in asked:
        if not part.beside:
            run(part)
    sys.exit(any(part.get("exit", 0) != 0 for part in found.values()))


if __name__ == "__main__":
    main()
