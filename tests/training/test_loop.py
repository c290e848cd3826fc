"""Steps taken one by one are those of ``fit``."""

import pytest
import torch
from stand_in import Points, StandIn, optimization
from torch.testing import assert_close

from renderpretrain.training import (
    MicroBatches,
    Process,
    RunOptions,
    Stepper,
    StepResult,
    build_optimizer,
    fit,
    load_checkpoint,
    read_rows,
)

CPU = Process(0, 1, torch.device("cpu"))


def stepper_of(recipe, **settings):
    given = optimization(**settings)
    return Stepper(recipe, build_optimizer(recipe, given), given, CPU, seed=0)


def batches(size=2, accumulate=1):
    return (MicroBatches(Points(), 7, 0, size, accumulate)[k] for k in range(100))


def test_steps_of_ones_own_are_those_of_fit(tmp_path):
    result = fit(StandIn(), Points(), optimization(), out=tmp_path, options=RunOptions(device="cpu"))
    recipe, stream = StandIn().train(), batches()
    stepper = stepper_of(recipe)
    rows = [stepper.read(stepper.take(step, stream)).row for step in range(1, 9)]
    for row, logged in zip(rows, read_rows(result.folder.metrics), strict=True):
        assert {**row, "samples_per_second": 0} == {**logged, "samples_per_second": 0}
    saved = load_checkpoint(result.folder.checkpoints / "step_000008.pt")["model"]
    assert_close(recipe.state_dict(), saved, rtol=0, atol=0)


class Sometimes(StandIn):
    """Has a second term in every other batch."""

    calls = 0

    def forward(self, batch):
        self.calls += 1
        terms = {"bias": self.head.bias.sum()}
        return terms | ({"weight": 3 * self.head.weight.sum()} if self.calls % 2 == 0 else {})


def test_gradients_and_terms_are_means_over_the_batches_of_a_step():
    recipe = Sometimes()
    found = stepper_of(recipe, accumulate=4).accumulate(1, batches(accumulate=4))
    assert_close(found.terms["loss/bias"], recipe.head.bias.detach().sum())
    assert_close(found.terms["loss/weight"], 1.5 * recipe.head.weight.detach().sum())
    assert_close(recipe.head.bias.grad, torch.ones(1))
    assert_close(recipe.head.weight.grad, torch.full((1, 11), 1.5))
    assert len(found.scenes) == 8 and not any(value.requires_grad for value in found.terms.values())


def test_a_wish_for_a_checkpoint_is_read_with_the_step():
    stepper = stepper_of(StandIn())
    results = [stepper.read(stepper.take(1, batches(), checkpoint_due=due)) for due in (False, True)]
    assert all(isinstance(result, StepResult) and not result.stop for result in results)
    assert [result.checkpoint for result in results] == [False, True]


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True)])
def test_convolutions_are_as_exact_as_was_asked(precision, allowed):
    class Looks(StandIn):
        def forward(self, batch):
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(batch)

    seen, before = [], torch.backends.cudnn.allow_tf32
    stepper_of(Looks(), precision=precision).accumulate(1, batches())
    assert seen == [allowed] and torch.backends.cudnn.allow_tf32 == before
