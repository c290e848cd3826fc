"""Loss terms and gradients that stay 0, which tell that a run learns nothing."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from renderpretrain.recipes.recipe import encoders_of
from renderpretrain.training.sharded import local

PATIENCE = 20
"""Steps after which a term that was always 0, or a gradient that has become 0, is reported."""

GRADIENTS_EVERY = 10
"""Steps between measurements of the gradient of every part."""

GRADIENT = "gradient of "
"""What the names of parts begin with."""


class ZeroWatch:
    """Finds loss terms and gradients that stay 0, and reports each of them once.

    A term that was not 0 before may end at 0, as one does that asks for free space. A part of the network
    whose gradient becomes 0 no longer learns, which is reported as well.
    """

    def __init__(self) -> None:
        self.since: dict[str, int] = {}
        self.ever_nonzero: set[str] = set()
        self.reported: set[str] = set()

    def update(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Take in what a step measured.

        Args:
            step: Which one.
            values: Loss terms by ``loss/NAME``, and norms of gradients by ``gradient of PART``.

        Returns:
            A sentence for each value that has now been 0 for :data:`PATIENCE` steps.
        """
        sentences = []
        for name, value in values.items():
            if value:
                self.ever_nonzero.add(name)
                self.since.pop(name, None)
                continue
            steps = step - self.since.setdefault(name, step)
            may_end = name in self.ever_nonzero and not name.startswith(GRADIENT)
            if steps >= PATIENCE and name not in self.reported and not may_end:
                self.reported.add(name)
                sentences.append(f"{name} has been 0 for {steps} steps")
        return sentences


def trained_parts(recipe: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by encoder, and by whatever else the recipe has at its top; each of them once."""
    encoders = encoders_of(recipe)
    taken: set[int] = set()
    parts = {}
    for name, part in {**encoders, **dict(recipe.named_children())}.items():
        own = [p for p in part.parameters() if p.requires_grad and id(p) not in taken]
        taken |= {id(p) for p in own}
        if own:
            parts[GRADIENT + name] = own
    return parts


def gradient_sizes(parts: Mapping[str, list[nn.Parameter]]) -> dict[str, Tensor]:
    """The largest entry of every part's gradient, ``()`` each; a part without one has 0. Does not wait.

    Of parameters that are split over processes this one's share is looked at.
    """
    sizes = {}
    for name, parameters in parts.items():
        grads = [local(p.grad.detach()) for p in parameters if p.grad is not None]
        found = [grad.abs().max().float() for grad in grads if grad.numel()]
        sizes[name] = torch.stack(found).max() if found else torch.zeros((), device=parameters[0].device)
    return sizes
