"""Started by ``torchrun`` in a test: one short run with the batch size and folder of its arguments."""

import sys

import torch
from stand_in import Points, StandIn, optimization

from renderpretrain.training import RunOptions, fit


def still_recipe():
    """Frozen statistics and no dropout: the two that differ between processes by design."""
    recipe = StandIn()
    recipe.drop = torch.nn.Identity()
    recipe.norm.train = lambda mode=True: recipe.norm
    recipe.norm.training = False
    return recipe


def short_run(out, batch_size):
    settings = optimization(batch_size=batch_size, accumulate=2)
    return fit(still_recipe(), Points(), settings, out=out, options=RunOptions(holdout=2, device="cpu"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    short_run(sys.argv[1], int(sys.argv[2]))
