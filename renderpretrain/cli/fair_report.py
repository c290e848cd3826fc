"""What fair fine-tuning leaves to look at: a table with intervals, reasons for doubt, a record and curves."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from renderpretrain.probes import FairPlan, ProbeScenes, Spread
from renderpretrain.probes.fair import FairTrial, Interval, Outcome, Setting
from renderpretrain.viz import ScoreLine, ScorePanel, save_score_lines

NAMES = {"scratch": "scratch", "pretrained": "pre-trained"}
"""Of the arms, for readers."""


def fair_table(plan: FairPlan, outcomes: Sequence[Outcome], mode: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one line for each number of labelled scenes."""
    header = [
        f"{plan.task.metric}, {mode}",
        "scratch",
        "pre-trained",
        "gain [95 %]",
        "relative [95 %]",
        "steps",
        "scratch's rates",
        "pre-trained's",
    ]
    rows = []
    for outcome in outcomes:
        steps = sorted(trial.course.steps for trial in outcome.finals("scratch"))
        arms = [_spread(plan, outcome.finals(arm)) for arm in ("scratch", "pretrained")]
        rows.append(
            [
                f"{outcome.labeled} scenes",
                *(f"{arm.mean:.4f} ± {arm.deviation:.4f}" for arm in arms),
                _interval(outcome.gain.gain, 1, ".4f"),
                _interval(outcome.gain.relative, 100, ".1f") + " %",
                f"{steps[0]} to {steps[-1]}" if steps[0] < steps[-1] else str(steps[0]),
                _rates(outcome.scratch),
                _rates(outcome.pretrained),
            ]
        )
    return header, rows


def how_sure(plan: FairPlan, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader has to know who wants to doubt the table: a line each."""
    notes = []
    for outcome in outcomes:
        finals = outcome.finals("scratch")
        going = [str(trial.job.seed) for trial in finals if not trial.course.converged]
        where = f"{outcome.labeled} labelled scenes"
        if going:
            notes.append(
                f"{where}: scratch still improved after {plan.schedule.longest} steps with "
                f"{len(going)} of {len(finals)} seeds ({', '.join(going)}); raise --steps"
            )
        for arm, setting in (("scratch", outcome.scratch), ("pretrained", outcome.pretrained)):
            if len(plan.lrs) > 1 and setting.lr in (min(plan.lrs), max(plan.lrs)):
                notes.append(
                    f"{where}: the best rate of {NAMES[arm]}, {setting.lr:g}, is at the edge of the grid; "
                    "widen --rates"
                )
        gain = outcome.gain
        if gain.seeds < 2 or gain.scenes < 2:
            notes.append(
                f"{where}: {gain.seeds} seeds and {gain.scenes} scored scenes or streets, of which one alone "
                "says nothing of others: the interval leaves them out"
            )
    return notes


def fair_record(
    plan: FairPlan, scenes: ProbeScenes, outcomes: Sequence[Outcome], mode: str
) -> dict[str, Any]:
    """Everything that table and curves are made from, as JSON has it."""
    task = plan.task
    return {
        "task": task.name,
        "mode": mode,
        "metric": task.metric,
        "less_is_better": task.less_is_better,
        "labels": "scenes",
        "seeds": list(plan.seeds),
        "search_seeds": list(plan.search_seeds),
        "grid": [asdict(setting) for setting in plan.settings],
        "schedule": asdict(plan.schedule),
        "weight_decay": plan.weight_decay,
        "places": plan.places,
        "scored_places": plan.scored_places,
        "scenes": [scene.name for scene in scenes.train],
        "validation_scenes": [scene.name for scene in scenes.validation],
        "split": "test" if scenes.test else "validation",
        "scored_scenes": [scene.name for scene in scenes.scored],
        "table": [_line(plan, len(scenes.train), outcome) for outcome in outcomes],
        "trials": [_trial(plan, trial) for outcome in outcomes for trial in outcome.trials],
    }


def save_curves(path: Path, plan: FairPlan, outcomes: Sequence[Outcome], title: str) -> None:
    """Draw the validation curves of all final trainings, and say where."""
    panels = [
        ScorePanel(
            f"{title}\n{outcome.labeled} labelled scenes",
            f"{plan.task.metric}, validation",
            [
                ScoreLine(
                    NAMES[trial.job.arm], _curve(plan, trial), trial.course.kept, trial.course.constant_steps
                )
                for trial in (*outcome.finals("scratch"), *outcome.finals("pretrained"))
            ],
        )
        for outcome in outcomes
    ]
    try:
        typer.echo(f"plot       {save_score_lines(path, panels)}")
    except ValueError as error:
        typer.echo(f"no plot    {error}")


def _line(plan: FairPlan, count: int, outcome: Outcome) -> dict[str, Any]:
    """A line of the table, in the words of the linear probe's, and what is more."""
    before, after = (outcome.finals(arm) for arm in ("scratch", "pretrained"))
    metric = plan.task.metric
    differences = Spread.of([b.scores[metric] - a.scores[metric] for a, b in zip(before, after, strict=True)])
    spreads = (_spread(plan, before), _spread(plan, after), differences)
    widest = max(spread.deviation for spread in spreads)
    return {
        "fraction": outcome.labeled / count,
        "labelled": outcome.labeled,
        **{name: asdict(s) for name, s in zip(("scratch", "pretrained", "difference"), spreads, strict=True)},
        "relative": differences.mean / spreads[0].mean if spreads[0].mean else float("inf"),
        "deviations": differences.mean / widest if widest else None,
        "gain": _finite(asdict(outcome.gain)),
        "rates": {"scratch": asdict(outcome.scratch), "pretrained": asdict(outcome.pretrained)},
    }


def _trial(plan: FairPlan, trial: FairTrial) -> dict[str, Any]:
    """A training, its validation scores in the metric's own sense."""
    course = asdict(trial.course)
    course["curve"] = [[step, _number(score)] for step, score in _curve(plan, trial)]
    return {**asdict(trial.job), **course, "scores": trial.scores}


def _curve(plan: FairPlan, trial: FairTrial) -> list[tuple[int, float]]:
    """Steps and scores, less of which may be better."""
    sign = -1 if plan.task.less_is_better else 1
    return [(step, sign * score) for step, score in trial.course.curve]


def _spread(plan: FairPlan, trials: Sequence[FairTrial]) -> Spread:
    """Over the seeds."""
    return Spread.of([trial.scores[plan.task.metric] for trial in trials])


def _interval(interval: Interval, scale: int, digits: str) -> str:
    """A mean and its interval, with signs."""
    mean, low, high = (f"{scale * x:+{digits}}" for x in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def _rates(setting: Setting) -> str:
    """What was chosen for an arm."""
    return f"{setting.lr:g}" + (f", encoders x {setting.encoder_rate:g}" if setting.encoder_rate else "")


def _number(value: float) -> float | None:
    """What JSON can hold of a number."""
    return value if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    """Numbers in dictionaries that JSON can hold."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return _number(value) if isinstance(value, float) else value
