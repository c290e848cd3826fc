"""Started by ``torchrun`` in a test: a run whose first process is killed in the midst of a step, once."""

import os
import signal
import sys
from pathlib import Path

import torch
from data_parallel import RATE, still_recipe
from stand_in import Points, optimization

from renderpretrain.training import RunOptions, fit


def kill_once(marker, step, accumulate):
    """A hook that kills its process in the midst of a step unless a file says that one was before."""
    batches = []

    def kill(recipe, given):
        batches.append(given)
        if recipe.training and len(batches) == accumulate * step - 1 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def run(out, batch_size, hook=None):
    """As the command says that serves start and restart."""
    recipe = still_recipe()
    if hook is not None:
        recipe.register_forward_pre_hook(hook)
    settings = optimization(batch_size=batch_size, accumulate=2, lr=RATE)
    return fit(recipe, Points(), settings, out=out, options=RunOptions(holdout=2, device="cpu", resume=True))


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    run(out, 2, kill_once(out.with_name("killed"), 6, 2) if os.environ["RANK"] == "0" else None)
