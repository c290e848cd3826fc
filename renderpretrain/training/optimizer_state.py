"""What an optimiser remembers, by parameter names; the numbers it works with come from the settings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Memory = dict[str, Any]
"""``optimizer`` is its kind; ``moments`` has a dictionary for every parameter that has been updated."""


class OtherOptimizer(ValueError):
    """The memory is of another kind of optimiser."""


def optimizer_memory(model: nn.Module, optimizer: torch.optim.Optimizer) -> Memory:
    """What a checkpoint keeps of an optimiser: neither rates nor decay, which a resumed run may change."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        "optimizer": _kind(optimizer),
        "moments": {names[id(parameter)]: dict(kept) for parameter, kept in optimizer.state.items()},
    }


def remember(model: nn.Module, optimizer: torch.optim.Optimizer, memory: Mapping[str, Any]) -> None:
    """Give a fresh optimiser what :func:`optimizer_memory` kept of another one of its kind.

    A parameter that was frozen then begins with none, and what one that is frozen now had is forgotten.

    Raises:
        OtherOptimizer: If it is of another kind.
        ValueError: If names or shapes differ.
    """
    if memory["optimizer"] != _kind(optimizer):
        raise OtherOptimizer(
            f"optimization.optimizer: expected {memory['optimizer']}, as in the resumed run, "
            f"got {_kind(optimizer)}"
        )
    moments, shapes = memory["moments"], {name: p.shape for name, p in model.named_parameters()}
    for name, kept in moments.items():
        for what, value in kept.items():
            if name not in shapes or (
                isinstance(value, Tensor) and value.dim() and value.shape != shapes[name]
            ):
                raise ValueError(
                    f"optimiser: {what} of {name}: expected a parameter of its shape, found none"
                )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    placed = {
        place: moments[names[id(parameter)]]
        for place, parameter in enumerate(parameters)
        if names[id(parameter)] in moments
    }
    optimizer.load_state_dict({"state": placed, "param_groups": optimizer.state_dict()["param_groups"]})


def _kind(optimizer: torch.optim.Optimizer) -> str:
    """As the settings call it."""
    return type(optimizer).__name__.lower()
