"""How detections are judged: as the nuScenes benchmark does it (nuscenes-devkit 1.1.11, eval/detection).

A detection is a hit if, among the true boxes of its class and scene that no surer detection took, the nearest
centre seen from above is nearer than a threshold. Average precision is the mean over recalls of 0.11 to 1 of
how much of the precision exceeds 0.1, divided by 0.9: perfect detections have 1. Errors of hits are
cumulative means along the recall, and the mean of those.

One thing is decided differently: a class that no test scene has does not count, where nuScenes gives it 0.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from renderpretrain.data import Boxes

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


@dataclass(frozen=True)
class SceneResult:
    """What a scene has, and what was found in it.

    Attributes:
        truth: The boxes that count; none is padding.
        found: Detections, likewise.
        scores: How sure each detection is.
    """

    truth: Boxes
    found: Boxes
    scores: Float[Tensor, " K"]


@dataclass(frozen=True)
class PrecisionRecall:
    """Detections of one class over all scenes at one threshold.

    Attributes:
        precision: At the recalls of :data:`RECALLS`; 0 beyond the last that was reached.
        confidence: Score of the detection there, likewise.
        errors: Cumulative means over the hits there, by name; 1 throughout where there is no hit.
    """

    precision: Float[np.ndarray, "101"]
    confidence: Float[np.ndarray, "101"]
    errors: dict[str, Float[np.ndarray, "101"]]

    @property
    def average_precision(self) -> float:
        """Mean of what exceeds a precision of 0.1, beyond a recall of 0.1; 1 for perfect detections."""
        above = np.maximum(self.precision[FIRST:] - LEAST_PRECISION, 0.0)
        return float(above.mean()) / (1 - LEAST_PRECISION)

    def error(self, name: str) -> float:
        """Mean from a recall of 0.11 to the last that was reached; 1 where that is less."""
        reached = np.flatnonzero(self.confidence)
        last = int(reached[-1]) if len(reached) else 0
        return float(self.errors[name][FIRST : last + 1].mean()) if last >= FIRST else 1.0


@dataclass(frozen=True)
class _Class:
    """Boxes of one class: of every scene the true ones, and all detections, the surest first."""

    truth: list[Float[np.ndarray, "_ 7"]]
    found: Float[np.ndarray, "D 7"]
    scores: Float[np.ndarray, " D"]
    scene: list[int]
    period: float

    @property
    def count(self) -> int:
        """How many true boxes there are."""
        return sum(map(len, self.truth))


def precision_recall(
    scenes: Sequence[SceneResult], label: int, distance: float, period: float = 2 * math.pi
) -> PrecisionRecall:
    """Match the detections of a class, the surest first, and read precision and errors off at fixed recalls.

    Args:
        scenes: All that is scored.
        label: The class.
        distance: A hit is nearer than this, metres.
        period: Of the heading, radians: a full turn, or half of one for what looks alike from both sides.
    """
    return _curve(_of_class(scenes, label, period), distance)


def detection_scores(scenes: Sequence[SceneResult], class_names: Sequence[str]) -> dict[str, float]:
    """Average precision and errors, over the classes and of each.

    Classes that no scene has are left out.

    Args:
        scenes: All that is scored.
        class_names: By label.

    Returns:
        ``map``, the mean over classes and thresholds; ``ap@0.5`` and so on, at a threshold; ``ate`` in
        metres, ``ase`` and ``aoe`` in radians, over the classes; and ``ap/NAME``, ``ate/NAME`` and so on of
        each class.

    Raises:
        ValueError: If no scene has a box of any class.
    """
    per_class: dict[str, dict[str, float]] = {}
    for label, name in enumerate(class_names):
        boxes = _of_class(scenes, label, _period(name))
        if boxes.count:
            per_class[name] = _class_scores(boxes)
    if not per_class:
        raise ValueError(
            f"test: expected boxes of {', '.join(class_names) or 'some class'} in a scene, found none"
        )
    totals = {"map": _mean(found["ap"] for found in per_class.values())}
    for key in next(iter(per_class.values())):
        if key != "ap":
            totals[key] = _mean(found[key] for found in per_class.values())
    kept = ("ap", *ERRORS)
    each = {f"{key}/{name}": found[key] for name, found in per_class.items() for key in kept}
    return {key: value for key, value in (totals | each).items() if not math.isnan(value)}


def _class_scores(boxes: _Class) -> dict[str, float]:
    """Average precision at every threshold and over them, and the errors; NaN for one that means nothing."""
    curves = {distance: _curve(boxes, distance) for distance in DISTANCES}
    found = {f"ap@{distance:g}": curve.average_precision for distance, curve in curves.items()}
    found["ap"] = _mean(found.values())
    for name in ERRORS:
        round_ = name == "aoe" and not boxes.period
        found[name] = math.nan if round_ else curves[ERROR_DISTANCE].error(name)
    return found


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


def _of_class(scenes: Sequence[SceneResult], label: int, period: float) -> _Class:
    """One class's boxes as numbers: centre, size, heading."""
    truth = [_rows(scene.truth)[_is(scene.truth, label)] for scene in scenes]
    mine = [_is(scene.found, label) for scene in scenes]
    found = [_rows(scene.found)[rows] for scene, rows in zip(scenes, mine, strict=True)]
    scores = [scene.scores.double().cpu().numpy()[rows] for scene, rows in zip(scenes, mine, strict=True)]
    where = [i for i, rows in enumerate(found) for _ in range(len(rows))]
    if not where:
        return _Class(truth, np.zeros((0, 7)), np.zeros(0), [], period)
    flat = np.concatenate(scores)
    # Of equal scores the last comes first, as in the devkit.
    order = np.argsort(flat, kind="stable")[::-1]
    return _Class(truth, np.concatenate(found)[order], flat[order], [where[i] for i in order], period)


def _is(boxes: Boxes, label: int) -> Bool[np.ndarray, " K"]:
    """Which boxes are of a class."""
    return (boxes.labels == label).cpu().numpy()


def _rows(boxes: Boxes) -> Float[np.ndarray, "K 7"]:
    """Centre, size and heading of boxes."""
    parts = [part.double().cpu().numpy() for part in (boxes.centers, boxes.sizes, boxes.yaws[:, None])]
    return np.concatenate(parts, 1)


def _curve(boxes: _Class, distance: float) -> PrecisionRecall:
    """Precision, score and errors at fixed recalls."""
    partners = _partners(boxes, distance)
    hit = np.array([partner is not None for partner in partners], bool)
    if not hit.any():
        nothing = np.zeros(len(RECALLS))
        return PrecisionRecall(nothing, nothing, {name: np.ones(len(RECALLS)) for name in ERRORS})
    hits = np.cumsum(hit)
    recall, precision = hits / boxes.count, hits / np.arange(1, len(hits) + 1)
    confidence = np.interp(RECALLS, recall, boxes.scores, right=0)
    truth = np.stack([partner for partner in partners if partner is not None])
    errors, own = _errors(truth, boxes.found[hit], boxes.period), boxes.scores[hit]
    counts = np.arange(1, len(own) + 1)
    return PrecisionRecall(
        np.interp(RECALLS, recall, precision, right=0),
        confidence,
        {
            # Scores fall along the hits; np.interp wants them to rise.
            name: np.interp(confidence[::-1], own[::-1], (np.cumsum(error) / counts)[::-1])[::-1]
            for name, error in errors.items()
        },
    )


def _partners(boxes: _Class, distance: float) -> list[np.ndarray | None]:
    """The true box that each detection takes, the surest first; ``None`` where none is near."""
    free = [np.ones(len(rows), bool) for rows in boxes.truth]
    partners: list[np.ndarray | None] = []
    for found, scene in zip(boxes.found, boxes.scene, strict=True):
        truth = boxes.truth[scene]
        away = np.hypot(*(truth[:, :2] - found[:2]).T)
        away = np.where(free[scene], away, np.inf)
        nearest = int(away.argmin()) if len(away) else -1
        if nearest < 0 or not away[nearest] < distance:
            partners.append(None)
            continue
        free[scene][nearest] = False
        partners.append(truth[nearest])
    return partners


def _errors(
    truth: Float[np.ndarray, "H 7"], found: Float[np.ndarray, "H 7"], period: float
) -> dict[str, Float[np.ndarray, " H"]]:
    """Of every hit: metres from above, 1 - IoU of the boxes laid onto each other, radians."""
    both = np.minimum(truth[:, 3:6], found[:, 3:6]).prod(1)
    union = truth[:, 3:6].prod(1) + found[:, 3:6].prod(1) - both
    turn = period or 2 * math.pi
    angle = np.abs((truth[:, 6] - found[:, 6] + turn / 2) % turn - turn / 2)
    return {
        "ate": np.hypot(*(truth[:, :2] - found[:, :2]).T),
        "ase": 1 - both / union,
        "aoe": angle,
    }
