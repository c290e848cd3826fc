"""The metric beside a slow restatement, the devkit's own worked examples, and cases computed by hand."""

import bisect
import math
import random

import pytest
import torch

from renderpretrain.probes.detection.metrics import (
    DISTANCES,
    ERRORS,
    detection_scores,
    matched,
    mean_average_precision,
    mean_errors,
    precision_recall,
)

NAMES = ("car", "barrier", "traffic_cone", "bus")


def box(x, y=0.0, size=(4.0, 2.0, 1.5), yaw=0.0, label=0, score=None):
    return (x, y, 0.0, *size, yaw, label), score


def rows(truth=(), found=()):
    """A scene's rows, of boxes and of scored boxes."""
    said = [(*row, score) for row, score in found]
    return matched(
        torch.tensor([row for row, _ in truth], dtype=torch.float64).reshape(-1, 8),
        torch.tensor(said, dtype=torch.float64).reshape(-1, 9),
        NAMES,
    )


def interpolate(x, known, values, right):
    """What numpy.interp documents: linear between known places, which rise; of equal ones the last."""
    if x < known[0]:
        return values[0]
    place = bisect.bisect_right(known, x) - 1
    if place == len(known) - 1:
        return values[-1] if x == known[-1] or right is None else right
    share = (x - known[place]) / (known[place + 1] - known[place])
    return values[place] + share * (values[place + 1] - values[place])


def slow_errors(truth, found, period):
    sizes = list(zip(truth[3:6], found[3:6], strict=True))
    both = math.prod(min(pair) for pair in sizes)
    union = math.prod(a for a, _ in sizes) + math.prod(b for _, b in sizes) - both
    turn = math.fmod(truth[6] - found[6], period)
    away = min(abs(turn + k * period) for k in (-1, 0, 1))
    return {"ate": math.dist(truth[:2], found[:2]), "ase": 1 - both / union, "aoe": away}


def slow_matches(scenes, label, distance, period):
    """Scores of all detections, the surest first; whether each is a hit; and the errors of the hits."""
    said = [(s, i, b) for i, (_, found) in enumerate(scenes) for b, s in found if b[7] == label]
    order = sorted(range(len(said)), key=lambda k: (said[k][0], k), reverse=True)
    taken, scores, hits, errors = set(), [], [], []
    for score, i, found in (said[k] for k in order):
        free = [
            (math.dist(b[:2], found[:2]), j)
            for j, (b, _) in enumerate(scenes[i][0])
            if b[7] == label and (i, j) not in taken
        ]
        hit = bool(free) and min(free)[0] < distance
        scores.append(score), hits.append(hit)
        if hit:
            taken.add((i, min(free)[1]))
            errors.append(slow_errors(scenes[i][0][min(free)[1]][0], found, period))
    return scores, hits, errors


def slow(scenes, label, distance, period):
    """Average precision and errors, in loops: scenes are pairs of boxes and scored boxes."""
    scores, hits, errors = slow_matches(scenes, label, distance, period)
    positives = sum(b[7] == label for truth, _ in scenes for b, _ in truth)
    if not any(hits):
        return 0.0, dict.fromkeys(ERRORS, 1.0)
    recall = [sum(hits[:k]) / positives for k in range(1, len(hits) + 1)]
    precision = [sum(hits[:k]) / k for k in range(1, len(hits) + 1)]
    at = [
        k * 0.01 for k in range(101)
    ]  # rounded as by linspace: at a recall with several detections it matters
    above = [max(interpolate(r, recall, precision, 0.0) - 0.1, 0.0) for r in at[11:]]
    sure = [interpolate(r, recall, scores, 0.0) for r in at]
    last = max((k for k in range(101) if sure[k]), default=0)
    rising = [score for score, hit in zip(scores, hits, strict=True) if hit][::-1]
    means = {}
    for name in ERRORS:
        values = [sum(e[name] for e in errors[:k]) / k for k in range(len(errors), 0, -1)]
        curve = [interpolate(sure[k], rising, values, None) for k in range(11, last + 1)]
        means[name] = sum(curve) / len(curve) if curve else 1.0
    return sum(above) / 90 / 0.9, means


def crowd(draw, digits):
    """A scene with boxes of two classes, and detections that are moved, doubled, missing and made up."""
    truth, found = [], []

    def place():
        return draw.uniform(-20, 20), draw.uniform(-20, 20)

    for _ in range(draw.randrange(9)):
        size = [draw.uniform(0.5, 5.0) for _ in range(3)]
        truth.append(box(*place(), size, draw.uniform(-4, 4), draw.randrange(2)))
        for _ in range(draw.choice([0, 1, 1, 1, 2])):
            x, y, _, *sides, yaw, label = truth[-1][0]
            sides = [side * draw.uniform(0.7, 1.4) for side in sides]
            yaw += draw.choice([0.0, 0.2, math.pi])
            score = round(draw.random(), digits)
            found.append(box(x + draw.gauss(0, 1.2), y + draw.gauss(0, 1.2), sides, yaw, label, score))
    for _ in range(draw.randrange(3)):
        found.append(box(*place(), label=draw.randrange(2), score=round(draw.random(), digits)))
    return truth, found


@pytest.mark.parametrize("seed", range(6))
def test_like_a_slow_restatement(seed):
    """Loops without numpy; of every other seed many scores are equal, some of them 0."""
    draw = random.Random(seed)
    scenes = [crowd(draw, 1 if seed % 2 else 6) for _ in range((2, 5, 12)[seed % 3])]
    fast = torch.cat([rows(*pair) for pair in scenes])
    for label, period in ((0, 2 * math.pi), (1, math.pi)):
        assert any(b[7] == label for truth, _ in scenes for b, _ in truth)
        # Sums in another order.
        for distance in DISTANCES:
            precision, errors = slow(scenes, label, distance, period)
            found = precision_recall(fast, label, distance).average_precision
            assert found == pytest.approx(precision, abs=1e-12)
            if distance == 2.0:
                assert mean_errors(fast, label) == pytest.approx(errors, abs=1e-12)
    assert precision > 0


CAR1, CAR2 = (1, 1, 1.0), (3, 3, 0.7)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ([[CAR1]], [[CAR1]], 1.0),
        ([[CAR1]], [[]], 0.0),
        ([[CAR1, CAR2]], [[CAR1]], 0.4 / 0.9),
        ([[CAR1]], [[CAR1, CAR2]], 1.0),
        ([[CAR2]], [[CAR1, CAR2]], ((0.8 * 0.4) / 2) / (0.9 * 0.9)),
        ([[CAR1], [CAR2]], [[CAR1], [CAR2]], 1.0),
        ([[CAR1], []], [[CAR1], []], 1.0),
        ([[CAR1], [CAR2]], [[CAR1], []], 0.4 / 0.9),
    ],
)
def test_average_precision_of_the_devkits_examples(truth, found, expected):
    """test_algo.py of nuscenes-devkit, TestAPSimple, which allows 1 % for the hundred recalls."""
    scenes = [
        rows([box(x, y) for x, y, _ in there], [box(x, y, score=s) for x, y, s in said])
        for there, said in zip(truth, found, strict=True)
    ]
    assert precision_recall(torch.cat(scenes), 0, 2.0).average_precision == pytest.approx(expected, abs=0.01)


G1, G2, G3 = (1, 1), (10, 10), (20, 20)
P1, P2, FAR, P4, P5 = (1, 1, 1.0), (11, 10, 0.9), (100, 10, 0.8), (20, 20, 0.7), (21, 20, 0.7)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ([[G1]], [[(3, 3, 1.0)]], 1.0),  # too far: no hit
        ([[G1]], [[(1, 1, 0.3)]], 0.0),
        ([[G2]], [[P2]], 1.0),
        ([[G1, G2]], [[P1, P2]], ((0 + 0) / 2 + (0 + 0.5) / 2) / (2 * 0.9)),
        ([[G1, G2]], [[P1, P2, FAR]], ((0 + 0) / 2 + (0 + 0.5) / 2) / (2 * 0.9)),
        ([[G1, G2, G3]], [[P1, P2, P4]], ((0 + 0) / 2 + (0 + 0.5) / 2 + (0.5 + 0.33) / 2) / (3 * 0.9)),
        ([[G2, G3]], [[P2, P5]], 1.0),
        ([[G1], [G2], []], [[P1], [P2, FAR], []], ((0 + 0) / 2 + (0 + 0.5) / 2) / (2 * 0.9)),
        ([[G2, G3], [G3]], [[P2], [P5]], 1.0),
    ],
)
def test_errors_of_the_devkits_examples(truth, found, expected):
    """test_algo.py of nuscenes-devkit, TestTPSimple, which allows 1 % for the hundred recalls."""
    scenes = [
        rows([box(x, y) for x, y in there], [box(x, y, score=s) for x, y, s in said])
        for there, said in zip(truth, found, strict=True)
    ]
    assert mean_errors(torch.cat(scenes), 0)["ate"] == pytest.approx(expected, abs=0.01)


def test_a_sure_mistake_before_the_only_hit_by_hand():
    """Precision rises from 0 to 1/2 along the recall: from a recall of 0.2 on there is more than 0.1."""
    one = rows([box(0)], [box(50, score=0.9), box(0, score=0.8)])
    expected = sum(0.5 * k / 100 - 0.1 for k in range(20, 101)) / 90 / 0.9
    assert precision_recall(one, 0, 2.0).average_precision == pytest.approx(expected) == pytest.approx(0.2)


def test_a_box_is_found_once_by_hand():
    """The second of two detections of a box is wrong: precision is 1 below a recall of 1, and 1/2 there."""
    one = rows([box(0)], [box(0.1, score=0.9), box(0, score=0.8)])
    curve = precision_recall(one, 0, 2.0)
    assert curve.average_precision == pytest.approx((89 * 0.9 + 0.4) / 90 / 0.9)
    assert mean_errors(one, 0)["ate"] == pytest.approx(
        0.1
    )  # the surer one took the box, though the other is nearer


def test_all_names_of_a_table_by_hand():
    """A car 0.7 m beside its place, turned by half; a barrier likewise; a cone; a class that is not there."""
    there = [box(5 * k, label=k) for k in range(3)]
    said = [
        box(0.7, size=(2.0, 2.0, 1.5), yaw=math.pi, score=0.9),
        box(5.0, yaw=math.pi, label=1, score=0.5),
        box(10.0, yaw=1.0, label=2, score=0.4),
        box(20.0, label=3, score=0.99),
    ]
    found = detection_scores(rows(there, said), NAMES)
    assert found["map"] == pytest.approx((0.75 + 1 + 1) / 3)
    assert [found[f"ap@{d:g}"] for d in DISTANCES] == pytest.approx([2 / 3, 1, 1, 1])
    assert [found[f"{name}/car"] for name in ("ap", "ate", "ase")] == pytest.approx([0.75, 0.7, 0.5])
    assert [found[f"aoe/{name}"] for name in NAMES[:2]] == pytest.approx([math.pi, 0.0])
    assert found["aoe"] == pytest.approx(math.pi / 2)  # of two classes: a cone has no heading
    assert "aoe/traffic_cone" not in found and not any(name.endswith("bus") for name in found)
    assert [found["ate"], found["ase"]] == pytest.approx([0.7 / 3, 0.5 / 3])


def test_a_class_that_nobody_found_has_no_precision_and_errors_of_1():
    found = detection_scores(rows([box(0), box(5, label=1)], [box(0, score=0.5)]), NAMES)
    said = [found[name] for name in ("map", "ap/barrier", "ate/barrier", "ate")]
    assert said == pytest.approx([0.5, 0.0, 1.0, 0.5])


def test_where_there_is_no_box_nothing_can_be_found():
    assert detection_scores(rows([], [box(0, score=0.5)]), NAMES) == {"map": 0.0}
    assert detection_scores(rows(), NAMES) == {"map": 0.0}


def test_precision_alone_is_that_of_all_scores():
    """Of four classes two are there, then none."""
    told = torch.cat([rows(*crowd(random.Random(seed), 6)) for seed in range(4)])
    assert mean_average_precision(told, len(NAMES)) == pytest.approx(detection_scores(told, NAMES)["map"])
    assert 0 < mean_average_precision(told, len(NAMES)) < 1
    assert mean_average_precision(rows([], [box(0, score=0.5)]), len(NAMES)) == 0.0
