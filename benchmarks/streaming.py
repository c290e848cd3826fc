"""From a shard to a step: samples a second, memory along the way, and how long a step waits for its data.

``python benchmarks/streaming.py [--samples 10000] [--kinds shards http] [--workers 0 2] [--json FILE]``
``python benchmarks/streaming.py --recording FOLDER --samples 400 --kinds folder --recipes unipad-camera``

A synthetic street of ten frames, or the frames of a recording with a ``frames.json``, are listed as often as
asked, and prepared as shards. Each sample is read once in the order of training, by a process of its own for
each row; the memory is that of this process and of those that prepare batches for it, pages that they share
counted once. ``http`` reads the shards through a server on this machine, which waits before each answer.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any

import torch

from renderpretrain.data import SceneDataset, SyntheticStreet, open_data, write_scene_folder
from renderpretrain.data.shards.writing import NAMES_FILES, Preparation, prepare_recording
from renderpretrain.recipes import RECIPES
from renderpretrain.training import MicroBatches, Process, Stepper, build_optimizer
from renderpretrain.training.prefetch import prefetch

FRAMES = 10
"""Of the street."""

LEFT_OUT = 4
"""Steps that are not counted: they fill what is kept ready."""


@dataclass(frozen=True)
class Row:
    """What is measured in one process.

    Attributes:
        kind: Of the data.
        spec: Where it is.
        workers: Processes that prepare batches.
        recipes: Whose steps are timed.
        steps: How many.
        read: Whether all samples are read first.
    """

    kind: str
    spec: str
    workers: int
    recipes: tuple[str, ...]
    steps: int
    read: bool


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument(
        "--recording", type=Path, help="folder with frames.json; a synthetic street by default"
    )
    parser.add_argument(
        "--kinds", nargs="+", default=["folder", "shards"], choices=["folder", "shards", "http"]
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--recipes", nargs="*", default=["unipad-fusion"], choices=list(RECIPES))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--steps-only", action="store_true", help="do not read all samples")
    parser.add_argument("--shard-mb", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.005, help="of the server, seconds")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        found = measured(place, chosen)
    finally:
        shutil.rmtree(place)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


def measured(place: Path, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """What was measured, a row for each data set and number of processes; told as they come."""
    rows: list[dict[str, Any]] = []

    def tell(row: dict[str, Any]) -> None:
        rows.append(row)
        print("; ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    specs = {"folder": f"folder:{listed(place / 'folder', chosen.recording, chosen.samples)}?outside=1"}
    if set(chosen.kinds) != {"folder"}:
        begin = time.perf_counter()
        told = Preparation(place / "shards", "folder", packed=True, size=chosen.shard_mb << 20)
        prepare_recording(open_data(specs["folder"]), told)
        size = sum(path.stat().st_size for path in (place / "shards").glob("*.tar"))
        seconds, count = round(time.perf_counter() - begin), len(list((place / "shards").glob("*.tar")))
        tell({"prepared": chosen.samples, "seconds": seconds, "shards": count, "megabytes": size >> 20})
        specs["shards"] = f"shards:{place / 'shards'}"
    with served(place / "shards", chosen.latency, "http" in chosen.kinds) as url:
        specs["http"] = f"shards:{url}"
        for kind in chosen.kinds:
            for workers in chosen.workers:
                row = Row(
                    kind, specs[kind], workers, tuple(chosen.recipes), chosen.steps, not chosen.steps_only
                )
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    tell(pool.submit(in_process, row).result())
    return rows


def listed(out: Path, recording: Path | None, samples: int) -> Path:
    """A folder that names the frames of a recording again and again, each time as another frame."""
    if recording is None:
        street = SyntheticStreet(FRAMES, image_size=(64, 96), frames_per_street=FRAMES, points_per_beam=100)
        recording = out.with_name("street")
        write_scene_folder(recording, [street[k] for k in range(FRAMES)], one_recording=True)
    index = json.loads((recording / "frames.json").read_text())
    frames = located(index["frames"], recording.resolve())
    for frame in frames:
        for stamp in ("timestamp_us", "timestamp_ns"):
            frame.pop(stamp, None)
    index["frames"] = [
        {**frames[k % len(frames)], "frame_id": k, "scene": f"part {k // 100}", "timestamp_s": k * 0.5}
        for k in range(samples)
    ]
    out.mkdir()
    (out / "frames.json").write_text(json.dumps(index))
    return out


def located(value: Any, folder: Path) -> Any:
    """The same content with the files that it names by their whole paths."""
    if isinstance(value, dict):
        return {
            key: str(folder / item) if key in NAMES_FILES and isinstance(item, str) else located(item, folder)
            for key, item in value.items()
        }
    return [located(item, folder) for item in value] if isinstance(value, list) else value


@contextmanager
def served(folder: Path, latency: float, wanted: bool) -> Iterator[str]:
    """The URL of a folder, served by a process of its own where it is wanted."""
    if not wanted:
        yield ""
        return
    script = Path(__file__).with_name("range_server.py")
    command = [sys.executable, str(script), str(folder), "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.terminate()
        process.wait()


def in_process(row: Row) -> dict[str, Any]:
    """What is measured of one data set with one number of processes."""
    set_start_method("fork", force=True)  # as in a run; a process that was spawned would spawn
    begin = time.perf_counter()
    data = open_data(row.spec)
    found = {"data": row.kind, "workers": row.workers, "opened": round(time.perf_counter() - begin, 2)}
    if row.read:
        found |= reading(data, row.workers)
    for name in row.recipes:
        found |= {name: waiting(row, name)}
    return found


def reading(data: SceneDataset, workers: int) -> dict[str, Any]:
    """Samples a second over one epoch, and the memory at its tenths."""
    batches = MicroBatches(data, len(data), seed=0, batch_size=1)
    memory, begin = [], time.perf_counter()
    for number, _ in enumerate(prefetch(batches, range(len(data)), workers), 1):
        if number % max(len(data) // 10, 1) == 0:
            memory.append(resident())
    return {"samples_per_second": round(len(data) / (time.perf_counter() - begin), 1), "megabytes": memory}


def resident() -> int:
    """Megabytes that this process and its children hold, pages of several counted once."""
    processes = [os.getpid()]
    for process in processes:
        children = Path(f"/proc/{process}/task/{process}/children")
        processes += map(int, children.read_text().split()) if children.exists() else ()
    total = 0
    for process in processes:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total // 1024


def waiting(row: Row, name: str) -> str:
    """How long a step of a recipe takes, and which share of it is spent waiting for the batch."""
    entry = RECIPES[name]
    settings = entry.presets["tiny"]
    data = open_data(row.spec, image_size=settings.image_size)
    recipe, optimization = entry.build(settings).train(), settings.optimization
    process = Process(0, 1, torch.device("cpu"))
    stepper = Stepper(recipe, build_optimizer(recipe, optimization), optimization, process, 0)
    batches = prefetch(MicroBatches(data, len(data), 0, 1), range(row.steps), row.workers)
    times, waits = [], []
    for step in range(1, row.steps + 1):
        begin = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - begin)
        stepper.read(stepper.take(step, iter([batch])))
        times.append(time.perf_counter() - begin)
    batches.close()
    times, waits = times[LEFT_OUT:], waits[LEFT_OUT:]
    return f"{1000 * statistics.mean(times):.0f} ms a step, {sum(waits) / sum(times):.1%} waiting"


if __name__ == "__main__":
    main()
