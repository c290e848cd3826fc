"""Started as a process of its own by a test: a run of many short steps in the folder of its argument."""

import sys
import time

import torch
from stand_in import Points, StandIn, optimization

from renderpretrain.training import RunOptions, fit


class Slow(Points):
    """Takes a moment, so that there is time for what a test does to the run."""

    def __getitem__(self, index):
        time.sleep(0.01)
        return super().__getitem__(index)


if __name__ == "__main__":
    torch.set_num_threads(1)
    settings = optimization(steps=100_000, log_every=1, eval_every=100_000, checkpoint_every=3)
    fit(
        StandIn(),
        Slow(),
        settings,
        out=sys.argv[1],
        options=RunOptions(device="cpu", workers=int(sys.argv[2])),
    )
