"""Does pre-training pay? Pre-trains every recipe, probes it, and writes one table and one plot, in hours.

``python benchmarks/proof.py [--quick] [--jobs N] [--out runs/proof] [--only NAME ...] [--modes MODE ...]``

Every line of the table is made by two commands, which it names: ``renderpretrain pretrain`` and
``renderpretrain eval --probe``. A run that is there is used, one that was interrupted is resumed, and a probe
that is in the run's ``probe.json`` is not repeated. Experiments share the cores: as many at a time as there
are, with an equal part of the threads. Recordings have a proof of their own, ``recordings.py``.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from renderpretrain.cli.probing import read_records
from renderpretrain.runs import newest_checkpoint
from renderpretrain.storage import write_text
from renderpretrain.viz import Curve, Panel, save_label_curves

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEACHER, MAPS = "teacher", "maps"
"""In the folder of the proof: the teacher of the example, and what it says."""


@dataclass(frozen=True)
class Probe:
    """One line's probe: flags of ``eval`` beside ``--probe`` and ``--task``."""

    task: str
    mode: str = "linear"
    flags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name in ``probe.json``."""
        split = self.flags[self.flags.index("--split") + 1] if "--split" in self.flags else "validation"
        return f"{self.task}/{self.mode}" + ("" if split == "validation" else f"/{split}")


@dataclass(frozen=True)
class Experiment:
    """A run and its probes.

    Attributes:
        name: Of its folder and of its lines.
        recipe: That is pre-trained.
        steps: So many.
        probes: Asked one after the other.
        flags: Of ``pretrain``.
        taught: Whether the maps of ``examples/own_teacher.py`` are told, which are made first.
    """

    name: str
    recipe: str
    steps: int
    probes: tuple[Probe, ...]
    flags: tuple[str, ...] = ()
    taught: bool = False


NEAR = ("--set", "point_cloud_range=[-12.8, -12.8, -4.0, 12.8, 12.8, 4.8]")
"""A box in which a step takes half a second, so that 600 of them take minutes."""

TOLD = ("--scenes", "200", "--set", "teacher.points=50", "--set", "teacher.rendered=0")
"""Features of an image network that has learned classes of other streets, at points; nothing rendered."""

UNMASKED = ("--set", "mask.ratio=0")
"""Nothing hidden from the encoder of points."""

STREETS = ("--scenes", "60", "--test-scenes", "16", "--split", "test")
"""Test streets, scored once; the first of them with labels are 1, 5, 20 and all 60."""

FROZEN = ("--labels", "0.0167,0.0834,0.334,1.0", "--seeds", "3", *STREETS)
TRAINED = ("--labels", "1,5,20,60", "--seeds", "5", "--search-seeds", "3", "--rates", "1e-3,4e-3", *STREETS)
LIDAR = (
    *(Probe(task, "linear", FROZEN) for task in ("semseg", "detection")),
    *(Probe(task, mode, TRAINED) for task in ("semseg", "detection") for mode in ("finetune", "decoder")),
)
"""The triple of the field, frozen, decoder alone and all, on both tasks."""

FEW_SCENES = ("--labels", "0.05,0.25,1.0", "--seeds", "3", "--scenes", "40", "--test-scenes", "12")
"""Scenes with pictures take a second each."""

SEMSEG = (Probe("semseg", flags=(*FEW_SCENES, "--split", "test")),)
CAMERA = tuple(Probe(task, flags=(*FEW_SCENES, "--split", "test")) for task in ("depth", "occupancy"))
ONE_SETTING = {"--rates": "2e-3", "--search-seeds": "1", "--labels": "1,2"}
"""Training without a search; a decoder alone has no rate of the encoder."""

EXPERIMENTS = (
    Experiment("unipad-lidar", "unipad-lidar", 600, LIDAR, NEAR),
    Experiment("unipad-lidar-unmasked", "unipad-lidar", 600, LIDAR, (*NEAR, *UNMASKED)),
    Experiment("ponder-outdoor", "ponder-outdoor", 600, LIDAR, NEAR),
    Experiment("ns-mae", "ns-mae", 600, LIDAR, ("--set", "modality=lidar", *NEAR)),
    Experiment("render-distill-lidar", "render-distill-lidar", 600, LIDAR, NEAR),
    Experiment(
        "render-distill-lidar-taught",
        "render-distill-lidar",
        600,
        LIDAR,
        (*NEAR, *UNMASKED, *TOLD),
        taught=True,
    ),
    Experiment("unipad-camera", "unipad-camera", 200, CAMERA),
    Experiment("uniscene", "uniscene", 200, CAMERA),
    Experiment("render-distill-camera", "render-distill-camera", 200, CAMERA),
    Experiment("unipad-fusion", "unipad-fusion", 200, SEMSEG),
    Experiment("render-distill-fusion", "render-distill-fusion", 200, SEMSEG),
    Experiment("ponder-indoor", "ponder-indoor", 200, SEMSEG),
)
QUICK = {"unipad-lidar": 12, "unipad-camera": 8, "ponder-indoor": 8}
"""Experiments of the quick form and their steps: it shows that the path works; its numbers say nothing."""


def main() -> None:
    asked = arguments()
    began = time.time()
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        for found in pool.map(lambda experiment: carry_out(experiment, asked), chosen(asked)):
            rows += found
            write(asked, rows, time.time() - began)
    print((asked.out / "proof.md").read_text())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="minutes, and numbers that say nothing")
    parser.add_argument("--out", type=Path, help="runs/proof, or runs/proof-quick")
    parser.add_argument("--only", nargs="*", default=None, help="names of experiments")
    modes = ("linear", "finetune", "decoder")
    parser.add_argument("--modes", nargs="*", default=modes, choices=modes, help="of probes; the rest later")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=1 if torch.cuda.is_available() else cores)
    asked = parser.parse_args()
    asked.jobs = max(1, min(asked.jobs, len(chosen(asked))))
    asked.threads = max(1, cores // asked.jobs)
    asked.out = asked.out or Path("runs") / ("proof-quick" if asked.quick else "proof")
    return asked


def chosen(asked: argparse.Namespace) -> list[Experiment]:
    """What the user asked for, in the order of the table."""
    known = [e.name for e in EXPERIMENTS]
    for name in asked.only or []:
        if name not in known:
            raise SystemExit(f"--only: expected some of {', '.join(known)}, got {name}")
    names = asked.only or (list(QUICK) if asked.quick else known)
    return [e for e in EXPERIMENTS if e.name in names]


def carry_out(experiment: Experiment, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Pre-train and probe, unless that was done; one row per probe and fraction.

    Raises:
        SystemExit: If what is there was pre-trained for another number of steps.
    """
    run = asked.out / experiment.name
    steps = QUICK.get(experiment.name, 8) if asked.quick else experiment.steps
    pretrain = ["pretrain", experiment.recipe, "--steps", str(steps), "--out", str(run), *experiment.flags]
    if asked.quick:
        pretrain += ["--scenes", "8", "--holdout", "1"]
    pretrain += ["--set", f"teacher.maps={asked.out / MAPS}"] if experiment.taught else []
    train(experiment, pretrain, asked)
    rows = []
    for probe in experiment.probes:
        flags = dict(zip(probe.flags[::2], probe.flags[1::2], strict=True))
        if asked.quick:
            flags |= {"--seeds": "2", "--steps": "10", "--scenes": "8", "--test-scenes": "2"}
            flags |= {} if probe.mode == "linear" else ONE_SETTING
            flags |= {"--encoder-rates": "1"} if probe.mode == "finetune" else {}
        evaluate = ["eval", str(run), "--probe", probe.mode, "--task", probe.task]
        evaluate += [part for pair in flags.items() for part in pair]
        record = recorded(run, probe, evaluate, steps)
        if record is None:
            if probe.mode not in asked.modes:
                continue
            call(experiment.name, evaluate, asked.threads)
            record = remember(run, probe, evaluate)
        rows += [row(experiment, record, line, (pretrain, evaluate)) for line in record["table"]]
    return rows


def train(experiment: Experiment, pretrain: list[str], asked: argparse.Namespace) -> None:
    """Pre-train, or go on with it, unless that was done."""
    checkpoints = asked.out / experiment.name / "checkpoints"
    if (checkpoints / "final.pt").is_file():
        return
    if experiment.taught:
        teach(experiment, asked)
    resume = ["--resume"] if newest_checkpoint(checkpoints) else []
    call(experiment.name, [*pretrain, *resume], asked.threads)


def teach(experiment: Experiment, asked: argparse.Namespace) -> None:
    """Train the teacher of the example, unless that was done, and write its maps of the run's streets."""
    folder = asked.out / TEACHER
    folder.mkdir(exist_ok=True)
    if not (folder / "teacher.pt").is_file():
        steps = ["10", "4"] if asked.quick else []
        call(experiment.name, [str(EXAMPLES / "own_teacher.py"), *steps], asked.threads, folder)
    flags = dict(zip(experiment.flags[::2], experiment.flags[1::2], strict=True))
    maps = ["data", "maps", str((asked.out / MAPS).resolve()), "--teacher", "own_teacher:teacher"]
    maps += ["--recipe", experiment.recipe, "--scenes", flags["--scenes"], *NEAR]
    call(experiment.name, maps, asked.threads, folder)


def call(name: str, parts: list[str], threads: int, folder: Path | None = None) -> None:
    """Run a verb, or an example, on so many threads; what it says is shown behind the experiment's name.

    Args:
        name: The experiment's.
        parts: Behind ``renderpretrain``; of an example, its file and what is behind that.
        threads: So many.
        folder: Where the user stands; examples can be imported there.

    Raises:
        SystemExit: If it failed.
    """
    print(f"{name}: $ {command(parts)}", flush=True)
    program = [] if parts[0].endswith(".py") else ["-m", "renderpretrain"]
    with subprocess.Popen(
        [sys.executable, *program, *parts],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for said in process.stdout or ():
            print(f"{name}: {said}", end="", flush=True)
    if process.returncode:
        sys.exit(f"{name}: failed: {command(parts)}")


def python_path() -> str:
    """Where Python looks for modules: the examples, and where it has looked before."""
    return os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))


def command(parts: list[str]) -> str:
    """As a user types it."""
    return shlex.join(["python" if parts[0].endswith(".py") else "renderpretrain", *parts])


def recorded(run: Path, probe: Probe, evaluate: list[str], steps: int) -> dict[str, Any] | None:
    """What ``probe.json`` holds of a probe that was asked by this command; ``None`` if by another or not yet.

    Raises:
        SystemExit: If what is there was pre-trained for another number of steps.
    """
    record = read_records(run / "probe.json").get(probe.key)
    if record is not None and record["step"] != steps:
        sys.exit(f"{run}: was pre-trained for {record['step']} steps, not {steps}; name another --out")
    return record if record is not None and record.get("command") == evaluate else None


def remember(run: Path, probe: Probe, parts: list[str]) -> dict[str, Any]:
    """Note beside a probe's numbers how they were made."""
    records = read_records(run / "probe.json")
    records[probe.key]["command"] = parts
    write_text(run / "probe.json", json.dumps(records, indent=1) + "\n")
    return records[probe.key]


def row(
    experiment: Experiment, record: dict[str, Any], line: dict[str, Any], commands: tuple[list[str], ...]
) -> dict[str, Any]:
    """One line of the table."""
    kept = ("task", "mode", "metric", "less_is_better", "labels", "seeds", "step")
    return {
        "experiment": experiment.name,
        **{key: record[key] for key in kept},
        **line,
        "scenes": len(record["scenes"]),
        "test_scenes": len(record["scored_scenes"]),
        "commands": [command(parts) for parts in commands],
    }


def write(asked: argparse.Namespace, rows: list[dict[str, Any]], seconds: float) -> None:
    """The table for people and for programs, and the plot."""
    out = asked.out
    about = {
        "seconds": round(seconds),
        "jobs": asked.jobs,
        "threads": asked.threads,
        "cpus": os.cpu_count(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
    }
    numbers = {**about, "rows": rows}
    write_text(out / "proof.json", json.dumps(numbers, indent=1) + "\n")
    write_text(out / "proof.md", table(rows, about))
    panels = [panel([r for r in rows if key(r) == k]) for k in dict.fromkeys(map(key, rows))]
    if panels:
        save_label_curves(out / "proof.png", panels)


def table(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Markdown: a line per fraction, then the commands."""
    lines = [
        "| experiment | probe | labels | scratch | hand-made | pre-trained | pre-trained + hand-made "
        "| difference | gain | deviations | over hand-made |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        in_deviations = "-" if r["deviations"] is None else f"{r['deviations']:.1f}"
        over = "-" if r["relative_to_handmade"] is None else f"{100 * r['relative_to_handmade']:+.1f} %"
        added = "" if r["added_to_handmade"] is None else f", {100 * r['added_to_handmade']:+.1f} % added"
        lines.append(
            f"| {r['experiment']}, {r['step']} steps | {r['task']} {r['mode']}, {metric(r)} "
            f"| {100 * r['fraction']:g} % ({r['labelled']} {r['labels']}) | {spread(r['scratch'])} "
            f"| {spread(r['handmade'])} | {spread(r['pretrained'])} | {spread(r['pretrained_handmade'])} "
            f"| {spread(r['difference'], '+')} | {100 * r['relative']:+.1f} % | {in_deviations} "
            f"| {over}{added} |"
        )
    commands = dict.fromkeys(c for r in rows for c in r["commands"])
    note = (
        "Means and standard deviations over the seeds, of one pre-training run each: they do not say what "
        "pre-training from another seed would give. `gain`: as a share of scratch, above 0 where pre-training"
        " helps, `deviations`: the same in units of the largest deviation of scratch, pre-trained and their "
        "difference. `hand-made`: what is known without a network, alone; `over hand-made`: what pre-trained "
        "encoders have over that, and what they add to it."
    )
    made = (
        f"The last call took {about['seconds'] / 60:.0f} minutes, {about['jobs']} experiments at a time, "
        f"torch {about['torch']}."
    )
    return "\n".join([*lines, "", note, made, "", "```", *commands, "```", ""])


def spread(value: dict[str, float] | None, sign: str = "") -> str:
    """A mean and its deviation."""
    return "-" if value is None else f"{value['mean']:{sign}.3f} ± {value['deviation']:.3f}"


def metric(r: dict[str, Any]) -> str:
    """What is counted, and which way it is better."""
    return f"{r['metric']} (less is better)" if r["less_is_better"] else str(r["metric"])


def key(r: dict[str, Any]) -> tuple[str, str, str]:
    """What a panel shows."""
    return r["experiment"], r["task"], r["mode"]


def panel(rows: list[dict[str, Any]]) -> Panel:
    """One experiment's probe over the labels."""
    experiment, task, mode = key(rows[0])
    curves = [
        Curve(name, [r[arm]["mean"] for r in rows], [r[arm]["deviation"] for r in rows])
        for name, arm in (("scratch", "scratch"), ("pre-trained", "pretrained"), ("hand-made", "handmade"))
        if all(r[arm] is not None for r in rows)
    ]
    return Panel(f"{experiment}: {task}, {mode}", metric(rows[0]), [r["fraction"] for r in rows], curves)


if __name__ == "__main__":
    main()
