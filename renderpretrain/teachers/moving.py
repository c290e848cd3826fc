"""A teacher that is a copy of the student, whose weights follow the student's."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class EMATeacher(nn.Module):
    """A copy of modules whose weights are a moving average of theirs.

    The copy is in evaluation mode whatever the mode of what holds it, and has no gradients. Buffers, such as
    the running statistics of batch normalisation, are those of the student: they are averages already. All of
    it is in the ``state_dict``, so that a resumed run goes on exactly. With ``DistributedDataParallel`` every
    process moves its own copy, by the same weights; weights that are split (FSDP) cannot be followed.

    Args:
        student: What is copied, and followed; it is not part of this module.
        momentum: Share of its own weights that the copy keeps in the first update.
        final: The same in the last one; it rises by half a cosine.
        updates: How many updates that takes; afterwards it stays at ``final``.

    Attributes:
        copy: The copy.
        moved: Updates done.

    Raises:
        ValueError: If a share is none, or there are to be no updates.
    """

    moved: Tensor

    def __init__(
        self, student: nn.Module, *, momentum: int | float = 0.996, final: int | float = 1.0, updates: int = 1
    ) -> None:
        super().__init__()
        if not 0 <= momentum <= final <= 1 or updates < 1:
            raise ValueError(
                "momentum, final, updates: expected shares in [0, 1], the first not above the second, and at "
                f"least one update, got {momentum}, {final} and {updates}"
            )
        self.momentum, self.final, self.updates = momentum, final, updates
        self.copy = copy.deepcopy(student).requires_grad_(False).eval()
        self.register_buffer("moved", torch.zeros((), dtype=torch.long))
        self._student = (student,)  # held so, it is not registered a second time

    def train(self, mode: bool = True) -> "EMATeacher":
        """Change the mode of this module; the copy stays in evaluation mode."""
        super().train(mode)
        self.copy.eval()
        return self

    def kept(self) -> Float[Tensor, ""]:
        """Share of its own weights that the copy keeps in the next update."""
        share = (self.moved.float() / self.updates).clamp(max=1.0)
        return self.final - (self.final - self.momentum) * (1 + (math.pi * share).cos()) / 2

    @torch.no_grad()
    def follow(self) -> None:
        """Move the copy's weights towards the student's, which have been updated.

        Raises:
            ValueError: If the student's weights are split over processes.
        """
        (student,) = self._student
        step = 1 - self.kept()
        for mine, theirs in zip(self.copy.parameters(), student.parameters(), strict=True):
            if mine.shape != theirs.shape or hasattr(theirs, "to_local"):
                raise ValueError(
                    "teacher: expected whole weights to follow, got some that are split over processes; set "
                    "optimization.parallel=ddp"
                )
            mine.lerp_(theirs.detach(), step.to(mine.dtype))
        for kept, now in zip(self.copy.buffers(), student.buffers(), strict=True):
            kept.copy_(now)
        self.moved += 1
