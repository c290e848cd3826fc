"""Started by ``torchrun`` in a test: short runs one after the other, in folders of their names."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from stand_in import Points, Watched, optimization

from renderpretrain.data import SyntheticStreet, open_data
from renderpretrain.recipes import RECIPES
from renderpretrain.training import RunOptions, fit, load_checkpoint, read_rows

RATE = 1e-4
RUNS = {"stand-in": 8, "unipad-lidar": 2}
"""What is trained, and for how many steps."""

STREAM_STEPS, STREAM_POINTS = 11, 300
"""Of a run on shards, which is stopped after a few; all of its scenes have so many points."""


def still_recipe():
    """Frozen statistics and no dropout: the two that differ between processes by design."""
    recipe = Watched()
    recipe.drop = torch.nn.Identity()
    recipe.norm.train = lambda mode=True: recipe.norm
    recipe.norm.training = False
    return recipe


def unipad():
    """UniPAD-L with still statistics, without importance samples, which magnify rounding."""
    config = RECIPES["unipad-lidar"].presets["tiny"]
    sampler = config.sampler.model_copy(update={"num_importance": 0, "num_samples": 24})
    rays = config.rays.model_copy(update={"per_view": 32})
    torch.manual_seed(0)
    recipe = RECIPES["unipad-lidar"].build(
        config.model_copy(
            update={
                "point_cloud_range": (-25.6, -25.6, -4.0, 25.6, 25.6, 4.8),
                "sampler": sampler,
                "rays": rays,
            }
        )
    )
    for module in recipe.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return recipe


def short_run(out, batch_size, name):
    settings = optimization(batch_size=batch_size, accumulate=2, lr=RATE, monitor_every=2)
    options = RunOptions(holdout=2, device="cpu")
    if name == "stand-in":
        return fit(still_recipe(), Points(), settings, out=out, options=options)
    settings = settings.model_copy(update={"steps": 2})
    street = SyntheticStreet(10, image_size=(64, 96), points_per_beam=100, with_truth=False)
    return fit(unipad(), street, settings, out=out, options=options)


def stream_run(out, shards, batch_size, *, stop=False, **options):
    """A run on shards; what each step of this process saw is noted beside the run's folder.

    Args:
        out: The run's folder.
        shards: The folder of the shards.
        batch_size: Of this process.
        stop: Whether the main process is told to end after the second step, as a cluster tells it.
        options: Of the run.
    """
    seen = []

    def note(recipe, batches):
        sums = batches[0].points.columns().double().sum((1, 2))
        rows = zip(batches[0].names, batches[0].seeds.tolist(), sums.tolist(), strict=True)
        seen.append(list(rows))

    def on_step(step, row):
        if stop and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = still_recipe()
    recipe.register_forward_pre_hook(note)
    settings = optimization(batch_size=batch_size, steps=STREAM_STEPS, checkpoint_every=100)
    dataset = open_data(f"shards:{shards}?max_points={STREAM_POINTS}")
    told = RunOptions(device="cpu", on_step=on_step, **options)
    result = fit(recipe, dataset, settings, out=out, options=told)
    Path(f"{out}.{os.environ.get('RANK', 0)}.seen").write_text(json.dumps(seen))
    return result


def check_same(one, two):
    """Two run folders hold the same weights and the same rows."""
    weights = [load_checkpoint(run / "checkpoints" / "final.pt")["model"] for run in (one, two)]
    # Gradients are summed in another order. Adam divides them by their own size: where one is nearly nothing,
    # rounding moves the weight by a good part of the rate. Other scenes would move all weights by half of it.
    ours, theirs = (torch.cat([state[key].double().flatten() for key in state]) for state in weights)
    assert weights[0].keys() == weights[1].keys()
    assert (theirs - ours).pow(2).mean().sqrt() < 0.01 * RATE
    assert (theirs - ours).abs().max() < RATE
    rows = [read_rows(run / "metrics.jsonl") for run in (one, two)]
    for ours, theirs in zip(*rows, strict=True):
        for key in ours.keys() - {"samples_per_second"}:
            if key.startswith("gradient/"):
                continue  # of every process's own samples
            # What features say follows from weights, which are so far apart after a few steps.
            rel = 10 * RATE if key.startswith("health/") else 1e-5
            assert theirs[key] == pytest.approx(ours[key], rel=rel)


def threads_of_gloo():
    """Native threads of a process group that still run: they can abort an interpreter that exits."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return sorted(name for task in tasks if "gloo" in (name := (task / "comm").read_text().strip()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, shards = map(Path, sys.argv[1:])
    for name in RUNS:
        short_run(folder / name, 2, name)
    assert stream_run(folder / "stream", shards, 1, stop=True).stopped_by
    assert not threads_of_gloo()
