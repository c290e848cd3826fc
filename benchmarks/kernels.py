"""Times every operator beside its reference, the best plain-torch form and the libraries people use.

``python benchmarks/kernels.py [--json FILE] [--quick] [--device cuda] [--compile] [--threads N]
[--only OP ...]``

Each pass is checked for equality first, and one that fails is not timed but named at the end; see
``measure.py`` for how a number comes about. The whole is run twice, under the C library's default allocator
and under one that keeps freed memory.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases_composite
import cases_conv
import cases_field
import cases_grid
import cases_lift
import cases_march
import cases_pool
import cases_scatter
import cases_segment
import torch
from measure import (
    TUNED,
    Case,
    UnequalError,
    allocator,
    copy_rate,
    own_stream,
    product_rate,
    rows,
    with_compiled,
)

from renderpretrain import ops

FAMILIES = (
    cases_grid,
    cases_field,
    cases_composite,
    cases_pool,
    cases_lift,
    cases_scatter,
    cases_march,
    cases_segment,
    cases_conv,
)
OPERATORS = tuple(name for family in FAMILIES for name in family.OPERATORS)
COLUMNS = (
    *("op", "pass", "shape", "peer", "ours_ms", "peer_ms", "ratio", "ours_peak_mb", "peer_peak_mb"),
    *("rel_err", "floor_share"),
)


def machine(device: str) -> str:
    """Where the numbers come from, in one line."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    rates = f"copy {copy_rate(device) / 1e9:.1f} GB/s, product {product_rate(device) / 1e9:.0f} GFLOP/s"
    threads = f"{torch.get_num_threads()} threads, {ops.native_status()[device].why}"
    return f"{name}; {threads}; torch {torch.__version__}; commit {commit.strip()}; {rates}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cell(value: Any) -> str:
    """A number with three digits, text as it is, a dash where nothing is known."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def wanted(chosen: argparse.Namespace) -> Iterator[Case]:
    """The cases of the operators asked for; no others of their family are made where none is."""
    for family in FAMILIES:
        if set(family.OPERATORS) & set(chosen.only):
            yield from (case for case in family.cases(chosen.device, chosen.quick) if case.op in chosen.only)


def run(chosen: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """All rows, printed as they come, and what was not timed because it is not equal."""
    print(f"\n{machine(chosen.device)}; {allocator()} allocator; medians, ms and MB\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}", flush=True)
    found, failed = [], []
    with own_stream(chosen.device):
        for case in wanted(chosen):
            case = with_compiled(case) if chosen.compile else case
            try:
                measured = rows(case, chosen.device, chosen.seconds, chosen.repeats)
            except UnequalError as error:
                failed.append(str(error))
                continue
            found += measured
            for row in measured:
                print(f"| {' | '.join(cell(row[name]) for name in COLUMNS)} |", flush=True)
    return found, failed


def parsed() -> argparse.Namespace:
    """The command line, with what ``--quick`` means filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="small shapes and few repeats")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="beside torch.compile of the references, too")
    parser.add_argument("--threads", type=int, help="threads of the CPU, of torch and of the kernels")
    parser.add_argument("--only", nargs="+", default=OPERATORS, choices=OPERATORS, metavar="OP")
    parser.add_argument("--seconds", type=float, help="time for each side of a row, 1 if not given")
    parser.add_argument("--repeats", type=int, help="calls of each side at least, 5 if not given")
    parser.add_argument("--allocator", default="both", choices=("default", "tuned", "both"))
    chosen = parser.parse_args()
    if chosen.seconds is None:
        chosen.seconds = 0.05 if chosen.quick else 1.0
    if chosen.repeats is None:
        chosen.repeats = 3 if chosen.quick else 5
    return chosen


def main() -> None:
    """Run under each allocator asked for: in this process, or in one of its own under the other."""
    chosen = parsed()
    if not ops.has_native(chosen.device):
        raise SystemExit(f"nothing to compare: {ops.native_status()[chosen.device].why}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    both = chosen.allocator == "both" and chosen.device == "cpu"
    found, failed = [], []
    for name in ("default", "tuned") if both else (chosen.allocator.replace("both", "default"),):
        measured, unequal = run(chosen) if name == allocator() else run_under(name, sys.argv[1:])
        found += measured
        failed += unequal
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))
    if failed:
        raise SystemExit("\n".join(["not equal, so not timed:", *failed]))


def run_under(name: str, arguments: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The same under the other allocator, whose settings glibc reads when a process starts."""
    environment = {key: value for key, value in os.environ.items() if key not in TUNED}
    if name == "tuned":
        environment.update(TUNED)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, __file__, *arguments, "--allocator", name, "--json", str(file)]
        done = subprocess.run(command, env=environment)
        if not file.exists():
            raise SystemExit(done.returncode)
        failed = [f"something under the {name} allocator, named above"] if done.returncode else []
        return json.loads(file.read_text()), failed


if __name__ == "__main__":
    main()
