"""What fair fine-tuning leaves to look at: a table with intervals, reasons for doubt, a record and curves."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import typer

from renderpretrain.cli.probe_report import score_title
from renderpretrain.probes import FairPlan, ProbeScenes, Spread, Trial, compare
from renderpretrain.probes.fair import FairTrial, Interval, Outcome, Setting
from renderpretrain.probes.fair.plan import FairArm
from renderpretrain.viz import ScoreLine, ScorePanel, save_score_lines

NAMES: dict[FairArm, str] = {"scratch": "scratch", "pretrained": "pre-trained", "handmade": "hand-made"}
"""Of the arms, for readers."""

CLOSE = 0.1
"""Rates whose validation scores differ by less of the better one may change places with other seeds.

One seed chose a rate for scratch that was ahead by 0.5 %; with the other rate scratch came to a fifth more on
test scenes, and what had looked like a gain of pre-training was gone.
"""


def fair_tables(
    plan: FairPlan, outcomes: Sequence[Outcome], mode: str
) -> list[tuple[list[str], list[list[str]]]]:
    """Header and rows: one line for each number of labelled scenes; and the same beside hand-made numbers."""
    title = score_title(plan.task, mode)
    beside = [outcome for outcome in outcomes if outcome.over_handmade is not None]
    tables = [_table(plan, outcomes, title, "scratch")]
    return tables + ([_table(plan, beside, f"{title}, beside hand-made", "handmade")] if beside else [])


def _table(
    plan: FairPlan, outcomes: Sequence[Outcome], title: str, before: FairArm
) -> tuple[list[str], list[list[str]]]:
    """Pre-trained encoders beside what an arm has."""
    header = [title, NAMES[before], "pre-trained", "gain [95 %]", "relative [95 %]", "steps"]
    header += [f"{NAMES[before]}'s rates", "pre-trained's"]
    rows = []
    for outcome in outcomes:
        steps = sorted(trial.course.steps for trial in outcome.finals("scratch"))
        arms: tuple[FairArm, ...] = (before, "pretrained")
        spreads = [_spread(plan, outcome.finals(arm)) for arm in arms]
        gain = outcome.over_handmade if before == "handmade" else outcome.gain
        gains = [] if gain is None else [_interval(gain.gain, 1, ".4f"), percents(gain.relative)]
        rows.append(
            [
                f"{outcome.labeled} scenes",
                *(f"{spread.mean:.4f} ± {spread.deviation:.4f}" for spread in spreads),
                *gains,
                f"{steps[0]} to {steps[-1]}" if steps[0] < steps[-1] else str(steps[0]),
                *(_rates(outcome.settings[arm]) for arm in arms),
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
            schedule = plan.schedule
            patience = schedule.every * schedule.waits(schedule.longest // schedule.every)
            notes.append(
                f"{where}: scratch was cut off after {schedule.longest} steps, before {patience} had brought "
                f"no gain, with {len(going)} of {len(finals)} seeds ({', '.join(going)}); raise --steps"
            )
        for arm, setting in outcome.settings.items():
            if len(plan.lrs) > 1 and setting.lr in (min(plan.lrs), max(plan.lrs)):
                notes.append(
                    f"{where}: the best rate of {NAMES[arm]}, {setting.lr:g}, is at the edge of the grid; "
                    "widen --rates"
                )
            notes += [f"{where}: {doubt}" for doubt in _close_rates(plan, outcome, arm)]
        gain = outcome.gain
        if gain.seeds < 2 or gain.scenes < 2:
            notes.append(
                f"{where}: {gain.seeds} seeds and {gain.scenes} scored scenes or streets, of which one alone "
                "says nothing of others: the interval leaves them out"
            )
    return notes


def _close_rates(plan: FairPlan, outcome: Outcome, arm: FairArm) -> list[str]:
    """Which other rates did nearly as well as an arm's chosen ones, if any did: a line at most."""
    found: dict[Setting, list[float]] = {}
    for trial in outcome.trials:
        if (trial.job.role, trial.job.arm) == ("search", arm):
            found.setdefault(trial.job.setting, []).append(trial.course.best)
    means = {setting: fmean(scores) for setting, scores in found.items()}
    best = outcome.settings[arm]
    close = [
        _rates(setting)
        for setting, mean in means.items()
        if setting != best and means[best] - mean < CLOSE * abs(means[best])
    ]
    if not close:
        return []
    rivals, seeds = " and ".join(close), len(plan.search_seeds)
    return [
        f"the rate of {NAMES[arm]}, {_rates(best)}, is ahead of {rivals} by less than {100 * CLOSE:g} % with "
        f"--search-seeds {seeds}: other seeds may choose otherwise, and the gain be another; raise it"
    ]


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
        "grid": [asdict(setting) for setting in plan.settings("scratch")],
        "schedule": asdict(plan.schedule),
        "weight_decay": plan.weight_decay,
        "places": plan.places,
        "scored_places": plan.scored_places,
        "scenes": [scene.name for scene in scenes.train],
        "validation_scenes": [scene.name for scene in scenes.validation[: plan.validation_scenes]],
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
            score_title(plan.task, "validation"),
            [
                ScoreLine(
                    NAMES[trial.job.arm], _curve(plan, trial), trial.course.kept, trial.course.constant_steps
                )
                for arm in outcome.settings
                for trial in outcome.finals(arm)
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
    trials = [
        Trial(arm, outcome.labeled / count, outcome.labeled, trial.job.seed, trial.scores)
        for arm in outcome.settings
        for trial in outcome.finals(arm)
    ]
    (line,) = compare(trials, plan.task.metric, plan.task.less_is_better)
    return {
        **asdict(line),
        "gain": _finite(asdict(outcome.gain)),
        "over_handmade": None if outcome.over_handmade is None else _finite(asdict(outcome.over_handmade)),
        "rates": {arm: asdict(setting) for arm, setting in outcome.settings.items()},
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


def percents(interval: Interval) -> str:
    """A share and its interval, in percent."""
    return _interval(interval, 100, ".1f") + " %"


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
