"""Times every operator beside its reference, the best plain-torch form and the libraries people use.

``python benchmarks/kernels.py [--json FILE] [--quick] [--device cuda] [--threads N] [--only OP ...]``

Each pass is checked for equality first; see ``measure.py`` for how a number comes about. The whole is run
twice, under the C library's default allocator and under one that keeps freed memory.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cases_composite
import cases_conv
import cases_grid
import cases_lift
import cases_march
import cases_pool
import cases_scatter
import cases_segment
import torch
from measure import TUNED, Case, allocator, copy_rate, product_rate, rows

from renderpretrain import ops

FAMILIES: tuple[Callable[[str, bool], Iterator[Case]], ...] = (
    cases_grid.cases,
    cases_composite.cases,
    cases_pool.cases,
    cases_lift.cases,
    cases_scatter.cases,
    cases_march.cases,
    cases_segment.cases,
    cases_conv.cases,
)
COLUMNS = ("op", "pass", "shape", "peer", "ours_ms", "peer_ms", "ratio", "ours_peak_mb", "peer_peak_mb")


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
    """A number with three digits, text as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run(device: str, quick: bool, only: list[str], seconds: float) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    print(f"\n{machine(device)}; {allocator()} allocator; medians, ms and MB\n")
    print(f"| {' | '.join((*COLUMNS, 'rel_err', 'floor_share'))} |")
    print(f"|{'---|' * (len(COLUMNS) + 2)}", flush=True)
    found = []
    for family in FAMILIES:
        for case in family(device, quick):
            if only and case.op not in only:
                continue
            for row in rows(case, device, seconds):
                found.append(row)
                cells = (cell(row[name]) for name in (*COLUMNS, "rel_err", "floor_share"))
                print(f"| {' | '.join(cells)} |", flush=True)
    return found


def main() -> None:
    """Run under one allocator, and once more in a process of its own under the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="small shapes and few repeats")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="threads of the CPU, of torch and of the kernels")
    parser.add_argument("--only", nargs="*", default=[], help="names of operators")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="time for each side of a row, three calls at least"
    )
    parser.add_argument("--allocator", default="both", choices=("default", "tuned", "both"))
    chosen = parser.parse_args()
    if not ops.has_native(chosen.device):
        raise SystemExit(f"nothing to compare: {ops.native_status()[chosen.device].why}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if chosen.allocator == "tuned" and allocator() == "default":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED})
    found = run(chosen.device, chosen.quick, chosen.only, 0.05 if chosen.quick else chosen.seconds)
    if chosen.allocator == "both" and chosen.device == "cpu" and allocator() == "default":
        found += tuned_run(sys.argv[1:])
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


def tuned_run(arguments: list[str]) -> list[dict[str, Any]]:
    """The same under the other allocator, whose settings glibc reads when a process starts."""
    partial = Path(f"/tmp/kernels-{os.getpid()}.json")
    command = [sys.executable, __file__, *arguments, "--allocator", "tuned", "--json", str(partial)]
    subprocess.run(command, check=True, env={**os.environ, **TUNED})
    found: list[dict[str, Any]] = json.loads(partial.read_text())
    partial.unlink()
    return found


if __name__ == "__main__":
    main()
