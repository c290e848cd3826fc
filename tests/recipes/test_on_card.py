"""Steps of every recipe on a GPU: the loss of the CPU, and how often the host waits for the device."""

import sys
import warnings
from collections import Counter

import pytest
import torch
from variants import VARIANTS, WAITS, batch_of, build, scenes_for, small

from renderpretrain.training import Process, Stepper, build_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def stepper_of(variant, device, precision):
    recipe = build(variant).to(device).train()
    asked = small(variant).optimization.model_copy(update={"precision": precision, "steps": 100})
    process = Process(0, 1, torch.device(device))
    return Stepper(recipe, build_optimizer(recipe, asked), asked, process, 0)


def losses(variant, device, precision, batch):
    """Of two steps."""
    stepper = stepper_of(variant, device, precision)
    return [stepper.read(stepper.take(step, iter([batch]))).row["loss"] for step in (1, 2)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_that_of_the_cpu(variant):
    batch = batch_of(scenes_for(variant))
    expected = losses(variant, "cpu", "fp32", batch)
    # Rounding in another order; after an update the sharp fields magnify it.
    assert losses(variant, "cuda", "fp32", batch) == pytest.approx(expected, rel=1e-2)
    assert losses(variant, "cuda", "fp32", batch)[0] == pytest.approx(expected[0], rel=1e-4)
    assert losses(variant, "cuda", "bf16", batch)[0] == pytest.approx(expected[0], rel=2e-2)


def waits(stepper, batch):
    """Where the host waits within the third step."""
    for step in (1, 2):
        stepper.read(stepper.take(step, iter([batch])))
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            stepper.take(3, iter([batch]))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = (w for w in seen if "called a synchronizing" in str(w.message))
    return Counter(f"{w.filename.rpartition('renderpretrain/')[2]}:{w.lineno}" for w in found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_host_waits_for_numbers_of_rows_alone(variant):
    found = waits(stepper_of(variant, "cuda", "bf16"), batch_of(scenes_for(variant)).pin_memory())
    if "pretended_cuda" in sys.modules:
        # Constants are made once for a card's tensors, and for those that only pretend to be there each time.
        found = {place: count for place, count in found.items() if "ops/constant.py" not in place}
        assert sum(found.values()) == WAITS[variant], found
    else:  # torch reports some waits twice
        assert sum(found.values()) <= 2 * WAITS[variant], found
