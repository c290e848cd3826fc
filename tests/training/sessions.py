"""Joins and leaves the processes of torchrun many times, with a model that outlives each group of them."""

import sys

import torch

from renderpretrain.training import process_session


def train():
    """One session: two steps of a small model, what processes tell each other, and the end of the group."""
    with process_session("cpu") as process:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        copies = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        for _ in range(2):
            copies(torch.randn(2, 4)).sum().backward()
        process.collect(("told",))
        process.total(torch.ones(1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for _ in range(int(sys.argv[1])):
        train()
