import math
import random

import pytest
import torch

from renderpretrain.probes import semseg
from renderpretrain.probes.fair import paired_gain
from renderpretrain.probes.fair.bootstrap import student_quantile


def mean(sums):
    return sum(sums) / len(sums)


def crossed(gain, seeds, scenes, *, of_seeds=0.0, of_scenes=0.0, of_both=0.0, seed=0):
    """Two arms whose scores are means over scenes of numbers that seed, scene and both together move."""
    draw = torch.Generator().manual_seed(seed)
    before = torch.full((seeds, scenes), 2.0)
    after = before + gain + of_both * torch.randn(seeds, scenes, generator=draw)
    after = after + of_seeds * torch.randn(seeds, 1, generator=draw)
    after = after + of_scenes * torch.randn(1, scenes, generator=draw)
    return before, after


def gain_of(before, after, **more):
    return paired_gain(before.tolist(), after.tolist(), mean, **more)


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # of any table of Student's t, two-sided, 95 %
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (23, 2.0687), (1000, 1.9623)],
)
def test_quantiles_of_student(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, rel=1e-4)  # four decimals of a table


def test_the_deviation_of_a_mean_is_that_of_the_sample_over_the_root_of_its_number():
    before, after = crossed(0.5, 6, 40, of_seeds=0.3, of_scenes=0.2)
    found = gain_of(before, after, draws=4000)
    differences = (after - before).double()
    of_seeds = differences.mean(1).std() / math.sqrt(6)
    of_scenes = differences.mean(0).std() / math.sqrt(40)
    assert found.gain.mean == pytest.approx(float(differences.mean()))
    # 4000 draws know a deviation to 1.1 %; three times that
    assert found.deviation_of_seeds == pytest.approx(float(of_seeds), rel=0.035)
    assert found.deviation_of_scenes == pytest.approx(float(of_scenes), rel=0.035)
    a, b = found.deviation_of_seeds**2, found.deviation_of_scenes**2
    reach = student_quantile((a + b) ** 2 / (a**2 / 5 + b**2 / 39)) * math.sqrt(a + b)
    assert (found.gain.low, found.gain.high) == pytest.approx(
        (found.gain.mean - reach, found.gain.mean + reach)
    )
    # The first arm is constant, so the relative gain is the gain over it.
    assert [found.relative.mean, found.relative.low] == pytest.approx(
        [found.gain.mean / 2, found.gain.low / 2], rel=1e-6
    )
    assert (found.before, found.after) == pytest.approx((2.0, 2.0 + found.gain.mean))


def test_scores_that_do_not_add_up_are_drawn_as_a_slow_loop_draws_them():
    """Intersection over union of confusion matrices, whose mean over scenes is not that of all scenes."""
    draw = torch.Generator().manual_seed(0)
    task = semseg(("free", "dark", "bright"))
    before = torch.randint(1, 30, (4, 8, 3, 3), generator=draw)
    after = before + 12 * torch.rand(4, 8, 1, 1, generator=draw).mul(torch.eye(3)).long()

    def score(sums):
        return task.scores(task.join(sums))["miou"]

    found = paired_gain([list(seed) for seed in before], [list(seed) for seed in after], score, draws=300)

    def gain(seeds, scenes):
        scores = []
        for arm in (before, after):
            total = 0.0
            for seed in seeds:
                matrix = [
                    [sum(int(arm[seed, at, i, j]) for at in scenes) for j in range(3)] for i in range(3)
                ]
                for k in (1, 2):
                    union = sum(matrix[k]) + sum(row[k] for row in matrix) - matrix[k][k]
                    total += matrix[k][k] / union / 2 / len(seeds)
            scores.append(total)
        return scores[1] - scores[0]

    assert found.gain.mean == pytest.approx(gain(range(4), range(8)))
    chance = random.Random(0)
    of_scenes = [gain(range(4), chance.choices(range(8), k=8)) for _ in range(300)]
    of_seeds = [gain(chance.choices(range(4), k=4), range(8)) for _ in range(300)]
    for drawn, count, deviation in (
        (of_scenes, 8, found.deviation_of_scenes),
        (of_seeds, 4, found.deviation_of_seeds),
    ):
        slow = torch.tensor(drawn).std() * math.sqrt(count / (count - 1))
        assert deviation == pytest.approx(float(slow), rel=0.15)  # 300 draws: 4 % each, three times that


@pytest.mark.parametrize("spread", [{"of_seeds": 1.0}, {"of_scenes": 1.0}, {"of_seeds": 0.6, "of_both": 1.5}])
def test_intervals_hold_the_truth_as_often_as_they_say(spread):
    """150 experiments with five seeds: 0.95 give or take 0.018, so at least 0.9 hold it; and not much more.

    Percentiles of a bootstrap of five seeds hold it in 0.83.
    """
    found = [gain_of(*crossed(0.7, 5, 8, **spread, seed=seed), draws=150) for seed in range(150)]
    held = sum(one.gain.low <= 0.7 <= one.gain.high for one in found) / len(found)
    assert 0.9 <= held < (1.0 if "of_both" not in spread else 1.01)


def test_of_two_arms_that_are_the_same_nothing_is_known_but_that():
    before, _ = crossed(0.0, 3, 4)
    found = gain_of(before, before)
    assert (found.gain.mean, found.gain.low, found.gain.high) == (0.0, 0.0, 0.0)


def test_less_can_be_better_and_one_of_a_kind_says_nothing_of_others():
    before, after = crossed(-0.5, 5, 6, of_seeds=0.1, of_scenes=0.1)
    found = gain_of(before, after, less_is_better=True)
    assert found.gain.mean > 0 and found.relative.mean == pytest.approx(found.gain.mean / 2)
    one_seed = gain_of(before[:1], after[:1])
    assert one_seed.deviation_of_seeds == 0 and math.isfinite(one_seed.gain.low)
    alone = gain_of(before[:1, :1], after[:1, :1])
    assert (alone.gain.low, alone.gain.high) == (-math.inf, math.inf)


def test_a_relative_gain_is_as_sure_as_logarithms_say():
    """Of small spreads the deviation of a ratio is that of the difference of logarithms."""
    draw = torch.Generator().manual_seed(0)
    before = 2.0 + 0.02 * torch.randn(400, 1, generator=draw)
    after = 3.0 + 0.02 * torch.randn(400, 1, generator=draw) + 0.5 * (before - 2)
    found = gain_of(before, after, draws=2000)
    deviation = (after.log() - before.log()).std() / math.sqrt(400) * (3 / 2)
    reach = (found.relative.high - found.relative.low) / 2
    assert found.relative.mean == pytest.approx(0.5, abs=0.01)
    assert reach == pytest.approx(float(deviation) * student_quantile(399), rel=0.05)  # draws: 1.6 %
    worthless = torch.tensor([[0.0], [1e-4]]).expand(2, 3)
    assert gain_of(worthless, worthless + 0.1).relative.high < 1e5  # 0.1 over 5e-5: 2000, give or take


def test_arms_of_other_seeds_or_scenes_are_refused():
    before, after = crossed(0.1, 3, 4)
    for other in (after[:2], after[:, :3]):
        with pytest.raises(ValueError, match="expected the same seeds and test scenes"):
            gain_of(before, other)
    with pytest.raises(ValueError, match="at least one of each"):
        paired_gain([], [], mean)
