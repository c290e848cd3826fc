"""Learning rate and momentum as functions of the step, and the optimiser they drive.

Nothing is stateful: a resumed run asks for its step and gets what the uninterrupted one got.
"""

import math
from typing import Any

import torch
from torch import nn

from renderpretrain.losses import GradNorm, UncertaintyWeights
from renderpretrain.recipes.settings import OptimizationConfig
from renderpretrain.training.sharded import local


def lr_factor(optimization: OptimizationConfig, step: int) -> float:
    """Learning rate of update ``step`` (from 0) as a multiple of ``optimization.lr``.

    The schedule times a linear warm-up from ``warmup_ratio`` to 1. Cosine falls to ``min_lr_ratio``; cyclic
    rises on a half cosine from 1 to ``cyclic_peak`` and falls on another to ``cyclic_end`` (one cycle, as in
    SECOND's schedule).
    """
    progress = step / optimization.steps
    if optimization.schedule == "cosine":
        factor = _anneal(1.0, optimization.min_lr_ratio, progress)
    elif optimization.schedule == "cyclic":
        factor = _cycle(
            (1.0, optimization.cyclic_peak, optimization.cyclic_end), optimization.cyclic_up, progress
        )
    else:
        factor = 1.0
    if step < optimization.warmup_steps:
        ratio = optimization.warmup_ratio
        factor *= ratio + (1 - ratio) * step / optimization.warmup_steps
    return factor


def first_beta(optimization: OptimizationConfig, step: int) -> float:
    """AdamW's first beta, or SGD's momentum, at update ``step`` (from 0).

    It is low where the cyclic learning rate is high.
    """
    if optimization.schedule != "cyclic" or optimization.cyclic_momentum is None:
        return optimization.betas[0]
    ends, peak = optimization.cyclic_momentum
    return _cycle((ends, peak, ends), optimization.cyclic_up, step / optimization.steps)


def build_optimizer(model: nn.Module, optimization: OptimizationConfig) -> torch.optim.Optimizer:
    """AdamW or Nesterov's SGD over the trainable parameters, one group per learning-rate multiplier.

    What balances loss terms has a group of its own, without weight decay.

    Args:
        model: Its parameter names are matched with the prefixes of ``lr_multipliers``; the longest match
            counts.
        optimization: ``lr_multipliers`` and the optimiser's numbers.

    Raises:
        ValueError: If a prefix matches no parameter, or nothing is trainable.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    balancers = [part for part in model.modules() if isinstance(part, UncertaintyWeights | GradNorm)]
    undecayed = {id(parameter) for part in balancers for parameter in part.parameters()}
    unmatched = set(optimization.lr_multipliers)
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in optimization.lr_multipliers if name.startswith(prefix)]
        unmatched -= set(prefixes)
        multiplier = optimization.lr_multipliers[max(prefixes, key=len)] if prefixes else 1.0
        if parameter.requires_grad:
            is_split = local(parameter) is not parameter  # one kernel updates such ones, or others
            groups.setdefault((multiplier, id(parameter) in undecayed, is_split), []).append(parameter)
    if unmatched:
        known = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
        raise ValueError(
            f"lr_multipliers: expected prefixes of parameter names, which start with {', '.join(known)}; "
            f"got {', '.join(sorted(unmatched))}"
        )
    if not groups:
        raise ValueError("build_optimizer: expected at least one trainable parameter, got none")
    parts: list[dict[str, Any]] = [
        {"params": parameters, "multiplier": multiplier} | ({"weight_decay": 0.0} if learned else {})
        for (multiplier, learned, _), parameters in groups.items()
    ]
    lr, betas, decay = optimization.lr, optimization.betas, optimization.weight_decay
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=lr, momentum=betas[0], weight_decay=decay, nesterov=True)
    # On a GPU one kernel updates many parameters; elsewhere torch chooses.
    fused = True if all(p.is_cuda for group in groups.values() for p in group) else None
    return torch.optim.AdamW(parts, lr=lr, betas=betas, weight_decay=decay, fused=fused)


def set_step(optimizer: torch.optim.Optimizer, optimization: OptimizationConfig, step: int) -> float:
    """Set rates, and first betas or momentum, for update ``step`` (from 0); returns the unscaled rate."""
    lr = optimization.lr * lr_factor(optimization, step)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["multiplier"]
        if optimization.optimizer == "sgd":
            group["momentum"] = first_beta(optimization, step)
        else:
            group["betas"] = (first_beta(optimization, step), optimization.betas[1])
    return lr


def _anneal(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at 0 to ``end`` at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _cycle(values: tuple[float, float, float], up: float, progress: float) -> float:
    """From the first value to the second within the share ``up`` of the steps, then on to the third one."""
    if progress < up:
        return _anneal(values[0], values[1], progress / up)
    return _anneal(values[1], values[2], (progress - up) / (1 - up))
