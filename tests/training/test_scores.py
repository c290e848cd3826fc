import math

import pytest
import torch
from stand_in import Points, StandIn

from renderpretrain.geometry import Rays
from renderpretrain.samplers import RayTargets
from renderpretrain.training.baselines import RowConstants, weighted_medians
from renderpretrain.training.distributed import Process
from renderpretrain.training.evaluate import evaluate
from renderpretrain.training.predictors import evaluate_predictors
from renderpretrain.training.scores import (
    class_counts,
    mean_iou,
    range_sums,
    score_sums,
    scores,
    scores_over_range,
)


def targets(depth, rows, *, camera=0, rgb=None):
    """Rays of one camera in the given image rows."""
    count = len(depth)
    directions = torch.tensor([0.0, 1.0, 0.0]).expand(1, count, 3)
    pixels = torch.stack([torch.full((count,), 3.5), torch.tensor(rows)], -1)[None]
    colours = (
        torch.zeros(1, count, 3) if rgb is None else torch.tensor(rgb)[None, :, None].expand(1, count, 3)
    )
    return RayTargets(
        rays=Rays(torch.zeros_like(directions), directions),
        depth=torch.tensor([depth]),
        hit=torch.tensor([[d > 0 for d in depth]]),
        rgb=colours,
        rgb_valid=torch.full((1, count), rgb is not None),
        camera=torch.full((1, count), camera),
        pixels=pixels,
    )


def test_scores_by_hand():
    seen = targets([10.0, 20.0, 0.0], [0.5, 1.5, 2.5], rgb=[0.5, 0.5, 1.0])
    predicted = torch.tensor([[11.0, 16.0, 7.0]])
    found = scores(score_sums(predicted, torch.tensor([0.5, 0.5, 0.7])[None, :, None].expand(1, 3, 3), seen))
    assert found["depth_abs_rel"] == pytest.approx((0.1 + 0.2) / 2, abs=1e-6)  # float32 inputs
    assert found["depth_rmse"] == pytest.approx(math.sqrt((1 + 16) / 2), abs=1e-6)
    assert found["depth_delta"] == 0.5  # 1.1 is nearly right; 20 / 16 is 1.25, which is not less
    assert found["psnr"] == pytest.approx(-10 * math.log10(0.09 / 3), abs=1e-5)


def test_the_error_over_range_by_hand():
    seen = targets([0.5, 8.0, 15.0, 100.0, 0.0], [0.5] * 5)
    found = scores_over_range(range_sums(torch.tensor([[1.0, 10.0, 18.0, 90.0, 7.0]]), seen))
    assert found == {
        "0-1/abs_rel": 1.0,
        "0-1/rays": 1,
        "8-16/abs_rel": pytest.approx((2 / 8 + 3 / 15) / 2),
        "8-16/rays": 2,
        "64-/abs_rel": pytest.approx(0.1),
        "64-/rays": 1,
    }


def test_mean_iou_by_hand():
    names = ("free", "wall", "chair", "lamp")
    said = torch.tensor([1, 1, 2, 2, 2, 3, 1])
    true = torch.tensor([1, 2, 2, 2, 1, -1, 9])  # the last two have no class
    counts = class_counts(said, true, names)
    # wall: 1 right, 2 said, 2 true; chair: 2 right, 3 said, 3 true; the lamp does not occur.
    assert mean_iou(counts) == pytest.approx((1 / 3 + 2 / 4) / 2)
    # Another data set calls the wall by another number.
    more = class_counts(torch.tensor([0, 0]), torch.tensor([0, 0]), ("wall",))
    assert mean_iou(counts + more) == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert mean_iou(class_counts(said, torch.full((7,), -1), names)) is None


def test_a_score_without_a_ray_is_absent():
    assert scores(score_sums(torch.zeros(1, 2), None, targets([0.0, 0.0], [0.5, 1.5]))) == {}


def test_row_means_by_hand():
    training = [
        targets([10.0, 30.0, 5.0, 0.0], [0.2, 0.9, 1.5, 1.6], rgb=[0.2, 0.4, 1.0, 0.0]),
        targets([20.0], [0.5], rgb=[0.6]),
        targets([7.0], [0.5], camera=1),
    ]
    means = RowConstants.of(training)
    asked = targets([1.0, 1.0, 1.0], [0.1, 1.1, 9.5])
    assert means.mean_depth(asked).tolist() == [[20.0, 5.0, 5.0]]  # row 9 was never seen: the nearest row
    assert means.mean_depth(targets([1.0], [0.1], camera=1)).tolist() == [[7.0]]
    assert means.rgb(asked)[0, :, 0].tolist() == pytest.approx([0.4, 0.5, 0.5], abs=1e-6)  # float32


def test_weighted_medians_are_the_best_of_all_values():
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 12, (400,), generator=generator) * 7 - 30
    values = 1 + 60 * torch.rand(400, generator=generator).square()
    for weights in (1 / values, torch.ones(400)):
        found = weighted_medians(rows, values, weights)
        for row, value in zip(rows.unique(), found, strict=True):
            own, weight = values[rows == row].double(), weights[rows == row].double()
            # The error is convex with its corners at the values, so one of these is the best of all numbers.
            errors = (weight * (own[:, None] - own).abs()).sum(1)
            error = (weight * (value.double() - own).abs()).sum()
            assert error == pytest.approx(errors.min().item(), rel=1e-6)  # weights are float32
    assert weighted_medians(rows[:0], values[:0], values[:0]).shape == (0,)


def test_the_best_of_a_row_lies_below_its_median_and_its_mean():
    training = [targets([2.0, 4.0, 5.0, 6.0, 30.0, 9.0], [0.5, 0.5, 0.5, 0.5, 0.5, 1.5])]
    rows, asked = RowConstants.of(training), targets([1.0, 1.0], [0.5, 1.5])
    assert rows.mean_depth(asked).tolist() == [[pytest.approx(9.4), 9.0]]
    assert rows.median_depth(asked).tolist() == [[5.0, 9.0]]
    assert rows.best_depth(asked).tolist() == [[4.0, 9.0]]  # weights 1/2, 1/4, 1/5, 1/6, 1/30: half is 0.575


def test_without_cameras_a_row_is_half_a_degree_of_elevation():
    def beams(degrees, depth):
        angle = torch.tensor([degrees]).deg2rad()
        directions = torch.stack([angle.cos(), torch.zeros_like(angle), angle.sin()], -1)
        seen = targets(depth, [0.0] * len(depth), camera=-1)
        return RayTargets(
            Rays(torch.zeros_like(directions), directions),
            seen.depth, seen.hit, seen.rgb, seen.rgb_valid, seen.camera, seen.pixels,
        )  # fmt: skip

    means = RowConstants.of([beams([-9.9, -9.6, 0.1], [8.0, 10.0, 50.0])])
    assert means.mean_depth(beams([-9.7, 0.3, 4.0], [1.0, 1.0, 1.0])).tolist() == [[9.0, 50.0, 50.0]]


def test_a_baseline_without_training_rays_says_nothing():
    means = RowConstants.of([targets([0.0], [0.5])])
    assert means.mean_depth(targets([3.0], [0.5])).tolist() == [[0.0]]


def test_evaluation_repeats_and_leaves_the_mode():
    recipe, process = StandIn().train(), Process(0, 1, torch.device("cpu"))
    first, second = (evaluate(recipe, Points(), [5, 6], process=process, num_rays=9) for _ in range(2))
    assert first == second
    assert recipe.training
    halves = [evaluate(recipe, Points(), [i], process=process, num_rays=9)["depth_abs_rel"] for i in (5, 6)]
    assert first["depth_abs_rel"] == pytest.approx(sum(halves) / 2, abs=1e-12)  # double precision


def test_the_mean_of_a_thin_shell_is_a_good_baseline():
    process = Process(0, 1, torch.device("cpu"))
    found = evaluate_predictors(StandIn(), Points(), (range(5), range(5, 7)), process=process, num_rays=40)
    # Uniform within 1 m: 0.29 m, plus the error of few samples per bin.
    assert found["baseline"]["depth_rmse"] < 0.45


class Scoring(StandIn):
    """Counts scenes: of whole volumes a half, of the predictor without them a third; nothing of "never"."""

    score_names = ("share", "never")

    def score_sums(self, batch, volume):
        return torch.tensor([[1.0, 3.0 if volume is None else 2.0], [0.0, 0.0]], dtype=torch.float64)


def test_a_recipes_own_scores_are_ratios_of_sums():
    process = Process(0, 1, torch.device("cpu"))
    found = evaluate(Scoring(), Points(), [5, 6], process=process, num_rays=4)
    beside = evaluate_predictors(Scoring(), Points(), (range(5), [5, 6]), process=process, num_rays=4)
    baseline = beside.pop("baseline")
    assert found["share"] == 0.5 and baseline["share"] == pytest.approx(1 / 3)
    assert "never" not in found and "never" not in baseline
    assert not any("share" in scores for scores in beside.values())
