"""Does pre-training pay on recordings? Streets that were driven, each scored by what the others teach.

``python benchmarks/recordings.py --realdata FOLDER [--only RECIPE ...] [--steps 300] [--out FOLDER]``

Every recipe is pre-trained by ``renderpretrain pretrain`` on three streets without labels: PandaSet's but for
its far part, and two of KITTI's; and once more, ``elsewhere``, on KITTI's alone, another sensor in another
city. Classes of PandaSet's points are probed by ``renderpretrain eval`` on the far part of the drive. Boxes
are asked for in labelled KITTI streets, of which no recipe has learned: each is scored once by heads that
were trained on the others, one of which chooses settings; intervals are of a paired bootstrap over seeds and
streets. A run that is there, its classes and what was fine-tuned, is used.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import proof
import torch
from torch import Tensor

from renderpretrain.data import Scene
from renderpretrain.geometry import VoxelGrid
from renderpretrain.probes import (
    Budget,
    Example,
    FairPlan,
    Plan,
    ProbeScenes,
    Task,
    Trial,
    fine_tune_fairly,
    run_probe,
)
from renderpretrain.probes.detection import bev_grid, counted_boxes, detection
from renderpretrain.probes.fair import FairTrial, Interval, PairedGain, Schedule, paired_gain
from renderpretrain.recipes.recipe import HasGrid, lacking
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.storage import write_text

DRIVE = "folder:{}/pandaset_002_sequence?sensor_origin=0,0,1.71"
"""28 frames; where the sensor is, its words do not say."""

KITTI = ("folder:{}/kitti_sequence", "folder:{}/lidar_street_b")
LEARNED = {"": ((DRIVE, *KITTI), 27), "-elsewhere": (KITTI, 2)}
"""Behind a recipe's name: streets without labels, and how many last frames are held out, by turns."""

LABELLED = tuple(f"folder:{{}}/{name}" for name in ("kitti_streets", "kitti_000001", "kitti_000008"))
"""Six single frames of six KITTI streets, whose boxes are labelled in front of the car."""

RECIPES = ("unipad-lidar", "render-distill-lidar")
BOX = ("--set", "point_cloud_range=[-25.6, -25.6, -4.0, 25.6, 25.6, 4.8]")
SEMSEG = {
    "linear": ("--labels", "0.05,0.2,1.0", "--seeds", "3"),
    "finetune": ("--labels", "1,5", "--seeds", "5", "--rates", "2e-3", "--encoder-rates", "1"),
}
"""Of PandaSet's near frames, so many with labels; everything is trained at one rate, which nobody chose."""

LEAST = 0.01
"""A score below says that nothing was found, and a gain over it says nothing relatively."""

SEEDS = (0, 1, 2, 3, 4)
SCORED = ("--test-scenes", "4", "--split", "test")
"""Of the drive's last frames, of which no run has learned: with four of validation and one between, nine."""


def main() -> None:
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    for recipe, where in product(asked.only or RECIPES, LEARNED):
        run = asked.out / f"{recipe}{where}"
        words, held_out = LEARNED[where]
        data = "+".join(word.format(asked.realdata) for word in words)
        flags = ["--holdout", str(held_out), "--steps", str(asked.steps), "--out", str(run), *BOX]
        experiment = proof.Experiment(run.name, recipe, asked.steps, probes=())
        proof.train(experiment, ["pretrain", recipe, "--data", data, *flags], asked)
        for mode in asked.modes:
            classes(run, mode, asked)
            found = boxes(run, mode, asked)
            write_text(run / f"detection-{mode}.json", json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--realdata", type=Path, required=True, help="folder that holds the recordings")
    parser.add_argument("--only", nargs="*", help="recipes")
    parser.add_argument("--modes", nargs="*", default=tuple(SEMSEG), choices=tuple(SEMSEG))
    parser.add_argument("--steps", type=int, default=300, help="of pre-training")
    parser.add_argument("--most", type=int, default=100, help="steps of fine-tuning at most, at one rate")
    parser.add_argument("--fit", type=int, default=200, help="steps of heads on frozen encoders")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("runs") / "recordings")
    return parser.parse_args()


def classes(run: Path, mode: str, asked: argparse.Namespace) -> None:
    """Classes of points on the far part of the drive, by the command line, unless that was done."""
    flags = [*SEMSEG[mode], "--data", DRIVE.format(asked.realdata), *SCORED]
    flags += ["--steps", str(asked.most)] if mode == "finetune" else []
    probe = proof.Probe("semseg", mode, ("--split", "test"))
    evaluate = ["eval", str(run), "--probe", mode, "--task", "semseg", *flags]
    if proof.recorded(run, probe, evaluate, asked.steps) is None:
        proof.call(run.name, evaluate, asked.threads)
        proof.remember(run, probe, evaluate)


def boxes(run: Path, mode: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Detection, street by street: every arm's score over all streets, and what the pre-trained one gains."""
    read = read_run(run).checked()
    job = read.description
    recipe = job.build()
    if not isinstance(recipe, HasGrid):
        raise lacking(recipe, HasGrid, "detection")
    grid = bev_grid(recipe.grid)
    streets = labelled_streets(job, asked.realdata, grid)
    task = detection({"train": streets}, grid)
    parts = [probed(task, fold, job, read.weights, mode, asked) for fold in folds(streets)]
    seen = {arm: [[part[arm][i] for part in parts] for i in range(len(SEEDS))] for arm in parts[0]}
    told: dict[str, Any] = {"step": read.step, "streets": [scene.name for scene in streets]}
    for arm, by_seed in seen.items():
        told[arm] = [task.score(street) for street in by_seed]
        said = ", ".join(f"{score:.3f}" for score in told[arm])
        print(f"{run.name}, detection {mode}, {arm}: {task.metric} {said}")
    for arm in ("scratch", "handmade"):
        gain = paired_gain(seen[arm], seen["pretrained"], task.score)
        told[f"over {arm}"] = asdict(gain)
        print(f"{run.name}, detection {mode}, over {arm}: {percents(gain)}", flush=True)
    return told


def labelled_streets(job: RunDescription, realdata: Path, grid: VoxelGrid) -> list[Scene]:
    """The frame of every street that has boxes on the map.

    All boxes are of one class: six frames have too few of any, and every folder numbers its own.
    """
    found = []
    for data in LABELLED:
        scenes = job.prepare(job.open_raw(data.format(realdata), count=None))
        for scene in (scenes[i] for i in range(len(scenes))):
            boxes = scene.boxes and replace(scene.boxes, labels=torch.ones_like(scene.boxes.labels))
            found.append(replace(scene, boxes=boxes, class_names=("nothing", "object")))
    return [scene for scene in found if len(counted_boxes(scene, (1,), grid).rows)]


def folds(streets: Sequence[Scene]) -> list[ProbeScenes]:
    """Every street is scored in one of them; the next one chooses settings, and the rest teach."""
    count = len(streets)
    turned = [[streets[(first + i) % count] for i in range(count)] for first in range(count)]
    return [ProbeScenes(rest, [validation], [test]) for test, validation, *rest in turned]


def probed(
    task: Task,
    scenes: ProbeScenes,
    job: RunDescription,
    weights: dict[str, Tensor],
    mode: str,
    asked: argparse.Namespace,
) -> dict[str, list[Tensor]]:
    """By arm and seed, what is said of the test street; seeds have their own heads and fresh weights."""
    seen: dict[str, list[Tensor]] = {}
    if mode == "linear":

        def say(trial: Trial, example: Example) -> None:
            seen.setdefault(trial.arm, []).append(task.sums(example.outputs, example.places.answers))

        plan = Plan(task, fractions=(1.0,), seeds=SEEDS, budget=Budget(steps=asked.fit))
        run_probe(plan, scenes, job.build, weights, say)
        return seen

    def learned(trial: FairTrial, known: bool) -> None:
        if trial.job.role == "final":
            seen.setdefault(trial.job.arm, []).append(trial.sums[0])

    schedule = Schedule(every=min(Schedule.every, asked.most), longest=asked.most)
    count = len(scenes.train)
    fair = FairPlan(task, labeled=(count,), seeds=SEEDS, lrs=(2e-3,), encoder_rates=(1.0,), schedule=schedule)
    fine_tune_fairly(fair, scenes, job.build, weights, learned, asked.out / "fine-tuning")
    return seen


def percents(gain: PairedGain) -> str:
    """A gain, and what it is relatively, with the ends of their intervals."""

    def said(part: Interval, factor: int) -> str:
        return f"{factor * part.mean:+.3g} [{factor * part.low:+.3g}, {factor * part.high:+.3g}]"

    relative = f", {said(gain.relative, 100)} %" if gain.before > LEAST else ""
    return f"{said(gain.gain, 1)}{relative}"


if __name__ == "__main__":
    main()
