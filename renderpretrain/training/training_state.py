"""What a checkpoint of training holds and how training goes on from it, in ``fit`` or in any other loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from renderpretrain.runs.checkpoint import load_checkpoint, newest_checkpoint
from renderpretrain.runs.folder import versions
from renderpretrain.runs.split_checkpoint import any_split, raised_in_all
from renderpretrain.storage.weights import check_weights
from renderpretrain.training.guards import non_finite
from renderpretrain.training.order import Progress
from renderpretrain.training.sharded import part_like


class _Refused(ValueError):
    """A checkpoint that nothing is gone on from, for a reason that its message says whole."""


def training_state(
    recipe: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    progress: Progress,
    seed: int,
    scenes: int,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What :func:`renderpretrain.training.save_checkpoint` writes, so that :func:`resume_training` can go on.

    Args:
        recipe: Its weights and buffers are kept.
        optimizer: Its state is kept by the names of parameters; see :func:`optimizer_state`.
        progress: Updates done, and the samples that they saw.
        seed: Of the run.
        scenes: How many the data set has, held-out ones included: the order of scenes depends on it.
        config: Plain values that describe the run.
    """
    return {
        "step": progress.step,
        "samples": progress.samples,
        "global_batch": progress.global_batch,
        "model": dict(recipe.state_dict()),
        "config": dict(config or {}),
        "seed": seed,
        "scenes": scenes,
        "versions": versions(),
        "optimizer": optimizer_state(recipe, optimizer),
    }


def resume_training(
    folder: Path, recipe: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int, seed: int, scenes: int
) -> Progress:
    """Give recipe and optimiser what the newest checkpoint in a folder holds; writes nothing.

    Args:
        folder: The run's ``checkpoints``.
        recipe: Of the same shapes as the one that was saved.
        optimizer: Of the same kind as the one that was saved; its rates and decay stay what they are.
        steps: How many the run is to have.
        seed: Of the run.
        scenes: How many the data set has.

    Returns:
        Updates done, and the samples that they saw, after which the order goes on.

    Raises:
        ValueError: If there is no checkpoint, it cannot be read, or it does not fit.
    """
    path = newest_checkpoint(folder)
    if path is None:
        raise ValueError(f"resume: expected a checkpoint in {folder}, found none")
    parameters = recipe.state_dict()
    state = load_checkpoint(path, parameters)
    _check_continues(path, state, steps, {"seed": seed, "scenes": scenes})
    try:
        with raised_in_all(any_split(parameters)):
            _check_finite(path, state)
        weights = check_weights(recipe, state["model"], "weights")
        recipe.load_state_dict({name: part_like(value, parameters[name]) for name, value in weights.items()})
        load_optimizer_state(recipe, optimizer, state["optimizer"])
    except _Refused:
        raise
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"resume: {path} does not fit this recipe and configuration ({reason})") from error
    return Progress(int(state["step"]), state.get("samples"), state.get("global_batch"))


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint keeps of an optimiser: neither rates nor decay, which a resumed run may change.

    Returns:
        ``optimizer``, its kind, and ``moments``, a dictionary for every parameter that has been updated.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        "optimizer": _kind(optimizer),
        "moments": {names[id(parameter)]: dict(kept) for parameter, kept in optimizer.state.items()},
    }


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Give a fresh optimiser what :func:`optimizer_state` kept of another one of its kind.

    A parameter that was frozen then begins with none, and what one that is frozen now had is forgotten.

    Raises:
        ValueError: If it is of another kind, or names or shapes differ.
    """
    if state["optimizer"] != _kind(optimizer):
        raise _Refused(
            f"optimization.optimizer: expected {state['optimizer']}, as in the resumed run, "
            f"got {_kind(optimizer)}"
        )
    moments, shapes = state["moments"], {name: p.shape for name, p in model.named_parameters()}
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
        place: {
            what: part_like(value, parameter) if isinstance(value, Tensor) and value.dim() else value
            for what, value in moments[names[id(parameter)]].items()
        }
        for place, parameter in enumerate(parameters)
        if names[id(parameter)] in moments
    }
    optimizer.load_state_dict({"state": placed, "param_groups": optimizer.state_dict()["param_groups"]})


def _kind(optimizer: torch.optim.Optimizer) -> str:
    """The name of an optimiser, as settings call it."""
    return type(optimizer).__name__.lower()


def _check_continues(path: Path, state: Mapping[str, Any], steps: int, now: Mapping[str, int]) -> None:
    """Raise a ``ValueError`` unless a checkpoint is whole, and of a run that what is asked for continues.

    Args:
        path: Of the checkpoint.
        state: What it holds.
        steps: How many the run is to have.
        now: What must be as it was when the run began: else a step would see other scenes.
    """
    for key in ("step", "seed", "model", "optimizer"):
        if key not in state:
            raise ValueError(
                f"resume: {path}: expected a checkpoint of this program with {key!r}, found none"
            )
    if state["step"] > steps:
        raise ValueError(f"steps: expected at least {state['step']}, got {steps}")
    for name, value in now.items():
        if state.get(name, value) != value:
            raise ValueError(f"{name}: expected {state[name]} as in the resumed run, got {value}")


def _check_finite(path: Path, state: Mapping[str, Any]) -> None:
    """Refuse a checkpoint with weights, or an optimiser's memory, that are not finite.

    Args:
        path: The file, for the message.
        state: What it holds.

    Raises:
        ValueError: Naming the first, and what to do.
    """
    moments = state["optimizer"].get("moments", {})
    kept = {f"{what} of {name}": v for name, all_of in moments.items() for what, v in all_of.items()}
    bad = non_finite({name: v for name, v in {**state["model"], **kept}.items() if isinstance(v, Tensor)})
    if bad:
        raise _Refused(
            f"resume: {path}: {bad[0]} is not finite, which no training mends; delete it to go on from "
            "the checkpoint before it, or begin again elsewhere"
        )
