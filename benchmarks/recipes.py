"""Trains every recipe's ``tiny`` preset for a few minutes and prints what each one learned.

``python benchmarks/recipes.py [--only RECIPE ...] [--jobs N] [--out FOLDER] [--json FILE] [--quick]``

Each run is the command that a user would type, in a process of its own; its folder stays to be looked at, and
one that exists is gone on with. Runs share the cores: as many at a time as there are, with an equal part of
the threads. The scores are those of scenes that were never trained on. ``--quick`` takes two steps: it shows
that everything runs, and its numbers say nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from renderpretrain.runs.metrics import Row, changes, read_rows

STEPS = {
    "render-distill-camera": 200,
    "unipad-camera": 200,
    "render-distill-lidar": 130,
    "render-distill-fusion": 100,
    "unipad-lidar": 130,
    "unipad-fusion": 100,
    "uniscene": 120,
    "ponder-outdoor": 120,
    "ponder-indoor": 130,
    "ns-mae": 120,
}
"""The longest first, so that none is left alone at the end."""

PRESETS = {"ponder-indoor": "tiny-semantic"}
"""Where it is not ``tiny``: with all terms of the method."""

SMOOTHED = 10
"""Steps whose mean is a loss at its end; the first step alone is its beginning."""

COLUMNS = (
    *("recipe", "steps", "minutes", "s/scene"),
    *("loss terms, first -> last", "unseen scenes, before -> after"),
)


def train(recipe: str, folder: Path, *, threads: int, quick: bool) -> float:
    """Run one recipe as a user would, on so many threads; returns the seconds it took.

    Raises:
        SystemExit: If the run failed, with what it said.
    """
    command = [sys.executable, "-m", "renderpretrain", "pretrain", recipe, "--out", str(folder)]
    command += ["--preset", PRESETS.get(recipe, "tiny")]
    command += ["--steps", "2" if quick else str(STEPS[recipe])]
    command += ["--scenes", "4", "--holdout", "1"] if quick else []
    command += ["--resume"] if (folder / "checkpoints" / "latest").is_file() else []
    start = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{recipe}: {done.stderr.strip() or done.stdout.strip()}")
    return time.perf_counter() - start


def summary(recipe: str, folder: Path, seconds: float) -> dict[str, Any]:
    """What a run's ``metrics.jsonl`` says."""
    rows = read_rows(folder / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    return {
        "recipe": recipe,
        "steps": steps[-1]["step"],
        "minutes": seconds / 60,
        "scene_s": 1 / statistics.median(row["samples_per_second"] for row in steps),
        "losses": {name: (steps[0][name], _end(steps, name)) for name in _terms(steps)},
        "scores": {c.metric: (c.before, c.after, c.beside.get("baseline")) for c in changes(rows)},
    }


def _terms(steps: list[Row]) -> list[str]:
    """Names of the loss terms of a run, in their order."""
    return [name for name in steps[0] if name.startswith("loss/")]


def _end(steps: list[Row], name: str) -> float:
    """A loss at the end of a run."""
    return statistics.mean(row[name] for row in steps[-SMOOTHED:] if name in row)


def line(found: dict[str, Any]) -> str:
    """A run as a row of a Markdown table."""
    losses = ", ".join(
        f"{name.removeprefix('loss/')} {first:.3g} -> {last:.3g}"
        for name, (first, last) in found["losses"].items()
    )
    scores = ", ".join(_score(name, *values) for name, values in found["scores"].items())
    numbers = [str(found["steps"]), f"{found['minutes']:.1f}", f"{found['scene_s']:.2f}"]
    return "| " + " | ".join([found["recipe"], *numbers, losses, scores]) + " |"


def _score(name: str, before: float, after: float, baseline: float | None) -> str:
    """A score before and after, and of the predictor without geometry."""
    change = f"{name} {before:.3g} -> {after:.3g}"
    return change if baseline is None else f"{change} ({baseline:.3g})"


def main() -> None:
    """Train what was asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), metavar="RECIPE")
    parser.add_argument("--out", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--quick", action="store_true", help="two steps each")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=1 if torch.cuda.is_available() else cores)
    chosen = parser.parse_args()
    jobs = max(1, min(chosen.jobs, len(chosen.only)))

    def learned(recipe: str) -> dict[str, Any]:
        folder = chosen.out / recipe
        seconds = train(recipe, folder, threads=max(1, cores // jobs), quick=chosen.quick)
        print(f"{recipe}: {seconds / 60:.1f} min, {folder}", file=sys.stderr)
        return summary(recipe, folder, seconds)

    start = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(learned, chosen.only))
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for run in found:
        print(line(run))
    print("\nIn brackets: a predictor without geometry (row means; for occupancy, everything is occupied).")
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes, {jobs} at a time, torch {torch.__version__}.")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
