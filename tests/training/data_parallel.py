"""Started by ``torchrun`` in a test: one short run with the batch size and folder of its arguments."""

import os
import sys
from pathlib import Path

import torch
from stand_in import Points, StandIn, optimization

from renderpretrain.data import SyntheticStreet
from renderpretrain.recipes import RECIPES
from renderpretrain.training import RunOptions, fit

RATE = 1e-4


def still_recipe():
    """Frozen statistics and no dropout: the two that differ between processes by design."""
    recipe = StandIn()
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


def short_run(out, batch_size, name="stand-in"):
    settings = optimization(batch_size=batch_size, accumulate=2, lr=RATE)
    options = RunOptions(holdout=2, device="cpu")
    if name == "stand-in":
        return fit(still_recipe(), Points(), settings, out=out, options=options)
    settings = settings.model_copy(update={"steps": 2})
    street = SyntheticStreet(10, image_size=(64, 96), points_per_beam=100, with_truth=False)
    return fit(unipad(), street, settings, out=out, options=options)


def threads_of_gloo():
    """Native threads of a process group that still run: they can abort an interpreter that exits."""
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return sorted(name for task in tasks if "gloo" in (name := (task / "comm").read_text().strip()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    short_run(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    assert not threads_of_gloo()
