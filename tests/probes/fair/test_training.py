import itertools
from dataclasses import replace

import pytest
import torch
from probe_stand_in import CLASSES, StandIn, scene
from torch import nn
from torch.testing import assert_close

from renderpretrain.probes import semseg
from renderpretrain.probes.fair.training import WARM_UP, Lesson, Schedule, Setting, Tuned, fine_tune

TASK = semseg(CLASSES)
RISING = [0.1 * 1.1**k for k in range(40)]


def model(frozen=False):
    recipe = StandIn().eval()
    features = TASK.read(recipe, scene(0), 100).features
    return Tuned(recipe, TASK.head(features, 0), TASK, frozen)


def train(tuned, judge, setting=Setting(1e-2, 1.0), steps=None, decay=0.0, **schedule):  # noqa: B008  frozen
    lesson = Lesson(lambda step: (scene(step % 3), 100), judge, setting, weight_decay=0.0, seed=0)
    return fine_tune(
        tuned, lesson, Schedule(**{"every": 2, "patience": 6, "decay": decay, **schedule}), steps
    )


def scripted(scores):
    told = itertools.chain(scores, itertools.repeat(0.0))
    return lambda tuned: next(told)


@pytest.mark.parametrize(
    ("scores", "stops"),
    [
        ([0.1, 0.5, 0.5, 0.5, 0.5], [False, False, False, False, True]),  # three without a gain, not two
        ([0.5, 0.504, 0.503, 0.502, 0.504], [False, False, False, True, True]),  # 0.8 % is no gain
        ([0.5, 0.506, 0.5, 0.5, 0.5, 0.5], [False, False, False, False, True, True]),  # 1.2 % is one
        ([0.5, 0.1, 0.1, 0.6, 0.2, 0.2, 0.2], [False] * 6 + [True]),  # late, not too late
        ([-0.5, -0.4, -0.3, -0.2, -0.1], [False] * 5),  # an error that falls
        ([-0.3, -0.3, -0.3, -0.3], [False] * 3 + [True]),
        (RISING, [False] * 40),
        ([0.0] * 8, [False] * 8),  # nothing is found yet
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9], [False] * 12 + [True]),  # 4 of 13
    ],
)
def test_when_a_curve_no_longer_rises(scores, stops):
    schedule = Schedule(every=25, patience=75, least_gain=0.01)
    assert [schedule.no_longer_improves(scores[: k + 1]) for k in range(len(scores))] == stops


@pytest.mark.parametrize(
    ("schedule", "waits"),
    [
        (Schedule(), 16),
        (Schedule(every=100), 4),
        (Schedule(every=150), 3),
        (Schedule(longest=60), 2),  # two thirds of 60 steps are 40
        (Schedule(every=1, longest=1), 1),
        (Schedule(every=50, longest=3000, patience=100), 2),
    ],
    ids=lambda value: None if isinstance(value, int) else f"{value.every} of {value.longest}",
)
def test_patience_is_counted_in_steps(schedule, waits):
    """Whoever evaluates more often does not stop sooner; a short training does."""
    scores = [0.5] + [0.4] * waits
    assert schedule.no_longer_improves(scores) and not schedule.no_longer_improves(scores[:-1])


def test_a_training_lasts_until_it_no_longer_improves_then_its_rate_falls():
    tuned = model()
    course = train(tuned, scripted([0.2, 0.5, 0.4, 0.4, 0.5, 0.3, 0.6]), decay=0.4)
    assert (course.constant_steps, course.steps, course.converged) == (10, 14, True)
    assert [step for step, _ in course.curve] == [2, 4, 6, 8, 10, 12, 14]
    assert (course.kept, course.best) == (14, 0.6)
    given = train(model(), scripted([0.2, 0.5, 0.4, 0.4, 0.5, 0.3, 0.6]), steps=10, decay=0.4)
    assert given == course
    longest = train(model(), scripted(RISING), longest=9)
    assert (longest.constant_steps, longest.converged) == (10, False)


def test_weights_of_the_best_evaluation_are_kept():
    seen = []

    def judge(tuned):
        seen.append({k: v.clone() for k, v in tuned.state_dict().items()})
        return [0.1, 0.7, 0.7, 0.2, 0.3][len(seen) - 1]

    tuned = model()
    course = train(tuned, judge)
    assert course.kept == 4
    assert_close(dict(tuned.state_dict()), seen[1], rtol=0, atol=0)
    assert not tuned.training
    assert not torch.equal(seen[1]["head.layers.1.weight"], seen[3]["head.layers.1.weight"])


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_encoders_learn_at_the_rate_they_are_told(rate):
    """The first step of Adam is its rate, whatever the gradient; in a warm-up it is a part of that."""
    tuned = model()
    before = {k: v.clone() for k, v in tuned.named_parameters()}
    steps = {}

    def judge(tuned):
        steps.update({k: (v - before[k]).abs().max().item() for k, v in tuned.named_parameters()})
        return 1.0

    train(tuned, judge, Setting(1e-2, rate), steps=1, every=1)
    first = 1e-2 / WARM_UP
    assert steps["head.layers.3.weight"] == pytest.approx(first, rel=1e-3)  # eps of Adam beside gradients
    assert steps["recipe.encoder.0.weight"] == pytest.approx(rate * first, rel=1e-3)
    assert steps["recipe.decoder.weight"] == 0  # not taken home


def test_the_rate_rises_then_stays_then_falls():
    """Read from the steps of a weight whose gradient never changes."""

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, features):
            return self.weight.expand(len(features), 3) + 0 * features.sum()

    tuned, path = model(frozen=True), []
    tuned.head = Slope()
    tuned.task = replace(TASK, loss=lambda outputs, answers: outputs.mean())
    train(tuned, lambda t: path.append(-t.head.weight.item()) or 0.0, steps=14, every=1, decay=0.25)
    rates = torch.tensor(path).diff(prepend=torch.zeros(1)) / 1e-2
    expected = [k / 10 for k in range(1, 11)] + [1.0] * 4 + [0.8, 0.6, 0.4, 0.2]
    assert_close(rates, torch.tensor(expected), rtol=0, atol=1e-3)


def test_frozen_encoders_stay_as_they_are_and_in_evaluation_mode():
    tuned = model(frozen=True)
    before = {k: v.clone() for k, v in tuned.recipe.state_dict().items()}
    modes, read = set(), tuned.recipe.point_features

    def watched(batch, positions):
        modes.add((tuned.recipe.encoder[1].training, torch.is_grad_enabled(), tuned.head.training))
        return read(batch, positions)

    tuned.recipe.point_features = watched
    weight = tuned.head.layers[1].weight.clone()
    train(tuned, scripted([0.1, 0.2]), steps=4)
    assert modes == {(False, False, True)}
    assert_close(tuned.recipe.state_dict(), before, rtol=0, atol=0)
    assert not torch.equal(weight, tuned.head.layers[1].weight)
    free = model()
    free.train()
    assert free.recipe.encoder[1].training


def test_what_frozen_encoders_say_of_a_scene_is_asked_once_and_is_the_same():
    tuned, one = model(frozen=True), scene(1)
    said = tuned.look(one, 50)
    assert tuned.look(one, 50) is said and tuned.look(one, 60) is not said
    assert_close(said.features, tuned.read(one, 50).features, rtol=0, atol=0)
    assert model().look(one, 50) is not model().look(one, 50)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: Schedule(every=0), "every: expected at least 1, got 0"),
        (lambda: Schedule(longest=10), "longest: expected at least every=25, got 10"),
        (lambda: Schedule(decay=-1), "decay: expected 0 or more, got -1"),
        (
            lambda: Tuned(nn.Linear(1, 1), nn.Linear(1, 1), TASK),
            "fine-tuning needs encoders, which Linear does",
        ),
    ],
)
def test_faults_of_a_training_name_what_is_wrong(fault, message):
    with pytest.raises(ValueError, match=message):
        fault()
