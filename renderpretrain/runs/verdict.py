"""What a run has learned, in sentences that follow from what it has measured: no number of them is new."""

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from renderpretrain.runs.collapse import CollapseWatch, advice_of
from renderpretrain.runs.metrics import Change, changes, direction_of, unit_of
from renderpretrain.runs.record import RunRecord
from renderpretrain.runs.settings import dotted

Tone = Literal["better", "worse", "open", "warning"]
"""``open``: what was measured does not say."""

DEPTHS = {
    "depth_in_blocks_abs_rel": "Depth in hidden blocks",
    "depth_between_beams_abs_rel": "Depth at hidden beams",
    "depth_abs_rel": "Depth",
}
"""Scores of depth, the hardest first."""

HIDDEN = tuple(DEPTHS)[:2]
"""Those of returns that were not given: both are told, any depth only where neither was measured."""

OTHERS = {"psnr": "Colour", "semantic_miou": "Classes", "occupancy_iou": "Occupancy"}
"""Scores that are told beside it."""

SHORT = {"abs_rel": "AbsRel", "psnr": "PSNR", "miou": "mIoU", "iou": "IoU"}
"""How the names of these scores end, and what they are called."""

OF_ROWS = {
    "best_row": "the best fixed value of each image row",
    "row_median": "the median of each image row",
    "baseline": "the mean of each image row",
}
"""Predictors that know a picture's row alone; the strongest of them is told."""

NEAREST = "the nearest input point"

STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Quantile at 97.5 % of so many seeds; of more of them that of ten, which is hardly larger than theirs."""

GAINS: dict[Tone, str] = {"better": "better", "worse": "worse", "open": "no clear difference"}
"""What pre-trained encoders are beside fresh ones."""

TRY = (
    "fresh weights did better: pre-train for more steps, compare with more --seeds; the page 'What an "
    "encoder is worth' of the documentation says how"
)
"""What to do where pre-training did harm."""


@dataclass(frozen=True)
class Finding:
    """One sentence on a run.

    Attributes:
        words: Without a full stop.
        tone: Whether that is good.
    """

    words: str
    tone: Tone


def verdict(record: RunRecord) -> list[Finding]:
    """What a run has learned: depth and colour on held-out scenes, what its features are worth, warnings."""
    return [
        *_on_held_out(record),
        *_of_features(record),
        *(Finding(sentence, "warning") for sentence in collapses(record)),
    ]


def _on_held_out(record: RunRecord) -> Iterator[Finding]:
    """Depth where it was not given, and the other scores."""
    found = {change.metric: change for change in changes(record.measured)}
    measured = [metric for metric in DEPTHS if metric in found]
    depths = [metric for metric in measured if metric in HIDDEN] or measured
    for metric in [*depths, *(metric for metric in OTHERS if metric in found)]:
        evaluations = sum(f"eval/{metric}" in row for row in record.measured)
        yield _of_score(found[metric], evaluations)
    if not found:
        held_out = record.tree.get("holdout")
        why = "not measured yet" if held_out else "there are none; --holdout N leaves N scenes to measure on"
        yield Finding(f"Held-out scenes: {why}", "open")


def _of_score(change: Change, evaluations: int) -> Finding:
    """What a score was before and is now, beside predictors that learn no geometry."""
    metric, sign = change.metric, direction_of(change.metric)
    less_or_more = "more" if sign > 0 else "less"
    title = f"{(DEPTHS | OTHERS)[metric]}, held out: {_short_name(metric)}"
    unit = f" {unit_of(metric)}" if unit_of(metric) else ""
    if evaluations < 2:
        words = f"{title} {_digits(change.after)}{unit} ({less_or_more} is better), measured once so far"
        return Finding(words, "open")
    words = f"{title} {_digits(change.before)} -> {_digits(change.after)}{unit} ({less_or_more} is better)"
    beside = _rivals(change, sign)
    beaten = [f"{name} ({_digits(v)})" for name, v in beside.items() if sign * (change.after - v) > 0]
    others = [f"{name} ({_digits(v)})" for name, v in beside.items() if sign * (change.after - v) <= 0]
    said = [f"better than {' and '.join(beaten)}"] if beaten else []
    said += [f"not yet better than {' and '.join(others)}"] if others else []
    is_worse = sign * (change.after - change.before) < 0
    said = ["worse than before training", *said] if is_worse else said
    tone: Tone = "worse" if is_worse else "open" if others else "better"
    return Finding(f"{words}: {', '.join(said)}" if said else words, tone)


def _rivals(change: Change, sign: int) -> dict[str, float]:
    """The strongest predictor by rows and the nearest point, those that were asked, in words."""
    by_row = {name: value for name, value in change.beside.items() if name in OF_ROWS}
    strongest = sorted(by_row, key=lambda name: -sign * by_row[name])[:1]
    found = {OF_ROWS[name]: by_row[name] for name in strongest}
    if "nearest_point" in change.beside:
        found[NEAREST] = change.beside["nearest_point"]
    return found


def _of_features(record: RunRecord) -> Iterator[Finding]:
    """What each probe found, or how to ask one."""
    if not record.probes:
        ask = f"renderpretrain eval {shlex.quote(str(record.folder.path))} --probe linear"
        yield Finding(f"Features: not probed; `{ask}` says what they are worth", "open")
    for key, probe in record.probes.items():
        try:
            found = _of_probe(key, probe)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            found = Finding(f"Features, {key}: what the probe has left cannot be read", "open")
        if found is not None:
            yield found


def _of_probe(key: str, probe: Mapping[str, Any]) -> Finding | None:
    """Pre-trained beside fresh weights with the fewest and with the most labels; ``None`` before a result."""
    lines: Sequence[Mapping[str, Any]] = probe.get("table") or ()
    if not lines:
        return None
    shown = [*lines[:1], *lines[1:][-1:]]
    less_is_better, seeds = bool(probe.get("less_is_better")), len(probe.get("seeds") or (0,))
    told = {gain_of(line, seeds) for line in shown}
    parts = [_of_labels(line, seeds, less_is_better, first=k == 0) for k, line in enumerate(shown)]
    beaten = [gain_over_handmade(line, seeds, less_is_better) for line in shown]
    is_ahead = told == {"better"} and all(gain in (None, "better") for gain in beaten)
    tone: Tone = "better" if is_ahead else "open"
    if "worse" in told and "better" not in told:
        tone = "worse"
    less_or_more = "less" if less_is_better else "more"
    words = f"Features, {key} ({probe.get('metric')}, {less_or_more} is better): {'; '.join(parts)}"
    if len(probe.get("seeds", ())) == 1:
        words += "; of one seed, which says little"
    return Finding(f"{words}; {TRY}" if tone == "worse" else words, tone)


def _of_labels(line: Mapping[str, Any], seeds: int, less_is_better: bool, *, first: bool) -> str:
    """One line of a probe's table."""
    gain = GAINS[gain_of(line, seeds)]
    beaten = gain_over_handmade(line, seeds, less_is_better)
    if beaten is not None:
        handmade = _digits(line["handmade"]["mean"])
        said = {"better": "better than", "worse": "worse than"}.get(beaten, "no clear difference from")
        gain += f", {said} hand-made numbers alone ({handmade})"
    scratch, pretrained = (_digits(line[arm]["mean"]) for arm in ("scratch", "pretrained"))
    fresh = f"beside {scratch} of fresh weights" if first else f"beside {scratch}"
    return f"{pretrained} {fresh} with {100 * line['fraction']:.3g} % of the labels: {gain}"


def gain_over_handmade(line: Mapping[str, Any], seeds: int, less_is_better: bool) -> Tone | None:
    """Whether features say more than hand-made numbers; ``None`` where there are none.

    The gain has to be clear of the larger deviation of both; see :func:`gain_of`.
    """
    if not line.get("handmade"):
        return None
    ours, theirs = line["pretrained"], line["handmade"]
    gained = (-1 if less_is_better else 1) * (float(ours["mean"]) - float(theirs["mean"]))
    unclear = _clear_from(seeds) * max(float(arm.get("deviation") or 0.0) for arm in (ours, theirs))
    return "better" if gained > unclear else "worse" if gained < -unclear else "open"


def gain_of(line: Mapping[str, Any], seeds: int) -> Tone:
    """Whether pre-trained encoders were better than fresh ones on one line of a probe's table.

    With an interval of the gain it must not hold 0; without one the gain has to exceed Student's interval at
    95 %, in the larger of the deviations of seeds and of either arm; one seed has neither, and its sign
    decides.
    """
    low, high = _interval(line, seeds)
    return "better" if low > 0 else "worse" if high < 0 else "open"


def _interval(line: Mapping[str, Any], seeds: int) -> tuple[float, float]:
    """Between which numbers, above 0 where pre-trained is better, the gain lies."""
    gain = (line.get("gain") or {}).get("gain") or {}
    if gain.get("low") is not None and gain.get("high") is not None:
        return float(gain["low"]), float(gain["high"])
    if line.get("deviations") is not None:
        either_side = _clear_from(seeds)
        return float(line["deviations"]) - either_side, float(line["deviations"]) + either_side
    return float(line["relative"]), float(line["relative"])


def _clear_from(seeds: int) -> float:
    """From how many deviations on a mean of so many seeds is clear; 0 for one, which has no deviation."""
    return STUDENT[min(seeds, max(STUDENT))] / math.sqrt(seeds) if seeds > 1 else 0.0


def collapses(record: RunRecord) -> list[str]:
    """When an encoder began to collapse, or to learn from one term alone, as the run said then."""
    rows = sorted([*record.measured, *record.with_gradients], key=lambda row: row["step"])
    try:
        watch = CollapseWatch(advice_of(dict(dotted(record.tree.get("config", {})))))
        return [f"step {row['step']}: {said}" for row in rows for said in watch.update(row)]
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return [f"whether encoders collapse is not known: {type(error).__name__}: {error}"]


def _short_name(metric: str) -> str:
    """What a score is called among people."""
    return next((name for end, name in SHORT.items() if metric.endswith(end)), metric)


def _digits(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"
