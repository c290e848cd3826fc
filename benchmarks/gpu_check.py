"""Everything to learn from a GPU in one run of minutes: ``make gpu-check``, or this file with any Python.

``python benchmarks/gpu_check.py [--out FOLDER] [--minutes 8] [--only PART ...]``

Every part is a process with a time limit of its own; what it prints goes to ``FOLDER/PART.log``, and none
stops the next. Tests, memory checker and a training run share the card, then the parts that are timed have it
alone. ``FOLDER/gpu_check.json`` and ``.md`` name the card, torch and what came of each part; what cannot run
here is named with its reason. A library that does not run on the card is built anew, for this card alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-o", "filterwarnings=default", "--tb=short"]
SANITIZED = ["tests/ops/test_composite.py", "tests/ops/test_march.py", "tests/ops/test_sparse_conv.py"]


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
    memcheck = ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "7", *PYTEST]
    racecheck = ["compute-sanitizer", "--tool", "racecheck", "--error-exitcode", "7", *PYTEST]
    run, steps, kernels = out / "run", out / "steps.json", out / "kernels.json"
    train = [PYTHON, "-m", "renderpretrain", "pretrain", "unipad-fusion", "--device", "cuda"]
    train += ["--steps", "1000", "--holdout", "4", "--scenes", "64", "--out", str(run)]
    card = [PYTHON, str(HERE / "card_steps.py"), "--precisions"]
    timed = [PYTHON, str(HERE / "kernels.py"), "--device", "cuda", "--seconds", "0.02"]
    return [
        Part("tests", [*PYTEST, "-n", "8", "-m", "gpu", "--maxfail", "40", "tests"], 200, beside=True),
        Part("memcheck", [*memcheck, "-m", "gpu", *SANITIZED], 150, beside=True, tool=memcheck[0]),
        Part("racecheck", [*racecheck, "-m", "gpu", SANITIZED[0]], 150, beside=True, tool=racecheck[0]),
        Part("train", train, 200, beside=True),
        Part("steps", [*card, "bf16", "--json", str(steps), "--profile", str(out / "profiles")], 150),
        Part("kernels", [*timed, "--json", str(kernels)], 200),
        Part("steps-fp32", [*card, "fp32", "--presets", "paper", "--json", str(out / "steps-fp32.json")], 90),
    ]


def card() -> dict[str, Any]:
    """The GPU, and whether our library runs on it; ``why`` where there is none."""
    asked = (
        "import json, platform, torch; from renderpretrain import ops; there = torch.cuda.is_available(); "
        "print(json.dumps({'card': torch.cuda.get_device_name() if there else None, 'torch': torch.__version__, "
        "'python': platform.python_version(), 'library': ops.native_status()['cuda'].why, "
        "'native': ops.has_native('cuda')}))"
    )
    done = subprocess.run([PYTHON, "-c", asked], capture_output=True, text=True, cwd=ROOT, env=environment())
    if done.returncode:
        return {"card": None, "why": (done.stderr.strip() or "?").splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"why": None if found["card"] else "torch finds no CUDA device"}


def environment() -> dict[str, str]:
    """Of every part: this checkout comes first, and four threads each."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {"OMP_NUM_THREADS": "4"} | dict(os.environ) | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def execute(part: Part, out: Path, limit: float) -> dict[str, Any]:
    """Run a part; how it ended, how long it took, and its last lines."""
    if part.tool and shutil.which(part.tool) is None:
        return {"skipped": f"{part.tool} is not installed"}
    if limit < 10:
        return {"skipped": "no time left"}
    begin, log = time.monotonic(), out / f"{part.name}.log"
    command = [shutil.which(part.command[0]) or part.command[0], *part.command[1:]]
    with log.open("w") as to:
        try:
            done = subprocess.run(
                command, stdout=to, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(), timeout=limit
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = f"ended after {limit:.0f} s"
    lines = [line[:200] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    print(f"{part.name}: {code}, {time.monotonic() - begin:.0f} s", *lines[-3:], sep="\n  ", flush=True)
    return {"exit": code, "seconds": round(time.monotonic() - begin, 1), "last": lines[-12:]}


def report(out: Path, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Both files, as far as there is something to say."""
    (out / "gpu_check.json").write_text(json.dumps({**about, "parts": found}, indent=1) + "\n")
    lines = [
        f"# {about.get('card')}, torch {about.get('torch')}, {about['date']}, commit {about['commit']}",
        "",
    ]
    lines += ["| part | exit | seconds | last line |", "|---|---|---|---|"]
    for name, part in found.items():
        last = part.get("skipped") or (part["last"] or [""])[-1].replace("|", "/")
        lines.append(f"| {name} | {part.get('exit', 'skipped')} | {part.get('seconds', '')} | {last} |")
    for name in ("steps", "steps-fp32", "kernels"):
        log = out / f"{name}.log"
        table = (
            [line for line in log.read_text().splitlines() if line.startswith("|")] if log.exists() else []
        )
        lines += ["", f"## {name}", "", *table] if table else []
    (out / "gpu_check.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the parts, report after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu_check")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", metavar="PART")
    chosen = parser.parse_args()
    out, end = chosen.out.resolve(), time.monotonic() + 60 * chosen.minutes
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    about = {**card(), "date": str(date.today()), "commit": commit.stdout.strip() or "unknown"}
    print(json.dumps(about), flush=True)
    asked = [part for part in parts(out) if chosen.only is None or part.name in chosen.only]
    found: dict[str, Any] = {}
    if about["why"]:
        found = {part.name: {"skipped": about["why"]} for part in asked}
        report(out, about, found)
        print(*(f"{name}: skipped, {about['why']}" for name in found), sep="\n")
        return
    left = lambda part: min(part.limit, end - time.monotonic())  # noqa: E731
    together = [part for part in asked if part.beside]
    with ThreadPoolExecutor(len(together) or 1) as pool:
        for part, result in zip(
            together, pool.map(lambda p: execute(p, out, left(p)), together), strict=True
        ):
            found[part.name] = result
    report(out, about, found)
    for part in asked:
        if not part.beside:
            found[part.name] = execute(part, out, left(part))
            report(out, about, found)
    sys.exit(any(part.get("exit", 0) != 0 for part in found.values()))


if __name__ == "__main__":
    main()
