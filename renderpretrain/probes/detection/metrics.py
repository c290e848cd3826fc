"""How detections are judged: as the nuScenes benchmark does it (nuscenes-devkit 1.1.11, eval/detection).

A detection is a hit if, among the true boxes of its class and scene that no surer detection took, the nearest
centre seen from above is nearer than a threshold. Average precision is the mean over recalls of 0.11 to 1 of
how much of the precision exceeds 0.1, divided by 0.9: perfect detections have 1. Errors of hits are
cumulative means along the recall, and the mean of those.

A scene is matched alone (:func:`matched`), and scores are made of the rows of any scenes together, so that
scenes can be drawn again and again. One thing is decided differently: a class that no scene has does not
count, where nuScenes gives it 0.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

DISTANCES = (0.5, 1.0, 2.0, 4.0)
"""Thresholds of the centre distance, metres; average precision is a mean over them."""

ERROR_DISTANCE = 2.0
"""The threshold of the hits whose errors are measured, metres."""

RECALLS = np.linspace(0, 1, 101)
"""Where the precision is read off, linearly between detections."""

FIRST = 11
"""Recalls up to 0.1 do not count."""

LEAST_PRECISION = 0.1
"""Precision up to here does not count."""

HALF_TURN = ("barrier",)
"""Words in the names of classes whose front is their back."""

ROUND = ("cone", "bollard", "pylon")
"""Words in the names of classes without a heading."""

ERRORS = ("ate", "ase", "aoe")
"""Of translation in metres, of size (1 - IoU of aligned boxes), of orientation in radians."""

TRUTH = -1.0
"""What stands in place of a score in the row of a box that is there."""

COLUMNS = 2 + len(DISTANCES) + len(ERRORS)
"""Of a row: label, score, whether it is a hit at each threshold, and the errors of a hit within 2 m."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Detections of one class over all scenes at one threshold.

    Attributes:
        precision: At the recalls of :data:`RECALLS`; 0 beyond the last that was reached.
        confidence: Score of the detection there, likewise.
    """

    precision: Float[np.ndarray, "101"]
    confidence: Float[np.ndarray, "101"]

    @property
    def average_precision(self) -> float:
        """Mean of what exceeds a precision of 0.1, beyond a recall of 0.1; 1 for perfect detections."""
        above = np.maximum(self.precision[FIRST:] - LEAST_PRECISION, 0.0)
        return float(above.mean()) / (1 - LEAST_PRECISION)


def matched(
    truth: Float[Tensor, "K 8"], found: Float[Tensor, "D 9"], class_names: Sequence[str]
) -> Float[Tensor, "M 9"]:
    """All that scores need to know of a scene: a row for every box, and for every detection.

    Args:
        truth: Boxes that count: centre, size, heading, label.
        found: Detections: likewise, and how sure each is.
        class_names: By label; a barrier looks alike from both sides, and a cone from all.

    Returns:
        Label, score (:data:`TRUTH` for a box that is there), hits at each of :data:`DISTANCES`, and errors of
        hits within 2 m.
    """
    there, said = truth.double().cpu().numpy(), found.double().cpu().numpy()
    rows = np.zeros((len(there) + len(said), COLUMNS))
    rows[: len(there), 0], rows[: len(there), 1] = there[:, 7], TRUTH
    rows[len(there) :, 0], rows[len(there) :, 1] = said[:, 7], said[:, 8]
    for label, name in enumerate(class_names):
        mine, own = there[there[:, 7] == label], np.flatnonzero(said[:, 7] == label)
        # Of equal scores the last comes first, as in the devkit.
        order = own[np.argsort(said[own, 8], kind="stable")[::-1]]
        for k, distance in enumerate(DISTANCES):
            partners = _partners(mine, said[order], distance)
            hits, taken = order[partners >= 0], mine[partners[partners >= 0]]
            rows[len(there) + hits, 2 + k] = 1
            if distance == ERROR_DISTANCE:
                rows[len(there) + hits, -len(ERRORS) :] = _errors(taken, said[hits], _period(name))
    return torch.from_numpy(rows)


def precision_recall(rows: Float[Tensor, "M 9"], label: int, distance: float) -> PrecisionRecall:
    """Precision and score of one class's detections at fixed recalls.

    Args:
        rows: Of :func:`matched`, of all that is scored.
        label: The class.
        distance: One of :data:`DISTANCES`.
    """
    return _curve(*_of_class(rows.numpy(), label), distance)


def mean_errors(rows: Float[Tensor, "M 9"], label: int) -> dict[str, float]:
    """Errors of one class's hits within 2 m: cumulative means, from a recall of 0.11 to the last reached.

    1 where that is less.

    Args:
        rows: Of :func:`matched`, of all that is scored.
        label: The class.
    """
    found, count = _of_class(rows.numpy(), label)
    confidence = _curve(found, count, ERROR_DISTANCE).confidence
    reached = np.flatnonzero(confidence)
    last = int(reached[-1]) if len(reached) else 0
    if last < FIRST:
        return dict.fromkeys(ERRORS, 1.0)
    hits = found[found[:, 2 + DISTANCES.index(ERROR_DISTANCE)] > 0]
    means = np.cumsum(hits[:, -len(ERRORS) :], 0) / np.arange(1, len(hits) + 1)[:, None]
    # Scores fall along the hits; np.interp wants them to rise.
    curves = (np.interp(confidence[::-1], hits[::-1, 1], column[::-1])[::-1] for column in means.T)
    return {name: float(curve[FIRST : last + 1].mean()) for name, curve in zip(ERRORS, curves, strict=True)}


def mean_average_precision(rows: Float[Tensor, "M 9"], classes: int) -> float:
    """The ``map`` of :func:`detection_scores` alone, for those who draw scenes again and again.

    Args:
        rows: Of :func:`matched`, of all that is scored.
        classes: How many there are.
    """
    numbers, found = rows.numpy(), []
    for label in range(classes):
        mine, count = _of_class(numbers, label)
        if count:
            found.append(_mean(_curve(mine, count, d).average_precision for d in DISTANCES))
    return _mean(found) if found else 0.0


def detection_scores(rows: Float[Tensor, "M 9"], class_names: Sequence[str]) -> dict[str, float]:
    """Average precision and errors, over the classes and of each.

    Classes of which there is no box are left out.

    Args:
        rows: Of :func:`matched`, of all that is scored.
        class_names: By label.

    Returns:
        ``map``, the mean over classes and thresholds, 0 where there is no box at all; ``ap@0.5`` and so on,
        at a threshold; ``ate`` in metres, ``ase`` and ``aoe`` in radians, over the classes; and ``ap/NAME``,
        ``ate/NAME`` and so on of each class.
    """
    there = set(rows[rows[:, 1] == TRUTH, 0].tolist())
    per_class = {
        name: _class_scores(rows, label, name) for label, name in enumerate(class_names) if label in there
    }
    if not per_class:
        return {"map": 0.0}
    totals = {"map": _mean(found["ap"] for found in per_class.values())}
    for key in next(iter(per_class.values())):
        if key != "ap":
            totals[key] = _mean(found[key] for found in per_class.values())
    kept = ("ap", *ERRORS)
    each = {f"{key}/{name}": found[key] for name, found in per_class.items() for key in kept}
    return {key: value for key, value in (totals | each).items() if not math.isnan(value)}


def _class_scores(rows: Float[Tensor, "M 9"], label: int, name: str) -> dict[str, float]:
    """Average precision at every threshold and over them, and the errors; NaN for one that means nothing."""
    found = {f"ap@{d:g}": precision_recall(rows, label, d).average_precision for d in DISTANCES}
    found["ap"] = _mean(found.values())
    found |= mean_errors(rows, label)
    return found if _period(name) else found | {"aoe": math.nan}


def _mean(values: Iterable[float]) -> float:
    """Of the numbers that mean something; NaN if none does."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _period(name: str) -> float:
    """After what angle a class looks the same; 0 for one without a heading."""
    lower = name.lower()
    if any(word in lower for word in ROUND):
        return 0.0
    return math.pi if any(word in lower for word in HALF_TURN) else 2 * math.pi


def _of_class(rows: np.ndarray, label: int) -> tuple[np.ndarray, int]:
    """The rows of a class's detections, the surest first, and how many boxes there are."""
    mine = rows[rows[:, 0] == label]
    found = mine[mine[:, 1] != TRUTH]
    # Of equal scores the last comes first, as in the devkit.
    return found[np.argsort(found[:, 1], kind="stable")[::-1]], len(mine) - len(found)


def _curve(found: np.ndarray, count: int, distance: float) -> PrecisionRecall:
    """Precision and score at fixed recalls."""
    hits = np.cumsum(found[:, 2 + DISTANCES.index(distance)])
    if not len(hits) or not hits[-1]:
        return PrecisionRecall(np.zeros(len(RECALLS)), np.zeros(len(RECALLS)))
    recall, precision = hits / count, hits / np.arange(1, len(hits) + 1)
    return PrecisionRecall(
        np.interp(RECALLS, recall, precision, right=0), np.interp(RECALLS, recall, found[:, 1], right=0)
    )


def _partners(truth: np.ndarray, found: np.ndarray, distance: float) -> np.ndarray:
    """Which box each detection takes, the surest first; -1 where none is near."""
    partners = np.full(len(found), -1)
    away = np.hypot(found[:, None, 0] - truth[None, :, 0], found[:, None, 1] - truth[None, :, 1])
    for k in range(len(found) if len(truth) else 0):
        nearest = int(away[k].argmin())
        if away[k, nearest] < distance:
            partners[k] = nearest
            away[:, nearest] = np.inf
    return partners


def _errors(truth: np.ndarray, found: np.ndarray, period: float) -> np.ndarray:
    """Of every hit: metres from above, 1 - IoU of the boxes laid onto each other, radians."""
    both = np.minimum(truth[:, 3:6], found[:, 3:6]).prod(1)
    union = truth[:, 3:6].prod(1) + found[:, 3:6].prod(1) - both
    turn = period or 2 * math.pi
    angle = np.abs((truth[:, 6] - found[:, 6] + turn / 2) % turn - turn / 2)
    return np.stack([np.hypot(*(truth[:, :2] - found[:, :2]).T), 1 - both / union, angle], 1)
