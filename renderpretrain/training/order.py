"""Which scenes a step sees, and with which random numbers: a pure function of (seed, step, position).

Nothing here depends on how many processes share a step or prepare it, so a resumed or data-parallel run sees
exactly what the uninterrupted single process saw. What ran before counts only where a step's global batch
changes on the way: the order goes on at the next sample (:class:`Progress`), none left out or seen twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from renderpretrain.data import Batch, Scene, SceneDataset, collate
from renderpretrain.ops import fold_in

EPOCHS, SAMPLES, GLOBAL_GENERATOR, HELD_OUT, AUGMENTED = 1, 2, 3, 4, 5
"""Purposes of a seed, so that no two of them share numbers."""


def scene_index(position: int, num_scenes: int, seed: int) -> int:
    """The scene at a position of the endless sequence of shuffled epochs.

    Args:
        position: Counts samples since the start of training, over all processes.
        num_scenes: Length of one epoch.
        seed: Each epoch's permutation follows from it and the epoch's number.
    """
    epoch, place = divmod(position, num_scenes)
    return int(_permutation(epoch, num_scenes, seed)[place])


def sample_seeds(seed: int, step: int, first: int, count: int) -> Int[Tensor, " B"]:
    """Seeds of the samples ``first ... first + count - 1`` of a step's global batch, non-negative.

    For a loop of your own as for :func:`renderpretrain.training.fit`: process ``rank`` of several, with
    ``count`` samples each, asks for ``first = rank * count`` and shares no number with the others.
    """
    of_step = fold_in(fold_in(torch.tensor([seed]), SAMPLES), step)
    return torch.cat([fold_in(of_step, position) for position in range(first, first + count)]) & (2**62 - 1)


def seed_generators(seed: int, step: int, rank: int) -> None:
    """Seed torch's global generators for a step, for modules (dropout) that draw from them.

    Done at every step, it makes their state a function of the step, which a checkpoint need not store.
    """
    mixed = fold_in(fold_in(fold_in(torch.tensor([seed]), GLOBAL_GENERATOR), step), rank)
    torch.manual_seed(int(mixed) & (2**62 - 1))


def held_out_batch(dataset: SceneDataset, *indices: int) -> Batch:
    """Scenes as a batch whose random numbers depend on their indices alone, so that evaluations compare."""
    return collate([dataset[index] for index in indices], held_out_seeds(*indices))


def held_out_seeds(*indices: int) -> Int[Tensor, " B"]:
    """The seeds of :func:`held_out_batch`, non-negative."""
    return fold_in(torch.tensor(indices), HELD_OUT) & (2**62 - 1)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: Updates done.
        samples: How many they saw, over all processes; ``None`` if all were of the present number.
        global_batch: Samples of the last of them; ``None`` if that is not known.
    """

    step: int = 0
    samples: int | None = None
    global_batch: int | None = None


@dataclass(frozen=True)
class MicroBatches:
    """The batches one process gets: item ``k`` belongs to step ``k // accumulate + 1``.

    Attributes:
        dataset: Scenes; the same index always gives the same scene.
        num_scenes: The first so many are trained on.
        seed: Of the run.
        batch_size: Samples per process and batch.
        accumulate: Batches per step.
        rank: This process.
        world_size: Number of processes; they share a step's global batch of
            ``accumulate * world_size * batch_size`` samples.
        augment: Changes a scene by its sample's seed, such as
            :class:`~renderpretrain.data.augment.Augmentation`; ``None`` leaves scenes as they are.
        begun: What steps of another global batch did before; the order goes on after their samples.
    """

    dataset: SceneDataset
    num_scenes: int
    seed: int
    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1
    augment: Callable[[Scene, int], Scene] | None = None
    begun: Progress = Progress()

    @property
    def global_batch(self) -> int:
        """Samples of a step, over all processes."""
        return self.accumulate * self.world_size * self.batch_size

    def progress(self, step: int) -> Progress:
        """How far the run has come after a step, no earlier than where it began."""
        before = self.begun.step * self.global_batch if self.begun.samples is None else self.begun.samples
        return Progress(step, before + (step - self.begun.step) * self.global_batch, self.global_batch)

    def __getitem__(self, index: int) -> Batch:
        """Batch ``index`` of this process."""
        step, part = divmod(index, self.accumulate)
        first = (part * self.world_size + self.rank) * self.batch_size
        start = (self.progress(step).samples or 0) + first
        positions = range(start, start + self.batch_size)
        scenes = [self.dataset[scene_index(p, self.num_scenes, self.seed)] for p in positions]
        seeds = sample_seeds(self.seed, step + 1, first, self.batch_size)
        if self.augment is not None:
            draws = (fold_in(seeds, AUGMENTED) & (2**62 - 1)).tolist()
            scenes = [self.augment(scene, draw) for scene, draw in zip(scenes, draws, strict=True)]
        return collate(scenes, seeds)


@lru_cache(maxsize=2)
def _permutation(epoch: int, num_scenes: int, seed: int) -> Int[Tensor, " P"]:
    """The order of one epoch. Two are kept because a batch may straddle a border."""
    mixed = fold_in(fold_in(torch.tensor([seed]), EPOCHS), epoch)
    return torch.randperm(num_scenes, generator=torch.Generator().manual_seed(int(mixed) & (2**62 - 1)))
