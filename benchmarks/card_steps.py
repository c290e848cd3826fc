"""Whole training steps of every recipe on a GPU: time, memory, arithmetic, and where the host waits.

``python benchmarks/card_steps.py [--only RECIPE ...] [--presets tiny paper] [--precisions bf16 fp32]
[--steps N] [--graphs] [--seconds S] [--json FILE] [--profile FOLDER]``

One synthetic scene in page-locked memory, batch 1, steps read one late as in training. ``host ms`` is what
Python takes to start a step's work while nothing else is in the queue; a step much longer than that waits for
kernels, one as long waits for the host. ``waits`` counts how often the host waits for the device within a
step, as torch reports it; the JSON names the places, and they are printed below the table. With ``--graphs``
the steps are also taken as CUDA graphs, where a recipe's step has one shape. With ``--profile`` the kernels
of a step are written down, too.
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import paper_steps
import torch

from renderpretrain.data import Batch, collate
from renderpretrain.runs import describe_run
from renderpretrain.training import Process, Stepper, build_optimizer, step_cost, with_fake_tensors
from renderpretrain.training.recorded import WARM_UP as UNRECORDED
from renderpretrain.training.recorded import check_recordable

VARIANTS = (
    *("unipad-lidar", "unipad-camera", "unipad-fusion", "ponder-outdoor", "ponder-indoor"),
    *("ns-mae", "ns-mae:camera", "ns-mae:lidar", "uniscene", "uniscene:lss"),
    *("render-distill-lidar", "render-distill-camera", "render-distill-fusion"),
)
COLUMNS = (
    *("recipe", "preset", "precision", "ms", "host ms", "as a graph ms", "first step s", "waits"),
    *("TFLOP/s", "GiB", "estimated GiB", "loss"),
)
WARM_UP = 3


def main() -> None:
    """Take the steps that were asked for, and print a row for each as it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="RECIPE")
    parser.add_argument("--presets", nargs="+", default=["tiny", "paper"], choices=("tiny", "paper"))
    parser.add_argument("--precisions", nargs="+", default=["bf16"], choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--steps", type=int, default=8, help="that are timed together, after three others")
    parser.add_argument("--graphs", action="store_true", help="take the steps as CUDA graphs, too")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so long")
    parser.add_argument("--json", type=Path, help="also write the rows here, after each of them")
    parser.add_argument("--profile", type=Path, help="folder for a table of kernels of each step")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device on this machine")
    print(f"\n{torch.cuda.get_device_name()}; torch {torch.__version__}; batch 1\n")
    print("\n".join(["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]), flush=True)
    rows, end = list[dict[str, Any]](), time.monotonic() + chosen.seconds
    for name, preset, precision in _wanted(chosen):
        if time.monotonic() > end:
            print(f"| `{name}` | {preset} | {precision} | no time left |" + " |" * (len(COLUMNS) - 4))
            continue
        rows.append(_row(name, preset, precision, chosen))
        print(_line(rows[-1]), flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(["", *_places(rows)]))
    if any("failed" in row for row in rows):
        sys.exit(1)


def _wanted(chosen: argparse.Namespace) -> list[tuple[str, str, str]]:
    return [(n, preset, p) for preset in chosen.presets for p in chosen.precisions for n in chosen.only]


def _row(name: str, preset: str, precision: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """What was measured of one recipe, or why it was not."""
    about = {"recipe": name, "preset": preset, "precision": precision}
    try:
        return about | measure(name, preset, precision, chosen)
    except Exception as error:  # one that fails must not hide the others
        traceback.print_exc()
        return about | {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    finally:
        torch.cuda.empty_cache()


def measure(name: str, preset: str, precision: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Numbers of one recipe's steps."""
    steps, profile = chosen.steps, chosen.profile
    job, batch = _prepared(name, preset)
    settings: Any = job.config
    optimization = settings.optimization.model_copy(update={"precision": precision, "steps": 1000})
    cost = step_cost(with_fake_tensors(job.build), batch, optimization)
    model = paper_steps.with_random_weights(job).to("cuda").train()
    process = Process(0, 1, torch.device("cuda:0"))
    stepper = Stepper(model, build_optimizer(model, optimization), optimization, process, 0)
    batch = batch.pin_memory()
    torch.cuda.reset_peak_memory_stats()
    first, losses = _taken(stepper, batch, 1, 1)
    _taken(stepper, batch, 2, WARM_UP - 1)
    seconds, more = _taken(stepper, batch, WARM_UP + 1, steps)
    peak = torch.cuda.max_memory_allocated()
    after = WARM_UP + steps + 1
    host, waits = _host_seconds(stepper, batch, after), _waits(stepper, batch, after + 1)
    if profile:
        _profiled(stepper, batch, after + 2, profile / f"{name.replace(':', '-')}-{preset}-{precision}.txt")
    return {
        "seconds": seconds / steps,
        "host_seconds": host,
        "graph_seconds": _recorded(model, optimization, process, batch, steps) if chosen.graphs else None,
        "first_seconds": first,
        "waits": dict(waits),
        "tflop": cost.step_flops / 1e12,
        "peak_gib": peak / 2**30,
        "estimated_gib": cost.peak / 2**30,
        "losses": losses + more,
    }


def _prepared(name: str, preset: str) -> tuple[Any, Batch]:
    """The job, and a batch of one scene."""
    if preset == "paper":
        return paper_steps.prepare(name, 1)
    recipe, _, form = name.partition(":")
    changes = [{"lifter" if recipe == "uniscene" else "modality": form}] if form else []
    job = describe_run(recipe, {"preset": preset}, changes, saved={})
    return job, collate([job.open()[3]], torch.zeros(1, dtype=torch.long))


def _taken(stepper: Stepper, batch: Batch, start: int, count: int) -> tuple[float, list[float]]:
    """Seconds of all steps together, and their losses."""
    torch.cuda.synchronize()
    begin, waiting, losses = time.perf_counter(), None, []
    for step in range(start, start + count):
        record = stepper.take(step, iter([batch]))
        losses += [stepper.read(waiting).row["loss"]] if waiting else []
        waiting = record
    assert waiting is not None
    losses.append(stepper.read(waiting).row["loss"])
    torch.cuda.synchronize()
    return time.perf_counter() - begin, losses


def _host_seconds(stepper: Stepper, batch: Batch, step: int) -> float:
    """What it takes to start the work of a step, with nothing before it in the queue."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    record = stepper.take(step, iter([batch]))
    seconds = time.perf_counter() - begin
    stepper.read(record)
    return seconds


def _recorded(model: Any, optimization: Any, process: Process, batch: Batch, steps: int) -> float | str:
    """Seconds of a step as a CUDA graph, or why there is none."""
    optimization = optimization.model_copy(update={"cuda_graph": True})
    try:
        check_recordable(model, optimization, 1)
        stepper = Stepper(model, build_optimizer(model, optimization), optimization, process, 0)
        _taken(stepper, batch, 1, UNRECORDED + 2)
        return _taken(stepper, batch, UNRECORDED + 3, steps)[0] / steps
    except ValueError as error:
        return str(error)


def _places(rows: list[dict[str, Any]]) -> list[str]:
    """Where the host waited, and what could not be recorded, by recipe."""
    lines = []
    for row in rows:
        told = f"`{row['recipe']}` {row['preset']} {row['precision']}"
        if row.get("waits"):
            places = (f"{place} ({count})" for place, count in row["waits"].items())
            lines.append(f"{told} waits at {', '.join(places)}")
        if isinstance(row.get("graph_seconds"), str):
            lines.append(f"{told}: {row['graph_seconds']}")
    return lines


def _waits(stepper: Stepper, batch: Batch, step: int) -> Counter[str]:
    """How often the host waits, by place."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            record = stepper.take(step, iter([batch]))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    stepper.read(record)
    found = (w for w in seen if "called a synchronizing" in str(w.message))
    return Counter(f"{w.filename.rpartition('renderpretrain/')[2]}:{w.lineno}" for w in found)


def _profiled(stepper: Stepper, batch: Batch, step: int, file: Path) -> None:
    """Write the kernels of one step, the longest first."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        stepper.read(stepper.take(step, iter([batch])))
        torch.cuda.synchronize()
    file.parent.mkdir(parents=True, exist_ok=True)
    spent = Counter[str]()
    calls = Counter[str]()
    for event in seen.events() or []:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spent[event.name] += event.device_time
            calls[event.name] += 1
    lines = [f"{sum(spent.values()) / 1e3:9.3f} ms in all"]
    lines += [f"{us / 1e3:9.3f} ms {calls[name]:6d}  {name[:150]}" for name, us in spent.most_common(60)]
    file.write_text("\n".join(lines) + "\n")


def _line(row: dict[str, Any]) -> str:
    """A row of a Markdown table."""
    about = f"| `{row['recipe']}` | {row['preset']} | {row['precision']} |"
    if "failed" in row:
        return f"{about} {row['failed']} |" + " |" * (len(COLUMNS) - 4)
    numbers = [
        f"{1e3 * row['seconds']:.1f}",
        f"{1e3 * row['host_seconds']:.1f}",
        f"{1e3 * row['graph_seconds']:.1f}" if isinstance(row["graph_seconds"], float) else "-",
        f"{row['first_seconds']:.2f}",
        f"{sum(row['waits'].values())}",
        f"{row['tflop'] / row['seconds']:.1f}",
        f"{row['peak_gib']:.1f}",
        f"{row['estimated_gib']:.1f}",
        f"{row['losses'][0]:.3g} to {row['losses'][-1]:.3g}",
    ]
    return f"{about} {' | '.join(numbers)} |"


if __name__ == "__main__":
    main()
