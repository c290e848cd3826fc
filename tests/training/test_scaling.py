"""What several processes are said to exchange and to wait for, worked out by hand."""

import pytest

from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training import StepCost
from renderpretrain.training.scaling import predict_scaling

# A million weights; two thirds of the arithmetic are in the backward pass.
COST = StepCost(
    forward_flops=10**12, step_flops=3 * 10**12, weights=4 * 10**6, gradients=4 * 10**6,
    optimizer=8 * 10**6, batch=10**6, kept=10**8, peak=2 * 10**8,
)  # fmt: skip
READS = [100_000] * 6 + [400_000]


def predicted(ranks, settings=None, **told):
    optimization = OptimizationConfig(batch_size=3, accumulate=2, **(settings or {}))
    return predict_scaling(COST, optimization, ranks, READS, **told)


def test_a_process_alone_waits_for_nobody():
    one = predicted(1)
    assert (one.exchanged, one.efficiency, one.samples) == (0, 1, 6)
    assert one.seconds == pytest.approx(0.6)  # two batches at 10 TFLOP/s


def test_a_ring_sends_its_gradients_twice_and_hides_them_behind_the_last_backward_pass():
    four = predicted(4, step_seconds=0.6, bandwidth=1e8)
    assert (four.samples, four.reads, four.read_bytes) == (24, 56, 8_000_000)
    assert four.exchanged == 6_000_000 and four.exchange == pytest.approx(0.06)
    assert four.efficiency == 1  # 0.06 s behind 0.2 s
    slow = predicted(4, step_seconds=0.6, bandwidth=1e7)
    assert slow.seconds == pytest.approx(0.6 + 0.6 - 0.2)
    assert slow.efficiency == pytest.approx(0.6)


def test_parts_are_gathered_twice_and_scattered_once_with_every_batch():
    four = predicted(4, {"parallel": "fsdp"}, step_seconds=0.6, bandwidth=1e7)
    assert four.exchanged == 2 * 3 * 3_000_000
    assert four.seconds == pytest.approx(1.8)  # all but 0.6 s of it is waited for
