"""A run that learns nothing says so: terms and gradients that stay 0."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from renderpretrain.recipes.recipe import encoders_of

PATIENCE = 20
"""Steps after which a term that was always 0, or a gradient that has become 0, is told."""

GRADIENTS_EVERY = 10
"""Steps between looks at the gradient of every part; it is told after ``PATIENCE`` steps, too."""

GRADIENT = "gradient of "
"""What the names of parts begin with."""


class Silence:
    """Remembers what has been 0 ever since it was first seen, and tells it once.

    A term may end at 0, as one does that asks for free space; a part whose gradient does has died, which is
    told as well.
    """

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.heard: set[str] = set()
        self.told: set[str] = set()
        self._news: list[str] = []

    def listen(self, step: int, values: Mapping[str, float]) -> None:
        """Take in what a step measured.

        Args:
            step: Which one.
            values: Loss terms by ``loss/NAME``, and norms of gradients by ``gradient of PART``.
        """
        for name, value in values.items():
            if value:
                self.heard.add(name)
                self.first.pop(name, None)
                continue
            since = step - self.first.setdefault(name, step)
            may_end = name in self.heard and not name.startswith(GRADIENT)
            if since >= PATIENCE and name not in self.told and not may_end:
                self.told.add(name)
                self._news.append(f"{name} has been 0 for {since} steps")

    def news(self) -> list[str]:
        """What has become known since this was last asked."""
        told, self._news = self._news, []
        return told


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
    """The largest entry of every part's gradient, ``()`` each; a part without one has 0. Does not wait."""
    sizes = {}
    for name, parameters in parts.items():
        found = [p.grad.detach().abs().max().float() for p in parameters if p.grad is not None]
        sizes[name] = torch.stack(found).max() if found else torch.zeros((), device=parameters[0].device)
    return sizes
