"""Parts of a network that keep their weights."""

from collections.abc import Iterable

from torch import nn


def freeze(modules: Iterable[nn.Module]) -> tuple[nn.Module, ...]:
    """Stop the modules' gradients and put them in evaluation mode; the caller keeps them there.

    Returns:
        The modules, in a tuple: held so, they are not registered a second time under another key.
    """
    frozen = tuple(modules)
    for module in frozen:
        module.eval().requires_grad_(False)
    return frozen
