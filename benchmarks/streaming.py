"""Reading a recording from its folder and from shards: samples a second, memory, and how long a step waits.

``python benchmarks/streaming.py [--samples 10000] [--workers 0 2] [--json FILE]``

A synthetic street of ten frames is written as a folder, listed as often as asked, and prepared as shards.
Each sample is read once in the order of training; the memory of this process is noted at every tenth.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from renderpretrain.data import SceneDataset, SyntheticStreet, open_data, write_scene_folder
from renderpretrain.data.shards.writing import Preparation, prepare_recording
from renderpretrain.recipes import RECIPES
from renderpretrain.training import MicroBatches, Process, Stepper, build_optimizer
from renderpretrain.training.prefetch import prefetch

FRAMES = 10
"""Of the street."""

STEPS = 40
"""That are timed with data in between."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        found = measured(place, chosen.samples, chosen.workers)
    finally:
        shutil.rmtree(place)
    for row in found:
        print("; ".join(f"{name} {value}" for name, value in row.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


def measured(place: Path, samples: int, workers: list[int]) -> list[dict[str, Any]]:
    """What was measured, a row for each data set and number of processes."""
    street = SyntheticStreet(FRAMES, image_size=(128, 224), frames_per_street=FRAMES)
    write_scene_folder(place / "folder", [street[k] for k in range(FRAMES)], one_recording=True)
    index = json.loads((place / "folder" / "frames.json").read_text())
    index["frames"] = [
        {**index["frames"][k % FRAMES], "frame_id": k, "scene": f"part {k // 100}", "timestamp_s": k * 0.5}
        for k in range(samples)
    ]
    (place / "folder" / "frames.json").write_text(json.dumps(index))
    begin = time.perf_counter()
    told = Preparation(place / "shards", "folder", packed=True, size=256 << 20)
    prepare_recording(open_data(f"folder:{place / 'folder'}"), told)
    rows = [{"prepared": samples, "seconds": round(time.perf_counter() - begin, 1)}]
    for kind in ("folder", "shards"):
        begin = time.perf_counter()
        data = open_data(f"{kind}:{place / kind}")
        opening = round(time.perf_counter() - begin, 2)
        for count in workers:
            rows.append({"data": kind, "workers": count, "opening": opening, **reading(data, count)})
            rows[-1] |= waiting(data, count)
            print(rows[-1], flush=True)
    return rows


def reading(data: SceneDataset, workers: int) -> dict[str, Any]:
    """Samples a second over one epoch, and the resident memory of this process along it."""
    batches = MicroBatches(data, len(data), seed=0, batch_size=1)
    memory, begin = [], time.perf_counter()
    for number, _ in enumerate(prefetch(batches, range(len(data)), workers)):
        if number % max(len(data) // 10, 1) == 0:
            memory.append(resident())
    return {"samples_per_second": round(len(data) / (time.perf_counter() - begin), 1), "megabytes": memory}


def resident() -> int:
    """Megabytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def waiting(data: SceneDataset, workers: int) -> dict[str, Any]:
    """Median share of a step of ``unipad-fusion`` that is spent waiting for its batch."""
    entry = RECIPES["unipad-fusion"]
    settings = entry.presets["tiny"]
    recipe = entry.build(settings).train()
    process = Process(0, 1, torch.device("cpu"))
    stepper = Stepper(
        recipe, build_optimizer(recipe, settings.optimization), settings.optimization, process, 0
    )
    batches = prefetch(MicroBatches(data, len(data), 0, 1), range(STEPS), workers)
    shares = []
    for step in range(1, STEPS + 1):
        begin = time.perf_counter()
        batch = next(batches)
        there = time.perf_counter()
        stepper.read(stepper.take(step, iter([batch])))
        shares.append((there - begin) / (time.perf_counter() - begin))
    batches.close()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return {"waiting": f"{statistics.median(shares[5:]):.1%}", "workers_peak_megabytes": peak}


if __name__ == "__main__":
    main()
