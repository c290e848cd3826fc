"""A task's own head, trained on encoders that stay as they are.

The probe of tasks that do not ask place by place, for which no linear layer is an answer: the head is small
and both arms train it alike, with the same labels, steps and rates.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from renderpretrain.probes.task import ProbeSamples, Task

LR = 1e-2
"""Highest rate of AdamW, in the middle of a cycle."""

WARM_UP = 0.3
"""Share of the steps in which the rate rises."""

WEIGHT_DECAY = 0.1
"""Of AdamW. Of 1e-4, 0.1 and 1 none was clearly better: 16 streets, fresh encoders, two seeds."""

CLIP_NORM = 10.0
"""L2 norm the gradient is clipped to."""

LARGEST = 6e4
"""Features are kept as float16, which holds numbers up to here."""


def kept(samples: ProbeSamples) -> ProbeSamples:
    """What was read of a scene in half the memory: maps of a hundred scenes are gigabytes."""
    return replace(samples, features=samples.features.detach().clamp(-LARGEST, LARGEST).half())


def restored(samples: ProbeSamples) -> ProbeSamples:
    """What was kept, as a head takes it."""
    return replace(samples, features=samples.features.float())


def train_own_head(task: Task, samples: Sequence[ProbeSamples], steps: int, seed: int) -> nn.Module:
    """A fresh head of the task's, trained on features that do not change, with a scene a step.

    The rate rises and falls once along a cosine.

    Args:
        task: Makes the head and gives the loss.
        samples: What was read of the labelled scenes, see :func:`kept`.
        steps: How many.
        seed: Of the head's weights, of the order of the scenes, and of what the head draws.
    """
    head = task.head(samples[0].features.float(), seed).train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(steps):
            if step % len(samples) == 0:
                order = torch.randperm(len(samples), generator=generator).tolist()
            one = restored(samples[order[step % len(samples)]])
            for group in optimizer.param_groups:
                group["lr"] = LR * _share((step + 1) / (steps + 1))
            optimizer.zero_grad()
            task.loss(head(one.features), one.answers).backward()
            nn.utils.clip_grad_norm_(head.parameters(), CLIP_NORM)
            optimizer.step()
    return head.eval()


def _share(progress: float) -> float:
    """Of the highest rate."""
    if progress < WARM_UP:
        return (1 - math.cos(math.pi * progress / WARM_UP)) / 2
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2
