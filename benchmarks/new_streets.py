"""Does what was found once hold on streets that nobody has looked at? Asked of several pre-training runs.

``python benchmarks/new_streets.py RUN [RUN ...] [--task detection] [--labeled 5] [--out FILE]``

``renderpretrain eval RUN --probe finetune --split test`` always scores the same synthetic streets, which by
now have been opened for many runs. Here streets are drawn from seeds that nothing else draws from, and every
run, a pre-training of its own, has its own labelled streets, heads and fresh weights, which follow from its
seed. Each is fine-tuned by the same fair protocol; then the seeds of all runs are taken together.

The plan, written down before one of these streets was drawn:

- Found before, once: after 2400 steps of pre-training ``render-distill-lidar`` gains 12.8 % (-1.3 to 26.9) in
  boxes with 5 labelled streets, one pre-training, ten seeds, 16 test streets. Fresh weights were cut off
  after 600 steps at a constant rate, when they were not done: what they lack may be a head start.
- Asked: the same of two pre-trainings (``--seed 100``, ``--seed 200``), ten seeds each, on 48 test streets,
  with up to 1200 steps at a constant rate, judged every 50.
- Changed when rates were being chosen and nothing was scored, for a training takes twice as long as was
  thought: the clock ends it, and as many seeds count as both runs have finished by then.
- The answer: yes, if the interval of the relative gain of both together lies above 0, and each run gains. It
  is reported as it comes out, with the curves, and these streets choose nothing afterwards.
- Fresh and pre-trained encoders alone are compared: a head on hand-made numbers read less than half as well.

What came out is kept in ``docs/results/new_streets.json``.

Finished trainings lie in each run's folder, so runs can be asked one by one, at once on several cores, and
then together.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from renderpretrain.cli.fair_probing import SEARCH_SEED
from renderpretrain.cli.fair_report import fair_record, fair_tables, how_sure, percents, save_curves
from renderpretrain.cli.printed import print_table
from renderpretrain.cli.probe_scenes import TASKS
from renderpretrain.cli.probing import unequal_starts
from renderpretrain.data import Scene
from renderpretrain.probes import FairPlan, ProbeScenes, Task, fine_tune_fairly
from renderpretrain.probes.fair import FairTrial, Outcome, PairedGain, Schedule, paired_gain
from renderpretrain.probes.fair.plan import FairArm
from renderpretrain.runs import RunDescription, read_run
from renderpretrain.storage import write_text

STREETS = {"train": (21, 60), "validation": (22, 8), "test": (23, 48)}
"""Seeds that synthetic streets are drawn from, and how many of each."""

EVERY = 50
"""Steps between evaluations."""


def main() -> None:
    asked = arguments()
    reads = [read_run(run).checked() for run in asked.runs]
    jobs = [read.description for read in reads]
    check_alike(asked, jobs, [read.step for read in reads])
    told: dict[str, Any] = {"task": asked.task, "labeled": asked.labeled, "streets": STREETS, "runs": {}}
    outcomes: list[Outcome] = []
    for run, read in zip(asked.runs, reads, strict=True):
        task, outcome, record = fine_tuned(run, read.description, read.weights, asked)
        told["runs"][run.name] = {"seed": read.description.seed, "step": read.step, **record}
        outcomes.append(outcome)
    gain = together(task, outcomes)
    told["together"] = asdict(gain)
    scores = f"{gain.before:.4f} to {gain.after:.4f}, {percents(gain.relative)}"
    told["of"] = f"{gain.seeds} seeds of {len(outcomes)} pre-trainings, and says nothing of another one"
    print(f"together: {scores}; of {told['of']}")
    write_text(asked.out, json.dumps(told, indent=1) + "\n")
    print(f"numbers    {asked.out}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--task", default="detection", choices=("detection", "semseg"))
    parser.add_argument("--labeled", type=int, default=5, help="streets with labels")
    parser.add_argument("--seeds", type=int, default=10, help="of each run")
    parser.add_argument("--search-seeds", type=int, default=2, help="of each run")
    parser.add_argument("--steps", type=int, default=1200, help="at a constant rate at most")
    parser.add_argument("--out", type=Path, default=Path("runs") / "new_streets.json")
    return parser.parse_args()


def check_alike(asked: argparse.Namespace, jobs: Sequence[RunDescription], steps: Sequence[int]) -> None:
    """Runs that are taken together are the same recipe, pre-trained anew; no seed counts twice.

    Raises:
        SystemExit: If they are not, or two folders have one name.
    """
    first = jobs[0]
    for run, job, step in zip(asked.runs, jobs, steps, strict=True):
        if (job.recipe, job.config, step) != (first.recipe, first.config, steps[0]):
            raise SystemExit(f"{run}: expected recipe, settings and steps of {asked.runs[0]}, got others")
    seeds = Counter(job.seed + i for job in jobs for i in range(asked.seeds))
    names = Counter(run.name for run in asked.runs)
    for what, counted in (("seeds", seeds), ("names", names)):
        twice = [str(each) for each, count in counted.items() if count > 1]
        if twice:
            raise SystemExit(f"runs: expected {what} of their own, got {', '.join(twice)} more than once")


def fine_tuned(
    run: Path, job: RunDescription, weights: dict[str, Tensor], asked: argparse.Namespace
) -> tuple[Task, Outcome, dict[str, Any]]:
    """One run by the fair protocol, and what is written down of it."""
    scenes = ProbeScenes(**{part: drawn(job, *count) for part, count in STREETS.items()})
    task = replace(TASKS[asked.task](scenes, job.build(), "all"), handmade=None)
    plan = FairPlan(
        task,
        labeled=(asked.labeled,),
        seeds=tuple(range(job.seed, job.seed + asked.seeds)),
        search_seeds=tuple(job.seed + SEARCH_SEED + i for i in range(asked.search_seeds)),
        lrs=(1e-3, 4e-3),
        encoder_rates=(1.0,),
        schedule=Schedule(every=min(EVERY, asked.steps), longest=asked.steps),
    )

    def say(trial: FairTrial, known: bool) -> None:
        scored = f", {task.metric} {trial.scores[task.metric]:.4f}" if trial.scores else ""
        at = f"{run.name}: {trial.job.arm}, {trial.job.role} {trial.job.seed}, lr {trial.job.setting.lr:g}"
        best = f"{trial.course.steps} steps, validation {trial.course.best:.4f}"
        print(f"{at}: {best}{scored}{' (done before)' if known else ''}", flush=True)

    outcomes = fine_tune_fairly(plan, scenes, job.build, weights, say, run / "new-streets")
    for header, rows in fair_tables(plan, outcomes, "finetune"):
        print_table(header, rows)
    notes = [*unequal_starts(job), *task.notes, *how_sure(plan, outcomes)]
    for note in notes:
        print(f"note: {note}", flush=True)
    save_curves(run / f"new_streets-{asked.task}.png", plan, outcomes, job.title)
    return task, outcomes[0], {"notes": notes, **fair_record(plan, scenes, outcomes, "finetune")}


def drawn(job: RunDescription, seed: int, count: int) -> list[Scene]:
    """Synthetic streets as the run's sensors see them."""
    scenes = job.prepare(job.open_raw("synthetic", count=count, seed=seed))
    return [scenes[i] for i in range(count)]


def together(task: Task, outcomes: Sequence[Outcome]) -> PairedGain:
    """The gain of pre-trained over fresh encoders, the seeds of all runs as one sample.

    All runs are scored on the same streets. Seeds of one run share a pre-training, and are counted as if each
    had its own: the interval is that of these pre-trainings.
    """

    def seen(arm: FairArm) -> list[tuple[Tensor, ...]]:
        return [trial.sums for outcome in outcomes for trial in outcome.finals(arm)]

    return paired_gain(seen("scratch"), seen("pretrained"), task.score, task.less_is_better)


if __name__ == "__main__":
    main()
