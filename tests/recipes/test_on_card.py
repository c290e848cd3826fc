"""Steps of every recipe on a GPU: the loss of the CPU, and how often the host waits for the device."""

import sys
import warnings
from collections import Counter
from dataclasses import replace

import pytest
import torch
from variants import VARIANTS, WAITS, batch_of, build, scenes_for, small

from renderpretrain.training import Process, Stepper, build_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


PRETENDED = "pretended_cuda" in sys.modules


def smaller(variant):
    """Changes for emulated kernels, a thousand times as slow as a card: a quarter of the rays."""
    sweep = {"per_sweep": 32} if variant.startswith("ponder-outdoor") else {}
    return {"rays": {"per_view": 8} | sweep} if PRETENDED else {}


def stepper_of(variant, device, precision):
    recipe = build(variant, **smaller(variant)).to(device).train()
    asked = small(variant).optimization.model_copy(update={"precision": precision, "steps": 100})
    process = Process(0, 1, torch.device(device))
    return Stepper(recipe, build_optimizer(recipe, asked), asked, process, 0)


def batch_for(variant):
    """Two scenes; kernels that are emulated get an eighth of their points."""
    scenes = scenes_for(variant)
    return batch_of([thinned(scene, 8) for scene in scenes] if PRETENDED else scenes)


def thinned(scene, step):
    """The scene, and those before it, with one of so many points."""
    fewer = {
        name: rows[::step]
        for name in ("points", "colors", "normals", "point_labels")
        if (rows := getattr(scene, name)) is not None
    }
    return replace(scene, previous=tuple(thinned(before, step) for before in scene.previous), **fewer)


def losses(stepper, batch, steps=2):
    """Of its first steps."""
    return [stepper.read(stepper.take(step, iter([batch]))).row["loss"] for step in range(1, steps + 1)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_is_that_of_the_cpu_and_the_host_waits_for_numbers_of_rows_alone(variant):
    batch = batch_for(variant)
    expected = losses(stepper_of(variant, "cpu", "fp32"), batch)
    found = losses(stepper_of(variant, "cuda", "fp32"), batch)
    # Rounding in another order; after an update the sharp fields magnify it.
    assert found == pytest.approx(expected, rel=1e-2) and found[0] == pytest.approx(expected[0], rel=1e-4)
    stepper, batch = stepper_of(variant, "cuda", "bf16"), batch.pin_memory()
    assert losses(stepper, batch)[0] == pytest.approx(expected[0], rel=2e-2)
    check_waits(variant, waits(stepper, batch))


def waits(stepper, batch):
    """Where the host waits within the third step."""
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


def check_waits(variant, found):
    """They are those that ``WAITS`` names."""
    if PRETENDED:
        # Constants are made once for a card's tensors, and for those that only pretend to be there each time.
        found = {place: count for place, count in found.items() if "ops/constant.py" not in place}
        assert sum(found.values()) == WAITS[variant], found
    else:  # torch reports some waits twice
        assert sum(found.values()) <= 2 * WAITS[variant], found
